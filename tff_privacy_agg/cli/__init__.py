"""The command `tff-privacy-agg`: one module a command, each with `add(commands)`.

Exit codes: 0 done; 1 a check found something (`verify`, `audit`, `doctor`); 2 refused, with the
reason on stderr; 130 interrupted, resumable.
"""

import argparse
import errno
import os
import select
import sys
from collections.abc import Sequence

from tff_privacy_agg import __version__
from tff_privacy_agg._lazy import tff_named
from tff_privacy_agg.cli import (
  _flags,
  analytics,
  audit,
  bench,
  client,
  completion,
  doctor,
  export,
  keys,
  ledger,
  plan,
  report,
  serve,
  train,
)

# What a file or a pipe can come to without the system's word of which.
_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE)
_ADVICE = {
  **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), 'Free space there, and run the command again.'),
  **dict.fromkeys(
    (errno.EACCES, errno.EPERM, errno.EROFS), 'Use a path where you may read and write.'
  ),
  **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.EISDIR), 'Correct the path.'),
}
_LEFT = 141  # what a shell reports of a program that SIGPIPE has ended


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  args = parser().parse_args(arguments)
  from tff_privacy_agg.errors import PrivacyAggError

  try:
    with _flags.plain_warnings(), tff_named():
      code = args.run(args)
      sys.stdout.flush()
      return code
  except PrivacyAggError as error:
    print(f'tff-privacy-agg: {_flags.named(str(error), args.flags)}', file=sys.stderr)
    return 2
  except OSError as error:
    if isinstance(error, BrokenPipeError) and _reader_left():
      return _LEFT
    if error.filename is None and error.errno not in _OF_THE_MACHINE:
      raise
    told = error.strerror if error.filename is None else f'{error.filename}: {error.strerror}'
    advice = _ADVICE.get(error.errno or 0, 'Look at this disk or pipe, and run the command again.')
    print(f'tff-privacy-agg: {told}. {advice}', file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    resumes = '; the same command resumes' if getattr(args, 'resumes', False) else ''
    print(f'\ninterrupted{resumes}', file=sys.stderr)
    return 130


def _reader_left() -> bool:
  """Whether whoever read the output, such as `head`, has left: nothing is printed from then on."""
  try:
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
  except (AttributeError, OSError):  # a system without `poll`, an output that is no file
    return False
  if not any(event & select.POLLERR for _, event in output.poll(0)):
    return False
  # What is still buffered goes nowhere, so that the interpreter does not complain at its end.
  os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  return True


def parser() -> argparse.ArgumentParser:
  """The parser of all commands."""
  made = argparse.ArgumentParser(
    prog='tff-privacy-agg',
    description='Private federated training with TFF: noise, secure sums and a true epsilon.',
    epilog='exit codes: 0 done, 1 a check found something, 2 refused, 130 interrupted (resumable)',
  )
  made.add_argument('--version', action='version', version=f'%(prog)s {__version__}')
  commands = made.add_subparsers(dest='command', required=True)
  for command in (
    train,
    plan,
    ledger,
    report,
    export,
    keys,
    serve,
    client,
    audit,
    analytics,
    doctor,
    bench,
    completion,
  ):
    command.add(commands)
  for one in commands.choices.values():
    _flags.finish(one)
  return made
