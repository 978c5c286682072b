"""The ledger and the computation take the same costs from the same stack."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tff_privacy_agg.aggregation import binding, layers
from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.ledger.costs.rounds import price_of
from tff_privacy_agg.ledger.facts import LedgerFacts


@pytest.mark.parametrize('noise', [layers.DiscreteGaussianNoise, layers.SkellamNoise])
def test_costs_are_the_rows_of_the_table_in_the_computation(noise):
  stack = [
    layers.Mean(),
    layers.Zeroing(threshold=layers.AdaptiveQuantile(initial=10.0, target=0.98)),
    layers.Clipping(norm=layers.AdaptiveQuantile(initial=1.0, target=0.5)),
    layers.HadamardRotation(),
    layers.Quantization(),
    noise(noise_multiplier=1.5),
    layers.SecureModularSum(bits=20),
  ]
  cohort = Cohort(expected=30, minimum=20, colluding_fraction=0.1)
  bound = binding.bind(stack, cohort, 100, tf.float32)
  facts = LedgerFacts(stack=bound.facts(), delta=1e-5, population=1000)
  costs = facts.costs()
  assert costs.account.name == {'skellam': 'renyi'}.get(bound.law, 'gaussian')
  for honest in (1, 7, 20, 30):
    np.testing.assert_array_equal(costs.row(honest), bound.costs[honest])
    assert costs.price.noise_multiplier(honest) == pytest.approx(bound.noise_multiplier(honest))


def test_central_costs_are_those_of_the_whole_round():
  stack = [
    layers.Mean(),
    layers.Clipping(norm=layers.AdaptiveQuantile(initial=1.0, target=0.5)),
    layers.CentralDiscreteGaussianNoise(noise_multiplier=1.5),
    layers.PlainSum(),
  ]
  bound = binding.bind(stack, Cohort(expected=30), 100, tf.float32)
  facts = LedgerFacts(stack=bound.facts(), delta=1e-5, population=1000)
  costs = facts.costs()
  np.testing.assert_array_equal(costs.row(1), bound.worst_round)
  assert costs.price.noise_multiplier(1) == pytest.approx(1.5, rel=1e-5)
  assert not costs.price.distributed
  without = {key: value for key, value in bound.facts().items() if key != 'price'}
  of_designs = price_of(without)
  for own, other in zip(of_designs.vectors, bound.price.vectors, strict=True):
    assert own == dataclasses.replace(other, draw_distance=own.draw_distance)
