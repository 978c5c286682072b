"""`tff-privacy-agg plan`: noise, bits and cost for a target epsilon."""

import argparse
import json

from tff_privacy_agg._names import DISTRIBUTED

_EXAMPLES = """example:
  tff-privacy-agg plan --target-epsilon 4 --rounds 50 --clients-per-round 200 --population 20000 \\
    --parameters 100000
"""


def add(commands) -> None:
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
    help="law of the clients' noise",
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
  plan.add_argument('--json', action='store_true', help='for machines')


def _plan(args: argparse.Namespace) -> int:
  from tff_privacy_agg import _validate, accounting
  from tff_privacy_agg.accounting.printing import rounded_up
  from tff_privacy_agg.cli import _progress
  from tff_privacy_agg.numerics import orders

  _validate.at_least(1, population=args.population, parameters=args.parameters)
  delta = 0.1 / args.population if args.target_delta is None else args.target_delta
  with _progress.waiting('planning') as progress:
    result = accounting.plan(
      target_epsilon=args.target_epsilon,
      target_delta=delta,
      rounds=args.rounds,
      clients_per_round=args.clients_per_round,
      population=args.population,
      dimension=orders.padded_dimension(args.parameters),
      mechanism=args.mechanism,
      bits=args.bits,
      dropout=args.dropout,
      colluding_fraction=args.colluding_fraction,
      sampling=args.sampling,
      participation_cap=args.participation_cap,
      progress=progress,
    )
  if args.json:
    print(json.dumps(result.as_dict(), indent=2))
    return 0
  for name, value in result.as_dict().items():
    if name != 'reasons' and value is not None:
      print(f'{name:<20} {rounded_up(value, 6) if isinstance(value, float) else value}')
  print(*(f'- {reason}' for reason in result.reasons), sep='\n')
  return 0
