"""The noise in a message has the variance of the account, and all integers."""

import numpy as np
import pytest
import tensorflow as tf
from attack_runs import messages, stack_of
from scipy import stats

from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.layers import (
  Clipping,
  DiscreteGaussianNoise,
  Quantization,
  SecureModularSum,
  SkellamNoise,
)
from tff_privacy_agg.numerics import modular

DIM = 100_000


def message(noise, bits, clients):
  """One client's message of zeros: its share of the noise, and v."""
  layers = [Clipping(norm=1.0), Quantization(), noise, SecureModularSum(bits=bits)]
  stack = stack_of(layers, DIM, Cohort(expected=clients))
  (sent,) = messages(stack, np.zeros([1, DIM]), seed=7)
  share = modular.centre(sent['vector'], bits).numpy().astype(np.float64)
  return share, stack.binding.design.local_variance


def tails(share, variance):
  """Two-sided p-value of the sum of squares: chi-square, as both laws are near normal."""
  upper = stats.chi2.sf(np.sum(share**2) / variance, share.size)
  return 2 * min(upper, 1 - upper)


@pytest.mark.parametrize(
  ('noise', 'bits', 'clients', 'least'),
  [
    (DiscreteGaussianNoise(noise_multiplier=1.0), 16, 10, 10),
    (DiscreteGaussianNoise(noise_multiplier=30.0), 28, 10, 6400),
    (SkellamNoise(noise_multiplier=1.0), 16, 10, 10),
    (SkellamNoise(noise_multiplier=10.0), 20, 100, 100),
  ],
  ids=['gauss', 'gauss_two_tables', 'skellam', 'skellam_strong'],
)
def test_variance_is_right_in_both_tails(noise, bits, clients, least):
  """False alarm 1e-5; 5 % of the deviation more or less is refused at 1e-100 and beyond."""
  share, variance = message(noise, bits, clients)
  assert variance > least**2
  assert tails(share, variance) > 1e-5
  assert tails(share, 0.95**2 * variance) < 1e-20
  assert tails(share, 1.05**2 * variance) < 1e-20
  # Residues modulo 8, 5 deviations each: 5e-6 in all.
  counts = np.bincount(share.astype(np.int64) % 8, minlength=8) / DIM
  assert np.abs(counts - 1 / 8).max() < 5 * np.sqrt(7 / 64 / DIM)
  assert abs(np.mean(share)) < 5 * np.sqrt(variance / DIM)


def test_of_the_test_poisson_in_float32_gives_even_numbers_only():
  tf.random.set_seed(0)
  drawn = tf.random.poisson([1000], 2.0**26).numpy().astype(np.int64)
  assert np.all(drawn % 2 == 0)
