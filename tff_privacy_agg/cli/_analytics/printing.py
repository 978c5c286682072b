"""The answer of `tff-privacy-agg analytics`, for people and as JSON values."""

import argparse
import math
from collections.abc import Mapping
from typing import Any

from tff_privacy_agg._wording import counted
from tff_privacy_agg.cli._analytics import question_ledger


def tell(args: argparse.Namespace, answer: Mapping[str, Any]) -> None:
  """Prints an answer for people.

  Args:
    args: The options of the command.
    answer: The answer, as JSON values.
  """
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
    print(question_ledger.sentence(answer['ledger']))


def note(args: argparse.Namespace) -> str | None:
  """Note on what the options make of a client, whatever the clients hold."""
  counted = args.contributions
  if args.statistic != 'histogram' or not args.client or counted >= len(args.categories):
    return None
  return (
    f'a client in m of the categories, m above {counted}, counts sqrt({counted}/m) in each of them '
    f'and not 1; --contributions {len(args.categories)} counts all in full, with more noise'
  )


def plain(value: Any) -> Any:
  """Arrays and their numbers as lists and numbers of Python."""
  if isinstance(value, Mapping):
    return {name: plain(inner) for name, inner in value.items()}
  return value.tolist() if hasattr(value, 'tolist') else value


def finite(value: Any) -> Any:
  """JSON has no infinity: an epsilon without end is null."""
  if isinstance(value, Mapping):
    return {name: finite(inner) for name, inner in value.items()}
  return None if isinstance(value, float) and math.isinf(value) else value
