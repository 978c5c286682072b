"""`tff-privacy-agg analytics`: a private statistic of a column of a CSV file."""

import argparse
import contextlib
import json
import pathlib

from tff_privacy_agg._wording import counted
from tff_privacy_agg.cli import _flags
from tff_privacy_agg.cli._analytics import client_rows, printing, question, question_ledger

_EXAMPLES = """examples:
  tff-privacy-agg analytics digits mean --column ink --client client --lower 0 --upper 1
  tff-privacy-agg analytics visits.csv quantiles --column minutes --lower 0 --upper 60 --json
  tff-privacy-agg analytics visits.csv histogram --column city --categories Bern Basel Chur \\
    --ledger visits.jsonl --target-epsilon 3

A client has one value. With --client, its rows make it: for count, whether any is in the
categories; for histogram, the set of its categories, of which --contributions count in full; else
their mean, sum or last (--combine). Without --client every row is a client of its own.

With --ledger all questions to the same clients add up, whatever their noise. A question is charged
before anybody is asked, and stays charged whatever becomes of it. One that could pass the budget
is refused (exit code 2): nobody is asked and nothing charged.

The secure sum is simulated on this machine: see docs/runtime.md for clients of their own.
"""


def add(commands: _flags.Commands) -> None:
  """Adds the command to the parser."""
  analytics = commands.add_parser(
    'analytics',
    help='a private statistic of a column of a CSV file, with its epsilon and its error',
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  analytics.set_defaults(run=_analytics)
  analytics.add_argument(
    'file',
    help='CSV file with a header; or digits: the embedded digits, columns client, digit, ink',
  )
  analytics.add_argument('statistic', choices=question.STATISTICS)
  analytics.add_argument('--column', required=True)
  analytics.add_argument('--client', metavar='COLUMN', help='tells the client of a row')
  analytics.add_argument(
    '--combine',
    choices=client_rows.COMBINATIONS,
    help="a client's rows to its number; default: sum for sum, else mean",
  )
  analytics.add_argument('--lower', type=float, help='of mean and quantiles')
  analytics.add_argument('--upper', type=float, help='of mean, quantiles and sum')
  analytics.add_argument(
    '--categories', nargs='+', help='of the histogram; or, for count, what counts'
  )
  analytics.add_argument(
    '--contributions',
    type=int,
    help=_flags.told(
      'of the histogram: categories of a client that count in full',
      question.DEFAULTS['contributions'],
    ),
  )
  analytics.add_argument(
    '--probabilities',
    nargs='+',
    type=float,
    help=_flags.told('of the quantiles', question.DEFAULTS['probabilities']),
  )
  analytics.add_argument(
    '--levels',
    type=int,
    help=_flags.told('2^LEVELS leaves for quantiles', question.DEFAULTS['levels']),
  )
  analytics.add_argument('--noise-multiplier', type=float, default=2.0)
  analytics.add_argument('--delta', type=float, help='default: a tenth of one over the clients')
  analytics.add_argument(
    '--ledger',
    type=pathlib.Path,
    metavar='FILE',
    help='adds up all questions to the same clients; begun if missing',
  )
  analytics.add_argument(
    '--target-epsilon', type=float, help='budget of all questions of the ledger'
  )
  analytics.add_argument('--confidence', type=float, default=0.95, help='of the intervals')
  analytics.add_argument('--json', action='store_true', help='for machines')


def _analytics(args: argparse.Namespace) -> int:
  from tff_privacy_agg.cli import _progress

  with _progress.waiting('starting TensorFlow Federated'):
    from tff_privacy_agg import runtime
    from tff_privacy_agg.aggregation.domains import Cohort
    from tff_privacy_agg.analytics import private_statistic

  question.check(args)
  clients = client_rows.by_client(args.file, args.column, args.client)
  query, values = question.query_of(args, clients)
  statistic = private_statistic(
    query, Cohort(expected=len(clients)), noise_multiplier=args.noise_multiplier
  )
  known = question_ledger.read(args)
  delta = question_ledger.delta_of(args, known, len(clients))
  epsilon = statistic.epsilon(delta)
  precision = statistic.precision(args.confidence)
  ledger, facts = None, None
  with contextlib.ExitStack() as stack:
    if args.ledger is not None:
      ledger, facts = question_ledger.opened(args, known, statistic, len(clients), delta)
      stack.enter_context(ledger)
    stack.enter_context(_progress.waiting(f'asking {counted(len(clients), "client")}'))
    stack.enter_context(runtime.simulation_context())
    found = statistic.answer(values, ledger=ledger, facts=facts)
  intervals = statistic.intervals(found, args.confidence)
  answer = printing.plain(found)
  answer['intervals'] = printing.plain(intervals)
  if args.statistic == 'histogram':
    for place in (answer, answer['intervals'], answer['uncut']):
      place['counts'] = dict(zip(query.categories, place['counts'], strict=True))
  answer.update(
    confidence=args.confidence,
    precision=printing.plain(precision),
    epsilon=epsilon,
    delta=delta,
    adjacency='zero_out',
    unit='client' if args.client else 'row',
    clients=len(clients),
    combined=(args.combine or question.RULE[args.statistic]) if args.client else None,
    note=printing.note(args),
    ledger=None if ledger is None else question_ledger.told(args, ledger),
  )
  if args.json:
    print(json.dumps(printing.finite(answer), indent=2))
  else:
    printing.tell(args, answer)
  return 0
