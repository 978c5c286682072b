"""`tff-privacy-agg plan`: noise, bits and cost for a target epsilon."""

import argparse
import json
import pathlib
from typing import Any

from tff_privacy_agg._names import DISTRIBUTED
from tff_privacy_agg.cli import _flags

_EXAMPLES = """examples:
  tff-privacy-agg plan --target-epsilon 4 --rounds 50 --clients-per-round 200 --population 20000 \\
    --parameters 100000
  tff-privacy-agg plan --target-epsilon 8 --rounds 12 --clients-per-round 40 --population 200 \\
    --parameters 650 --write run.toml
  tff-privacy-agg train --config run.toml
  tff-privacy-agg plan --correlated --target-epsilon 8 --rounds 1000 --clients-per-round 100 \\
    --population 10000 --parameters 100000
"""
# What a plan of correlated noise does not know, with the defaults of the command line.
_OF_CLIENTS: dict[str, Any] = {
  'mechanism': 'discrete_gaussian',
  'bits': None,
  'dropout': 0.0,
  'colluding_fraction': 0.0,
  'sampling': 'none',
  'write': None,
}
_OF_CORRELATED: dict[str, Any] = {'separation': None, 'bands': None, 'momentum': 0.0}


def add(commands: _flags.Commands) -> None:
  """Adds the command to the parser."""
  plan = commands.add_parser(
    'plan',
    help='noise, bits and cost for a target epsilon',
    epilog=_EXAMPLES,
  )
  plan.set_defaults(run=_plan)
  plan.add_argument(
    '--target-epsilon', type=float, required=True, help='largest epsilon at the end'
  )
  plan.add_argument(
    '--target-delta', type=float, help='of it (default: a tenth of one over the population)'
  )
  plan.add_argument('--rounds', type=int, required=True, help='rounds of the training')
  plan.add_argument(
    '--clients-per-round', type=int, required=True, help='clients that take part in a round'
  )
  plan.add_argument('--population', type=int, required=True, help='number of clients')
  plan.add_argument('--parameters', type=int, required=True, help='trainable numbers of the model')
  plan.add_argument(
    '--mechanism',
    choices=DISTRIBUTED,
    default='discrete_gaussian',
    help="distribution of the clients' noise",
  )
  plan.add_argument(
    '--bits', type=int, help='bits a coordinate (default: the fewest that are worthwhile)'
  )
  plan.add_argument('--dropout', type=float, default=0.0, help='fraction that may drop out')
  plan.add_argument(
    '--colluding-fraction', type=float, default=0.0, help='whose noise the server knows'
  )
  plan.add_argument(
    '--sampling',
    choices=('none', 'poisson', 'without_replacement'),
    default='none',
    help='of secret cohorts; others than none hold for readers of the models only',
  )
  plan.add_argument(
    '--participation-cap', type=int, help='most rounds of one client (default: all)'
  )
  plan.add_argument(
    '--write', type=pathlib.Path, metavar='FILE', help='a new file for `train --config`'
  )
  plan.add_argument(
    '--correlated',
    action='store_true',
    help="the server's noise, correlated over rounds: for readers of the models only",
  )
  plan.add_argument(
    '--separation',
    type=int,
    help='rounds until a client may return (default: the most there can be)',
  )
  plan.add_argument('--bands', type=int, help='coefficients (default: as many as are worth it)')
  plan.add_argument('--momentum', type=float, default=0.0, help="of the server's optimizer")
  plan.add_argument('--json', action='store_true', help='for machines')


def _plan(args: argparse.Namespace) -> int:
  from tff_privacy_agg._files import write_bytes
  from tff_privacy_agg.accounting.printing import rounded_up
  from tff_privacy_agg.cli import _progress
  from tff_privacy_agg.errors import ConfigurationError

  _check_kind(args)
  if args.write is not None and args.write.exists():
    raise ConfigurationError(f'{args.write} exists; --write makes a new file. Name another.')
  with _progress.waiting('planning') as progress:
    result = _correlated(args) if args.correlated else _of_clients(args, progress)
  if args.write is not None:
    write_bytes(args.write, result.toml().encode('utf-8'))
  if args.json:
    print(json.dumps(result.as_dict(), indent=2))
    return 0
  for name, value in result.as_dict().items():
    if name not in ('reasons', 'coefficients') and value is not None:
      print(f'{name:<20} {rounded_up(value, 6) if isinstance(value, float) else value}')
  print(*(f'- {reason}' for reason in result.as_dict()['reasons']), sep='\n')
  if args.write is not None:
    print(f'{args.write}: train it with `tff-privacy-agg train --config {args.write}`')
  return 0


def _check_kind(args: argparse.Namespace) -> None:
  """Refuses options of the other kind of plan."""
  from tff_privacy_agg.errors import ConfigurationError

  others = _OF_CLIENTS if args.correlated else _OF_CORRELATED
  given = [name for name, default in others.items() if getattr(args, name) != default]
  if given:
    options = ', '.join(f'--{name.replace("_", "-")}' for name in given)
    raise ConfigurationError(
      f'{options} cannot be planned {"with" if args.correlated else "without"} --correlated. '
      f'{"Leave it out: the noise is that of the server." if args.correlated else "Add it."}'
    )


def _of_clients(args: argparse.Namespace, progress: Any) -> Any:
  from tff_privacy_agg import learning

  return learning.plan(
    target_epsilon=args.target_epsilon,
    target_delta=args.target_delta,
    rounds=args.rounds,
    clients_per_round=args.clients_per_round,
    population=args.population,
    parameters=args.parameters,
    mechanism=args.mechanism,
    bits=args.bits,
    dropout=args.dropout,
    colluding_fraction=args.colluding_fraction,
    sampling=args.sampling,
    participation_cap=args.participation_cap,
    progress=progress,
  )


def _correlated(args: argparse.Namespace) -> Any:
  from tff_privacy_agg import accounting

  # Its names differ from those of the flags, which refusals are told by.
  args.flags |= {'delta': '--target-delta', 'participations': '--participation-cap'}
  return accounting.plan_correlated(
    rounds=args.rounds,
    target_epsilon=args.target_epsilon,
    delta=args.target_delta,
    clients_per_round=args.clients_per_round,
    population=args.population,
    parameters=args.parameters,
    separation=args.separation,
    participations=args.participation_cap,
    bands=args.bands,
    momentum=args.momentum,
  )
