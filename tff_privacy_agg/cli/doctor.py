"""`tff-privacy-agg doctor`: what is installed and whether it works."""

import argparse


def add(commands) -> None:
  """Adds the command to the parser."""
  doctor = commands.add_parser('doctor', help='say what is installed and whether it works')
  doctor.set_defaults(run=_doctor)
  doctor.add_argument('--json', action='store_true', help='for machines')


def _doctor(args: argparse.Namespace) -> int:
  from tff_privacy_agg import doctor

  return doctor.main(as_json=args.json)
