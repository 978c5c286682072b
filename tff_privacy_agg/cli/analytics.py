"""`tff-privacy-agg analytics`: a private statistic of a column of a CSV file."""

import argparse
import csv
import json
import pathlib
from typing import Any

_EXAMPLES = """examples:
  tff-privacy-agg analytics visits.csv mean --column minutes --lower 0 --upper 60
  tff-privacy-agg analytics visits.csv quantiles --column minutes --lower 0 --upper 60 --json
  tff-privacy-agg analytics visits.csv histogram --column city --categories Bern Basel Chur

Every row is one client. The secure sum is simulated on this machine: see docs/runtime.md for
clients of their own.
"""
_STATISTICS = ('count', 'sum', 'mean', 'histogram', 'quantiles')


def add(commands) -> None:
  """Adds the command to the parser."""
  analytics = commands.add_parser(
    'analytics',
    help='a private statistic of a column of a CSV file, with its epsilon',
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  analytics.set_defaults(run=_analytics)
  analytics.add_argument('file', type=pathlib.Path, help='CSV file with a header')
  analytics.add_argument('statistic', choices=_STATISTICS)
  analytics.add_argument('--column', required=True)
  analytics.add_argument('--lower', type=float, help='of mean and quantiles')
  analytics.add_argument('--upper', type=float, help='of mean, quantiles and sum')
  analytics.add_argument(
    '--categories', nargs='+', help='of the histogram; or, for count, what counts'
  )
  analytics.add_argument('--probabilities', nargs='+', type=float, default=[0.25, 0.5, 0.75])
  analytics.add_argument('--noise-multiplier', type=float, default=2.0)
  analytics.add_argument('--delta', type=float, help='default: a tenth of one over the clients')
  analytics.add_argument('--json', action='store_true', help='for machines')


def _analytics(args: argparse.Namespace) -> int:
  from tff_privacy_agg import runtime
  from tff_privacy_agg.analytics import private_statistic
  from tff_privacy_agg.domains import Cohort

  cells = _column(args.file, args.column)
  query, values = _query(args, cells)
  statistic = private_statistic(
    query, Cohort(expected=len(cells)), noise_multiplier=args.noise_multiplier
  )
  delta = args.delta or 0.1 / len(cells)
  epsilon = statistic.epsilon(delta)
  with runtime.simulation_context():
    found = statistic.computation(values)
  answer: dict[str, Any] = {
    name: value.tolist() if hasattr(value, 'tolist') else value for name, value in found.items()
  }
  if args.statistic == 'histogram':
    answer['counts'] = dict(zip(query.categories, answer['counts'], strict=True))
  answer.update(epsilon=epsilon, delta=delta, adjacency='zero_out', unit='client')
  if args.json:
    print(json.dumps(answer, indent=2))
    return 0
  for name, value in answer.items():
    print(f'{name:<20} {value}')
  return 0


def _column(path: pathlib.Path, column: str) -> list[str]:
  from tff_privacy_agg.errors import ConfigurationError

  try:
    with path.open(encoding='utf-8', newline='') as lines:
      rows = list(csv.DictReader(lines))
  except OSError as error:
    raise ConfigurationError(f'A CSV file was to be read; {path} cannot be: {error}.') from error
  if not rows or column not in rows[0]:
    names = ', '.join(rows[0]) if rows else 'no rows'
    raise ConfigurationError(
      f'Column {column!r} was asked for; {path} has {names}. Name a column of the file.'
    )
  return [row[column] for row in rows]


def _query(args: argparse.Namespace, cells: list[str]) -> tuple[Any, list[Any]]:
  from tff_privacy_agg import analytics
  from tff_privacy_agg.analytics.queries import encode_categories
  from tff_privacy_agg.errors import ConfigurationError

  needs = {
    'count': ('categories',),
    'sum': ('upper',),
    'mean': ('lower', 'upper'),
    'histogram': ('categories',),
    'quantiles': ('lower', 'upper'),
  }
  missing = [f'--{name}' for name in needs[args.statistic] if getattr(args, name) is None]
  if missing:
    raise ConfigurationError(
      f'`{args.statistic}` needs bounds that do not come from the data; missing: '
      f'{", ".join(missing)}. Give them.'
    )
  if args.statistic == 'count':
    return analytics.Count(), [cell in args.categories for cell in cells]
  if args.statistic == 'histogram':
    query = analytics.Histogram(categories=tuple(args.categories))
    return query, [encode_categories(query, [cell]) for cell in cells]
  try:
    numbers = [float(cell) for cell in cells]
  except ValueError as error:
    raise ConfigurationError(
      f'`{args.statistic}` needs numbers; column {args.column!r} holds others ({error}). Choose '
      'another column, or `histogram`.'
    ) from error
  if args.statistic == 'sum':
    return analytics.Sum(maximum=args.upper), numbers
  if args.statistic == 'mean':
    return analytics.Mean(lower=args.lower, upper=args.upper), numbers
  return (
    analytics.Quantiles(
      probabilities=tuple(args.probabilities), lower=args.lower, upper=args.upper
    ),
    numbers,
  )
