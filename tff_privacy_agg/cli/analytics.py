"""`tff-privacy-agg analytics`: a private statistic of a column of a CSV file."""

import argparse
import contextlib
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from tff_privacy_agg._wording import counted
from tff_privacy_agg.cli import _analytics_ledger, _client_rows, _flags

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
_STATISTICS = ('count', 'sum', 'mean', 'histogram', 'quantiles')
# What each statistic uses of the options that are not for all.
_USES = {
  'count': {'categories'},
  'sum': {'upper', 'combine'},
  'mean': {'lower', 'upper', 'combine'},
  'histogram': {'categories', 'contributions'},
  'quantiles': {'lower', 'upper', 'combine', 'probabilities', 'levels'},
}
_NEEDS = {'lower', 'upper', 'categories'}
_DEFAULTS = {'contributions': 1, 'probabilities': [0.25, 0.5, 0.75], 'levels': 8}
_RULE = {'count': 'any', 'histogram': 'set', 'sum': 'sum', 'mean': 'mean', 'quantiles': 'mean'}


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
  analytics.add_argument('statistic', choices=_STATISTICS)
  analytics.add_argument('--column', required=True)
  analytics.add_argument('--client', metavar='COLUMN', help='tells the client of a row')
  analytics.add_argument(
    '--combine',
    choices=_client_rows.COMBINATIONS,
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
      'of the histogram: categories of a client that count in full', _DEFAULTS['contributions']
    ),
  )
  analytics.add_argument(
    '--probabilities',
    nargs='+',
    type=float,
    help=_flags.told('of the quantiles', _DEFAULTS['probabilities']),
  )
  analytics.add_argument(
    '--levels', type=int, help=_flags.told('2^LEVELS leaves for quantiles', _DEFAULTS['levels'])
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

  _check(args)
  clients = _client_rows.by_client(args.file, args.column, args.client)
  query, values = _query(args, clients)
  statistic = private_statistic(
    query, Cohort(expected=len(clients)), noise_multiplier=args.noise_multiplier
  )
  known = _analytics_ledger.read(args)
  delta = _analytics_ledger.delta_of(args, known, len(clients))
  epsilon = statistic.epsilon(delta)
  precision = statistic.precision(args.confidence)
  ledger, facts = None, None
  with contextlib.ExitStack() as stack:
    if args.ledger is not None:
      ledger, facts = _analytics_ledger.opened(args, known, statistic, len(clients), delta)
      stack.enter_context(ledger)
    stack.enter_context(_progress.waiting(f'asking {counted(len(clients), "client")}'))
    stack.enter_context(runtime.simulation_context())
    found = statistic.answer(values, ledger=ledger, facts=facts)
  intervals = statistic.intervals(found, args.confidence)
  answer = _plain(found)
  answer['intervals'] = _plain(intervals)
  if args.statistic == 'histogram':
    for place in (answer, answer['intervals'], answer['uncut']):
      place['counts'] = dict(zip(query.categories, place['counts'], strict=True))
  answer.update(
    confidence=args.confidence,
    precision=_plain(precision),
    epsilon=epsilon,
    delta=delta,
    adjacency='zero_out',
    unit='client' if args.client else 'row',
    clients=len(clients),
    combined=(args.combine or _RULE[args.statistic]) if args.client else None,
    note=_note(args),
    ledger=None if ledger is None else _analytics_ledger.told(args, ledger),
  )
  if args.json:
    print(json.dumps(_finite(answer), indent=2))
  else:
    _tell(args, answer)
  return 0


def _plain(value: Any) -> Any:
  if isinstance(value, Mapping):
    return {name: _plain(inner) for name, inner in value.items()}
  return value.tolist() if hasattr(value, 'tolist') else value


def _finite(value: Any) -> Any:
  """JSON has no infinity: an epsilon without end is null."""
  if isinstance(value, Mapping):
    return {name: _finite(inner) for name, inner in value.items()}
  return None if isinstance(value, float) and math.isinf(value) else value


def _note(args: argparse.Namespace) -> str | None:
  """Note on what the options make of a client, whatever the clients hold."""
  counted = args.contributions
  if args.statistic != 'histogram' or not args.client or counted >= len(args.categories):
    return None
  return (
    f'a client in m of the categories, m above {counted}, counts sqrt({counted}/m) in each of them '
    f'and not 1; --contributions {len(args.categories)} counts all in full, with more noise'
  )


def _tell(args: argparse.Namespace, answer: Mapping[str, Any]) -> None:
  from tff_privacy_agg.accounting.printing import rounded_up

  if args.client:
    print(
      f'{counted(answer["clients"], "client")}; the rows of a client make one value '
      f'({answer["combined"]}), and the unit of privacy is the client'
    )
  else:
    print(
      f'each of {counted(answer["clients"], "row")} is taken for a client, and is the unit of '
      'privacy: where one can have several, name the column that tells whose they are with --client'
    )
  for name, intervals in answer['intervals'].items():
    found = answer[name]
    if isinstance(found, Mapping):
      rows = [(label, found[label], intervals[label]) for label in found]
    elif isinstance(found, list):
      labels = [f'{probability:g}' for probability in args.probabilities]
      rows = list(zip(labels, found, intervals, strict=True))
    else:
      rows = [(name, found, intervals)]
    for label, value, (low, high) in rows:
      print(f'{label:<12} {value:>12.5g}   [{low:.5g}, {high:.5g}]')
  print(
    f'in [ ]: {100 * answer["confidence"]:.4g} % confidence intervals, of values cut to the bounds; '
    'answers and intervals end where the truth must'
  )
  if answer['note']:
    print(answer['note'])
  if args.statistic == 'quantiles':
    error = answer['precision']
    print(
      f'every rank is off by at most {error["rank"]:.1f} clients ({error["fraction"]:.1%}), all at '
      f'once; a leaf is {error["leaf"]:.4g} wide'
    )
  print(
    f'epsilon {rounded_up(answer["epsilon"], 4)} at delta {rounded_up(answer["delta"], 3)}, zero-out; '
    + ('this question alone' if answer['ledger'] else 'what is asked of the same clients adds up')
  )
  if answer['ledger']:
    print(_analytics_ledger.sentence(answer['ledger']))


def _check(args: argparse.Namespace) -> None:
  """Refuses what does not fit together, before a file is read; then fills in the defaults."""
  from tff_privacy_agg import _validate
  from tff_privacy_agg.errors import ConfigurationError

  _validate.fraction(confidence=args.confidence)
  if args.delta is not None:
    _validate.fraction(delta=args.delta)
  _analytics_ledger.check(args)
  uses = _USES[args.statistic]
  options = sorted(set().union(*_USES.values()))
  useless = [
    f'--{name}' for name in options if name not in uses and getattr(args, name) is not None
  ]
  if useless:
    raise ConfigurationError(
      f'`{args.statistic}` uses {", ".join(f"--{name}" for name in sorted(uses))}; got '
      f'{", ".join(useless)}, which it would ignore. Leave that out.'
    )
  missing = [f'--{name}' for name in sorted(uses & _NEEDS) if getattr(args, name) is None]
  if missing:
    raise ConfigurationError(
      f'`{args.statistic}` needs bounds that do not come from the data; missing: '
      f'{", ".join(missing)}. Give them.'
    )
  for name in ('combine', 'contributions'):
    if getattr(args, name) is not None and not args.client:
      raise ConfigurationError(
        f'--{name} is about clients of several rows; got no --client, so that each row is a client. '
        'Leave it out, or name the column that tells the client.'
      )
  for name, default in _DEFAULTS.items():
    if getattr(args, name) is None:
      setattr(args, name, default)


def _query(
  args: argparse.Namespace, clients: list[list[_client_rows.Cell]]
) -> tuple[Any, list[Any]]:
  from tff_privacy_agg import analytics
  from tff_privacy_agg.analytics.distributions import encode_categories

  if args.statistic in ('count', 'histogram'):
    held = [{cell.text for cell in cells} for cells in clients]
    if args.statistic == 'count':
      return analytics.Count(), [not one.isdisjoint(args.categories) for one in held]
    query = analytics.Histogram(categories=tuple(args.categories), contributions=args.contributions)
    return query, [encode_categories(query, one) for one in held]
  rule = args.combine or _RULE[args.statistic]
  numbers = _client_rows.numbers(clients, args.statistic, rule)
  if args.statistic == 'sum':
    args.flags['maximum'] = args.flags['upper']
    return analytics.Sum(maximum=args.upper), numbers
  if args.statistic == 'mean':
    return analytics.Mean(lower=args.lower, upper=args.upper), numbers
  return (
    analytics.Quantiles(
      probabilities=tuple(args.probabilities),
      lower=args.lower,
      upper=args.upper,
      levels=args.levels,
    ),
    numbers,
  )
