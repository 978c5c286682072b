"""The question of `tff-privacy-agg analytics`: the options that fit it, and the query that they make."""

import argparse
from typing import Any

from tff_privacy_agg.cli._analytics import client_rows, question_ledger

STATISTICS = ('count', 'sum', 'mean', 'histogram', 'quantiles')
# What each statistic uses of the options that are not for all.
_USES = {
  'count': {'categories'},
  'sum': {'upper', 'combine'},
  'mean': {'lower', 'upper', 'combine'},
  'histogram': {'categories', 'contributions'},
  'quantiles': {'lower', 'upper', 'combine', 'probabilities', 'levels'},
}
_NEEDS = {'lower', 'upper', 'categories'}
DEFAULTS = {'contributions': 1, 'probabilities': [0.25, 0.5, 0.75], 'levels': 8}
RULE = {'count': 'any', 'histogram': 'set', 'sum': 'sum', 'mean': 'mean', 'quantiles': 'mean'}


def check(args: argparse.Namespace) -> None:
  """Refuses what does not fit together, before a file is read; then fills in the defaults."""
  from tff_privacy_agg import _validate
  from tff_privacy_agg.errors import ConfigurationError

  _validate.fraction(confidence=args.confidence)
  if args.delta is not None:
    _validate.fraction(delta=args.delta)
  question_ledger.check(args)
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
  for name, default in DEFAULTS.items():
    if getattr(args, name) is None:
      setattr(args, name, default)


def query_of(
  args: argparse.Namespace, clients: list[list[client_rows.Cell]]
) -> tuple[Any, list[Any]]:
  """The query, and the value of each client.

  Args:
    args: The options of the command.
    clients: The cells of each client.
  """
  from tff_privacy_agg import analytics
  from tff_privacy_agg.analytics.distributions import encode_categories

  if args.statistic in ('count', 'histogram'):
    held = [{cell.text for cell in cells} for cells in clients]
    if args.statistic == 'count':
      return analytics.Count(), [not one.isdisjoint(args.categories) for one in held]
    query = analytics.Histogram(categories=tuple(args.categories), contributions=args.contributions)
    return query, [encode_categories(query, one) for one in held]
  rule = args.combine or RULE[args.statistic]
  numbers = client_rows.numbers(clients, args.statistic, rule)
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
