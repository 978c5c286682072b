"""Adaptive norms find their quantile."""

import numpy as np
import pytest
import tensorflow_federated as tff

import tff_privacy_agg as tpa

pytestmark = pytest.mark.integration

CLIENTS, ROUNDS = 40, 50
# Norms spread evenly over (0, 2]: their quantile q is 2 q.
NORMS = np.linspace(0, 2, CLIENTS + 1)[1:]
VALUES = [np.array([norm, 0], np.float32) for norm in NORMS]


@pytest.mark.parametrize(
  ('initial', 'target', 'private'),
  [(0.1, 0.5, True), (4.0, 0.8, True), (0.1, 0.8, False)],
)
def test_clip_norm_finds_the_target_quantile(initial, target, private):
  layers = [
    tpa.Clipping(norm=tpa.AdaptiveQuantile(initial=initial, target=target)),
    tpa.Quantization(),
    *([tpa.DiscreteGaussianNoise(noise_multiplier=0.5)] if private else []),
    tpa.SecureModularSum(bits=20),
  ]
  process = tpa.compose(layers, cohort=tpa.Cohort(expected=CLIENTS)).create(
    tff.TensorType(np.float32, [2])
  )
  state = process.initialize()
  for _ in range(ROUNDS):
    state = process.next(state, VALUES).state
  # Without noise the estimate stops within one client's step (5 %) of the quantile. The noise
  # of the counts, 2 clients of 40, moves it by 1 % a round, about 2.5 % in the long run:
  # the tolerance is over 5 standard deviations.
  assert abs(state['clipping']['norm'] / (2 * target) - 1) < 0.15
