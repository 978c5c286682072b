"""`tff-privacy-agg report`: a training on one page."""

import argparse
import json
import pathlib

from tff_privacy_agg.cli import _flags

_EXAMPLES = """examples:
  tff-privacy-agg report runs/digits-private
  tff-privacy-agg report runs/digits-private --beside runs/digits-no-privacy --output card.html

The page is one file: no script, no network. It rests on the ledger, which is verified first.
"""


def add(commands: _flags.Commands) -> None:
  """Adds the command to the parser."""
  report = commands.add_parser(
    'report',
    help='one HTML page of a training: epsilon, utility, who sees what, audits',
    epilog=_EXAMPLES,
  )
  report.set_defaults(run=_report)
  report.add_argument('run_dir', type=pathlib.Path, help='of `tff-privacy-agg train`')
  report.add_argument('--beside', type=pathlib.Path, help='another run, such as one without noise')
  report.add_argument(
    '--output', type=pathlib.Path, help='the page (default: report.html in the directory)'
  )
  report.add_argument('--json', action='store_true', help='where it is, for machines')


def _report(args: argparse.Namespace) -> int:
  from tff_privacy_agg.cli import _progress

  with _progress.waiting('checking the ledger and writing the page'):
    from tff_privacy_agg import reports

    path = reports.write_report(args.run_dir, args.output, beside=args.beside)
  print(json.dumps({'report': str(path)}) if args.json else path)
  return 0
