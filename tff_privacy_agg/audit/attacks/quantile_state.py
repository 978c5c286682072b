"""Two thresholds of an adaptive estimate tell how many clients were below the first."""

import math

import numpy as np

from tff_privacy_agg.aggregation import layers
from tff_privacy_agg.audit.attacks import rounds
from tff_privacy_agg.audit.attacks.report import AttackReport

_CLIENTS, _TRIES, _TARGET, _RATE = 20, 100, 0.5, math.log(10.0)
_THRESHOLD = layers.AdaptiveQuantile(initial=2.0, target=_TARGET, learning_rate=_RATE)


def run(seed: int = 0) -> AttackReport:
  """Inverts one step of the estimate, in rounds with 3 to 17 clients below the threshold.

  TFF's zeroing estimates its quantile without noise and reports it each round.
  """
  rng = np.random.default_rng(seed)
  truth = rng.integers(3, 18, _TRIES)
  right = {}
  for name, noise in (('unprotected', 0.0), ('ours', 0.5)):
    right[name] = float(np.mean(_counts(noise, truth) == truth))
  return AttackReport(
    name='quantile_state',
    attempt='computes, from two consecutive thresholds, how many clients were below',
    unprotected=f'the exact count in {right["unprotected"]:.0%} of {_TRIES} rounds',
    ours=f'the exact count in {right["ours"]:.0%} of the rounds: the count has noise of its own',
    succeeded=right['unprotected'] == 1.0,
    defended=right['ours'] < 0.7,
    figures={f'right_{name}': value for name, value in right.items()},
  )


def _counts(noise_multiplier: float, truth: np.ndarray) -> np.ndarray:
  """The attack on one round for each true count."""
  noise = (
    [layers.DiscreteGaussianNoise(noise_multiplier=noise_multiplier)] if noise_multiplier else []
  )
  stack = rounds.stack_of(
    [
      layers.Zeroing(threshold=_THRESHOLD),
      layers.Clipping(norm=1.0),
      layers.Quantization(),
      *noise,
      layers.SecureModularSum(bits=20),
    ],
    1,
    _CLIENTS,
  )
  send = rounds.sender(stack)
  before = float(stack.init()['zeroing']['estimate'])
  counts = []
  for below in truth:
    lengths = np.where(np.arange(_CLIENTS) < below, 0.5, 3.0)
    sums = rounds.received(stack, send(lengths[:, None]))
    after = float(rounds.decoded(stack, sums)[0]['zeroing']['estimate'])
    counts.append(round(_CLIENTS * (_TARGET - math.log(after / before) / _RATE)))
  return np.array(counts)
