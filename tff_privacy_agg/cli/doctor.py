"""`tff-privacy-agg doctor`: what is installed and whether it works."""

import argparse

from tff_privacy_agg.cli import _flags

_EXAMPLES = """examples:
  tff-privacy-agg doctor
  tff-privacy-agg doctor --json

exit code 1: something does not work; the line below it says the fix.
"""


def add(commands: _flags.Commands) -> None:
  """Adds the command to the parser."""
  doctor = commands.add_parser(
    'doctor',
    help='say what is installed and whether it works',
    epilog=_EXAMPLES,
  )
  doctor.set_defaults(run=_doctor)
  doctor.add_argument('--json', action='store_true', help='for machines')


def _doctor(args: argparse.Namespace) -> int:
  from tff_privacy_agg.cli import _progress
  from tff_privacy_agg.runtime import doctor

  with _progress.waiting('starting TensorFlow Federated to see whether it works') as progress:
    checks = doctor.diagnose(progress)
  return doctor.show(checks, as_json=args.json)
