"""Noise that is seeded by the clock: found in the sum, and taken off."""

import time
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from tff_privacy_agg.aggregation import layers
from tff_privacy_agg.audit.attacks import rounds
from tff_privacy_agg.audit.attacks.report import AttackReport
from tff_privacy_agg.numerics import modular

_DIM, _CLIENTS, _WINDOW = 4096, 10, 2000  # the window is in microseconds
_STDDEV, _BITS = 400.0, 20
_FOUND = 8.0  # of 2,000 unrelated shares none scores above 6 but in 4 of a million attacks


def run(seed: int = 0) -> AttackReport:
  """Tries every microsecond of a window on the sum of ten clients.

  tensorflow-privacy's distributed Skellam noise takes its seed from the clock in
  this way.
  """
  start = int(1e6 * time.time())
  moments = start + np.sort(np.random.default_rng(seed).choice(_WINDOW, _CLIENTS, replace=False))
  secret = np.arange(_DIM) % 7
  total = secret + sum(_share(moment) for moment in moments)
  candidates = range(start, start + _WINDOW)
  found = _scores(total, candidates)
  best = start + np.argsort(found)[-_CLIENTS:]
  bared = total - sum(_share(moment) for moment in best)
  wrong = int(np.sum(bared != secret))

  stack = rounds.stack_of(
    [
      layers.Clipping(norm=1.0),
      layers.Quantization(),
      layers.DiscreteGaussianNoise(noise_multiplier=8.0),
      layers.SecureModularSum(bits=_BITS),
    ],
    _DIM,
    _CLIENTS,
  )
  now = int(1e6 * time.time())
  sums = rounds.received(stack, rounds.sender(stack)(np.zeros([_CLIENTS, _DIM])))
  ours = modular.centre(sums['vector'], _BITS).numpy().astype(np.float64)
  ours_found = _scores(ours, range(now, now + _WINDOW))
  return AttackReport(
    name='clock_seed',
    attempt=f'tries {_WINDOW:,} microseconds as the seed of the noise in a sum of {_CLIENTS}',
    unprotected=f'all ten seeds, and the sum without noise: {wrong} of {_DIM:,} numbers wrong',
    ours=f'no seed: best score {ours_found.max():.1f}, where a true one has {found.max():.0f}',
    succeeded=wrong == 0,
    defended=bool(ours_found.max() < _FOUND),
    figures={
      'best_score_unprotected': float(found.max()),
      'best_score_ours': float(ours_found.max()),
      'numbers_wrong': wrong,
    },
  )


@tf.function(autograph=False)
def _draw(moment: tf.Tensor) -> tf.Tensor:
  normal = tf.random.stateless_normal([_DIM], tf.stack([moment, tf.zeros_like(moment)]))
  return tf.round(_STDDEV * normal)


def _share(moment: int) -> np.ndarray:
  return _draw(tf.constant(moment, tf.int64)).numpy().astype(np.float64)


def _scores(total: np.ndarray, candidates: Iterable[int]) -> np.ndarray:
  """Correlation with each candidate's share: standard normal if unrelated."""
  unit = total / np.linalg.norm(total)
  shares = np.stack([_share(moment) for moment in candidates])
  return shares @ unit / np.sqrt(np.mean(np.square(shares), axis=1))
