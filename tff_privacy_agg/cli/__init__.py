"""The command `tff-privacy-agg`: one module a command, each with `add(commands)`."""

import argparse
import os
import sys
from collections.abc import Sequence

from tff_privacy_agg.cli import client, doctor, keys, ledger, plan, serve, train

# TensorFlow reads this when it is imported: no start-up notices between progress lines.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  parser = _parser()
  args = parser.parse_args(arguments)
  from tff_privacy_agg.errors import PrivacyAggError

  try:
    return args.run(args)
  except PrivacyAggError as error:
    print(f'tff-privacy-agg: {error}', file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print('\ninterrupted; the same command resumes', file=sys.stderr)
    return 130


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='tff-privacy-agg',
    description='Private federated training with TFF: noise, secure sums and a true epsilon.',
  )
  commands = parser.add_subparsers(dest='command', required=True)
  for command in (train, plan, ledger, keys, serve, client, doctor):
    command.add(commands)
  return parser
