"""Ending of `train` and `serve`: a summary in the run directory, a last line, a failed sum."""

import contextlib
import math
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from tff_privacy_agg._wording import counted


def summary(result: Any, rounds: int) -> dict[str, Any]:
  """Summary of a finished training as JSON values; numbers that are infinite or missing are None.

  Args:
    result: A `TrainingResult`.
    rounds: Rounds that were asked in all.
  """

  from tff_privacy_agg._files import model_metrics

  def finite(name: str) -> float | None:
    value = float(result.metrics.get(name, math.inf))
    return value if math.isfinite(value) else None

  return {
    'accuracy': finite('accuracy'),
    'loss': finite('loss'),
    'metrics': model_metrics(result.metrics),
    'epsilon': finite('ledger/epsilon'),
    'release_epsilon': finite('ledger/release_epsilon'),
    'delta': finite('privacy/delta'),
    'rounds': result.rounds_done,
    'rounds_planned': rounds,
    'stopped': result.stopped,
    'complete': bool(result.metrics.get('ledger/complete', False)),
  }


def write(directory: str | os.PathLike[str], found: Mapping[str, Any]) -> None:
  """Writes `summary.json` of a run directory."""
  from tff_privacy_agg._files import write_json

  write_json(pathlib.Path(directory) / 'summary.json', found)


def ending(found: Mapping[str, Any]) -> str:
  """Why a training ended before its last round; empty if it did not."""
  if found['stopped'] is None:
    return ''
  return (
    f'stopped after {found["rounds"]} of {counted(found["rounds_planned"], "round")}: the privacy '
    'budget is spent'
  )


def utility(found: Mapping[str, Any]) -> str:
  """Formats the metrics on held-out examples; the loss only if there is nothing else."""
  measured = found['metrics']
  shown = {name: value for name, value in measured.items() if name != 'loss'} or measured
  words = [
    f'accuracy {100 * value:.1f} %' if name == 'accuracy' else f'{name} {value:.4g}'
    for name, value in shown.items()
  ]
  return f'{", ".join(words)} on held-out examples' if words else ''


def promise(found: Mapping[str, Any]) -> str:
  """Epsilon and against whom; empty if there is none."""
  from tff_privacy_agg.accounting.printing import rounded_up

  if found['epsilon'] is not None:
    return f'epsilon {rounded_up(found["epsilon"], 4)}, also against the server'
  if found['release_epsilon'] is not None:
    return (
      f'release epsilon {rounded_up(found["release_epsilon"], 4)} (the server sees the updates)'
    )
  return ''


def at_delta(found: Mapping[str, Any]) -> str:
  """The delta of the epsilons, never below it."""
  from tff_privacy_agg.accounting.printing import rounded_up

  return f', at delta {rounded_up(found["delta"], 2)}'


def last_words(found: Mapping[str, Any], directory: str | os.PathLike[str]) -> str:
  """The last line of a server: what `train` ends with, on one line."""
  privacy = promise(found) or 'no privacy: epsilon is infinite'
  if promise(found) and found['delta'] is not None:
    privacy += at_delta(found)
  if promise(found) and not found['complete']:
    privacy += ', NOT COVERING training metrics in the clear'
  trained = ending(found) or f'trained {counted(found["rounds"], "round")}'
  names = ['metrics.csv', 'checkpoints', 'summary.json', 'ledger.jsonl']
  files = [name for name in names if (pathlib.Path(directory) / name).exists()]
  parts = [trained, utility(found), privacy, f'{directory}: {", ".join(files)}']
  return '; '.join(filter(None, parts))


@contextlib.contextmanager
def sums_that_fail(directory: str | os.PathLike[str]) -> Iterator[None]:
  """Says of a round whose secure sum failed how the training goes on."""
  from tff_privacy_agg import secagg
  from tff_privacy_agg.errors import PrivacyAggError

  try:
    yield
  except secagg.SecAggError as error:
    raise PrivacyAggError(
      f'The secure sum of a round failed: {str(error).removesuffix(".")}. The ledger holds what '
      f'its attempts cost. Run the same command to repeat the round in {directory}.'
    ) from error
