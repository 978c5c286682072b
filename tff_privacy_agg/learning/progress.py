"""One round of a training as a line of progress."""

from collections.abc import Mapping
from typing import Any

from tff_privacy_agg._files import model_metrics
from tff_privacy_agg.accounting.printing import rounded_up


def progress_line(
  round_number: int, rounds: int, metrics: Mapping[str, Any], seconds: float, left: float
) -> str:
  """Formats one round as a line of progress.

  Args:
    round_number: The round.
    rounds: Rounds in all.
    metrics: Its metrics, flat.
    seconds: How long it took.
    left: Seconds that the rest will take.
  """
  parts = [f'round {round_number:>{len(str(rounds))}}/{rounds}']
  for name, value in model_metrics(metrics).items():
    if name == 'accuracy':
      parts.append(f'accuracy {100 * value:5.1f} %')
    else:
      parts.append(f'{name} {value:.3f}' if name == 'loss' else f'{name} {value:.4g}')
  epsilon = metrics.get('ledger/epsilon', metrics.get('privacy/epsilon'))
  if epsilon is not None:
    parts.append(f'epsilon {rounded_up(epsilon, 4)}')
  survivors = metrics.get('privacy/survivors', metrics.get('survivors'))
  if survivors is not None:
    parts.append(f'survivors {int(survivors)}')
  if 'clipping/norm' in metrics:
    parts.append(f'clip {metrics["clipping/norm"]:.3f}')
  parts.append(f'{seconds:.1f} s' + (f', {left:.0f} s left' if round_number < rounds else ''))
  if not metrics.get('ledger/complete', True):
    parts.append('NOT ALL IS COVERED')
  if not metrics.get('privacy/accepted', True):
    parts.append('too few survivors: model unchanged')
  return '  '.join(parts)
