"""`tff-privacy-agg epsilon`, `verify` and `statement`: what a ledger says."""

import argparse
import pathlib


def add(commands) -> None:
  """Adds the commands to the parser."""
  for name, run, about in (
    ('epsilon', _epsilon, 'what a ledger has spent, by view'),
    ('verify', _verify, 'check a ledger line by line, and compute it anew'),
    ('statement', _statement, 'the privacy card of a ledger'),
  ):
    command = commands.add_parser(name, help=about)
    command.set_defaults(run=run)
    command.add_argument('ledger', type=pathlib.Path)
    if name == 'epsilon':
      command.add_argument('--delta', type=float, help='default: that of the ledger')
    if name == 'verify':
      command.add_argument('--hash', help='hash of a line as it was once published')
    if name == 'statement':
      command.add_argument('--format', choices=('text', 'json', 'html'), default='text')


def _epsilon(args: argparse.Namespace) -> int:
  from tff_privacy_agg import accounting

  record = accounting.LedgerRecord.read(args.ledger)
  for view in ('server', 'release'):
    spent = record.spent(view, args.delta)
    print(
      f'{view}: epsilon {spent.epsilon:.6g} at delta {spent.delta:g}, unit one '
      f'{record.facts.unit}, adjacency {record.facts.stack["adjacency"]}, {spent.rounds} rounds, '
      f'{spent.unsettled} of them charged at the worst'
    )
  if not record.complete:
    print(f'NOT COMPLETE: {", ".join(record.unaccounted)}')
  return 0


def _verify(args: argparse.Namespace) -> int:
  from tff_privacy_agg import accounting

  found = accounting.verify(args.ledger, expected_hash=args.hash)
  for problem in found.problems:
    print(f'PROBLEM: {problem}')
  for remark in found.remarks:
    print(f'note: {remark}')
  print(f'{"verified" if found.ok else "NOT verified"}: {found.lines} lines, hash {found.hash}')
  return 0 if found.ok else 1


def _statement(args: argparse.Namespace) -> int:
  from tff_privacy_agg import accounting

  print(accounting.LedgerRecord.read(args.ledger).statement(args.format), end='')
  return 0
