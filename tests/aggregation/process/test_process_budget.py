"""A budget that the computation keeps itself, whoever runs it."""

import cases
import numpy as np
import pytest
import tensorflow_federated as tff

import tff_privacy_agg as tpa

pytestmark = pytest.mark.integration

COHORT = tpa.Cohort(expected=4, minimum=3)
VALUE = np.array([0.5, 0.25, 0, 0], np.float32)
BUDGET = tpa.Budget(epsilon=6.0, delta=1e-5)


def stack_with(budget, z=2.0, last=None, **kwargs):
  back = [tpa.Quantization(), tpa.DiscreteGaussianNoise(noise_multiplier=z)]
  back = [*back, tpa.SecureModularSum(bits=20)] if last is None else last
  layers = [tpa.Clipping(norm=tpa.AdaptiveQuantile(initial=1.0, target=0.5)), *back]
  return tpa.compose(layers, cohort=COHORT, budget=budget, **kwargs)


def test_process_halts_itself_and_stays_halted():
  process = stack_with(BUDGET).create(cases.VECTOR)
  state, spent = process.initialize(), []
  for _ in range(30):
    output = process.next(state, [VALUE] * 4)
    privacy = output.measurements['privacy']
    if privacy['halted']:
      break
    state = output.state
    spent.append(float(privacy['epsilon']))
    assert np.any(output.result)
  assert len(spent) >= 2
  assert spent == sorted(spent)
  assert spent[-1] <= BUDGET.epsilon
  again = process.next(output.state, [VALUE * 7] * 4)  # as after a restart from the checkpoint
  for halted in (output, again):
    assert not np.any(halted.result)
    assert not halted.measurements['privacy']['accepted']
    assert halted.measurements['privacy']['epsilon'] == spent[-1]
    np.testing.assert_array_equal(halted.state['privacy']['cost'], state['privacy']['cost'])
    assert halted.state['clipping'] == state['clipping']


@pytest.mark.parametrize('dtype', [np.float32, np.float64, np.int32, np.int64])
def test_a_halted_client_sends_no_weight_of_whatever_type(dtype):
  """All in one direction, so that noise and zeros can be told from the clients' weights."""
  layers = [tpa.WeightedMean(maximum=10.0), tpa.Clipping(norm=1.0), tpa.Quantization()]
  layers += [tpa.DiscreteGaussianNoise(noise_multiplier=20.0), tpa.SecureModularSum(bits=30)]
  budget = tpa.Budget(epsilon=0.2, delta=1e-5)
  factory = tpa.compose_weighted(layers, cohort=COHORT, budget=budget)
  process = factory.create(cases.VECTOR, tff.TensorType(dtype))
  state, halted = process.initialize(), []
  for _ in range(4):
    output = process.next(state, [VALUE] * 4, [dtype(10)] * 4)
    state = output.state
    halted.append(bool(output.measurements['privacy']['halted']))
  assert not halted[0]
  assert halted[-1]
  assert not np.any(output.result)


def test_the_metrics_speak_of_the_budgets_delta_unless_another_is_given():
  assert stack_with(BUDGET).delta == BUDGET.delta
  assert stack_with(BUDGET, delta=1e-7).delta == 1e-7
  assert stack_with(None).delta == 1e-6


CENTRAL = (tpa.CentralDiscreteGaussianNoise(noise_multiplier=2.0), tpa.PlainSum())


@pytest.mark.parametrize(
  ('budget', 'kwargs', 'sentence'),
  [
    (
      tpa.Budget(epsilon=0.1, delta=1e-5),
      {},
      'A single round at noise multiplier 2 exceeds the budget',
    ),
    (BUDGET, {'last': CENTRAL}, "the server's view, .* view='release'"),
    (BUDGET, {'last': (tpa.PlainSum(),)}, 'epsilon is infinite. Add distributed noise'),
  ],
  ids=['too small', 'central', 'no noise'],
)
def test_a_budget_that_admits_no_round_is_refused_before_tracing(budget, kwargs, sentence):
  with pytest.raises(tpa.ConfigurationError, match=sentence):
    stack_with(budget, **kwargs).create(cases.VECTOR)


def test_a_budget_that_is_none_is_refused():
  with pytest.raises(tpa.ConfigurationError, match='budget'):
    stack_with(6.0)


def test_central_noise_keeps_a_budget_of_what_is_released():
  budget = tpa.Budget(epsilon=6.0, delta=1e-5, view='release')
  process = stack_with(budget, last=CENTRAL).create(cases.VECTOR)
  state = process.initialize()
  halted = []
  for _ in range(30):
    output = process.next(state, [VALUE] * 4)
    state = output.state
    halted.append(bool(output.measurements['privacy']['halted']))
    assert output.measurements['privacy']['release_epsilon'] <= budget.epsilon
  assert halted == sorted(halted)
  assert halted[-1]
  assert not halted[0]
