"""`tff-privacy-agg epsilon`, `verify` and `statement`: what a ledger says."""

import argparse
import dataclasses
import json
import math
import pathlib

from tff_privacy_agg._wording import counted
from tff_privacy_agg.cli import _flags

_EXAMPLES = """examples:
  tff-privacy-agg epsilon runs/digits-private/ledger.jsonl --json
  tff-privacy-agg verify runs/digits-private/ledger.jsonl   # exit code 1: a line is not true
  tff-privacy-agg statement runs/digits-private/ledger.jsonl --format html > card.html
"""


def add(commands: _flags.Commands) -> None:
  """Adds the commands to the parser."""
  for name, run, about in (
    ('epsilon', _epsilon, 'what a ledger has spent, by view'),
    ('verify', _verify, 'check a ledger line by line, and compute it anew'),
    ('statement', _statement, 'the privacy card of a ledger'),
  ):
    command = commands.add_parser(
      name,
      help=about,
      epilog=_EXAMPLES,
    )
    command.set_defaults(run=run)
    command.add_argument('ledger', type=pathlib.Path, help='ledger.jsonl of a run directory')
    if name == 'epsilon':
      command.add_argument('--delta', type=float, help='of epsilon (default: that of the ledger)')
    if name == 'verify':
      command.add_argument('--hash', help='hash of a line as it was once published')
    if name == 'statement':
      form = command.add_mutually_exclusive_group()
      form.add_argument(
        '--format', choices=('text', 'json', 'html'), default='text', help='of the card'
      )
      form.add_argument(
        '--json', action='store_const', dest='format', const='json', help='as --format json'
      )
    else:
      command.add_argument('--json', action='store_true', help='for machines')


def _epsilon(args: argparse.Namespace) -> int:
  from tff_privacy_agg.cli import _progress

  with _progress.waiting('reading the ledger'):
    from tff_privacy_agg.accounting.printing import rounded_up
    from tff_privacy_agg.ledger import LedgerRecord
    from tff_privacy_agg.ledger.card import risk

    record = LedgerRecord.read(args.ledger)
    spent = {view: record.spent(view, args.delta) for view in ('server', 'release')}
    fixed = record.fixed_rounds_epsilon(args.delta)
    risks = {view: risk.attack_bounds(record, view, args.delta) for view in spent}
  if args.json:
    found = {view: dataclasses.asdict(one) for view, one in spent.items()}
    for view, bounds in risks.items():
      found[view]['true_positives_at_most'] = {str(rate): power for rate, power in bounds.items()}
    for fields in found.values():
      for name in ('epsilon', 'order'):
        fields[name] = fields[name] if math.isfinite(fields[name]) else None
    if fixed is not None:
      found['release']['fixed_rounds_epsilon'] = fixed if math.isfinite(fixed) else None
    about = {'unit': record.facts.unit, 'adjacency': record.facts.stack['adjacency']}
    state = {'complete': record.complete, 'unaccounted': list(record.unaccounted)}
    print(json.dumps({**about, **state, 'views': found}, indent=2))
    return 0
  for view, one in spent.items():
    print(
      f'{view}: epsilon {rounded_up(one.epsilon, 6)} at delta {rounded_up(one.delta, 6)}, unit one '
      f'{record.facts.unit}, adjacency {one.adjacency}, {counted(one.rounds, "round")}, '
      f'{one.unsettled} of them charged at the worst'
    )
    if view == 'release' and fixed is not None:
      print(f'  epsilon {rounded_up(fixed, 6)} if the number of rounds was fixed before the first')
    print(f'  {risk.sentence(risks[view])}')
  if not record.complete:
    print(f'NOT COMPLETE: {", ".join(record.unaccounted)}')
  return 0


def _verify(args: argparse.Namespace) -> int:
  from tff_privacy_agg.cli import _progress

  with _progress.waiting('checking the ledger'):
    from tff_privacy_agg.ledger import verify

    found = verify(args.ledger, expected_hash=args.hash)
  if args.json:
    print(json.dumps({**dataclasses.asdict(found), 'ok': found.ok}, indent=2))
    return 0 if found.ok else 1
  for problem in found.problems:
    print(f'PROBLEM: {problem}')
  for remark in found.remarks:
    print(f'note: {remark}')
  print(
    f'{"verified" if found.ok else "NOT verified"}: {counted(found.lines, "line")}, hash '
    f'{found.hash}'
  )
  return 0 if found.ok else 1


def _statement(args: argparse.Namespace) -> int:
  from tff_privacy_agg.cli import _progress

  with _progress.waiting('reading the ledger'):
    from tff_privacy_agg.ledger import LedgerRecord

    statement = LedgerRecord.read(args.ledger).statement(args.format)
  print(statement, end='')
  return 0
