"""`tff-privacy-agg completion`: a script that completes its commands and options."""

import argparse

from tff_privacy_agg.cli import _flags


def add(commands: _flags.Commands) -> None:
  """Adds the command to the parser."""
  completion = commands.add_parser(
    'completion',
    help='print a completion script for a shell',
    epilog='example:\n  tff-privacy-agg completion bash > ~/.local/share/bash-completion/completions/'
    'tff-privacy-agg',
  )
  completion.set_defaults(run=_completion)
  completion.add_argument('shell', choices=('bash', 'zsh', 'tcsh'))


def _completion(args: argparse.Namespace) -> int:
  import shtab

  from tff_privacy_agg import cli

  print(shtab.complete(cli.parser(), shell=args.shell))
  return 0
