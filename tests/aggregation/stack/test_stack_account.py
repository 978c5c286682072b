"""The account: survivors, colluders, rejected rounds, what has no guarantee."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf
from stack_runs import DELTA, messages, run, serve, silent_sums, stack_of, stream

from tff_privacy_agg import accounting
from tff_privacy_agg.aggregation.domains import Channel, Cohort
from tff_privacy_agg.aggregation.layers import (
  AdaptiveQuantile,
  CentralDiscreteGaussianNoise,
  Clipping,
  DiscreteGaussianNoise,
  ForeignSum,
  HadamardRotation,
  Layer,
  Mean,
  PlainSum,
  Quantization,
  SecureModularSum,
  SkellamNoise,
  WeightedMean,
  Zeroing,
)
from tff_privacy_agg.errors import ConfigurationError

DIM = 30
COHORT = Cohort(expected=20, maximum=25, minimum=14, colluding_fraction=0.2)
QUANTILE = AdaptiveQuantile(initial=1.0, target=0.5)
laws = pytest.mark.parametrize('law', [DiscreteGaussianNoise, SkellamNoise], ids=['gauss', 'skel'])


def private_layers(law=DiscreteGaussianNoise, z=1.0, norm=QUANTILE, bits=18):
  return [
    Mean(),
    Zeroing(threshold=QUANTILE),
    Clipping(norm=norm),
    HadamardRotation(),
    Quantization(),
    law(noise_multiplier=z),
    SecureModularSum(bits=bits),
  ]


def mu_squared_by_hand(binding, honest):
  """The total of squared norms over variances, from the numbers of the design: without t."""
  design = binding.design
  parts = [(design.l2_bound, design.local_variance)]
  parts += [(plan.resolution, plan.local_variance) for plan in binding.channels]
  return sum(l2**2 / (honest * v) for l2, v in parts)


def expected_of(binding, honest):
  """Epsilon of one round: the continuous Gaussian's, or Skellam noise's at the best order."""
  if binding.law == 'skellam':
    return accounting.epsilon(curve_by_hand(binding, honest), DELTA)[0]
  return accounting.gaussian_epsilon(math.sqrt(mu_squared_by_hand(binding, honest)), DELTA)


def curve_by_hand(binding, honest):
  """The vector's curve and those of the channels, from the numbers of the design."""
  design, law = binding.design, binding.law
  parts = [(design.l2_bound, design.l1_bound, design.local_variance, design.dimension)]
  for plan in binding.channels:
    parts.append((plan.resolution, plan.resolution, plan.local_variance, 1))
  curves = []
  for l2, l1, v, dim in parts:
    if law == 'skellam':
      l2 = math.sqrt(math.floor(l2**2 * (1 + 1e-12)))  # the squared norm of integers is one
      curves.append(accounting.skellam(l2, l1, local_variance=v, honest=honest))
    else:
      curves.append(accounting.discrete_gaussian(l2, l1, v, honest, dim))
  return accounting.compose(curves)


@laws
def test_epsilon_is_that_of_the_survivors_who_were_honest(law):
  """Within 0.5 % above the Gaussian's, or the best order's of Skellam noise; never below it."""
  stack = stack_of(private_layers(law), DIM, COHORT)
  state, curves, mu_squared = stack.init(), [], 0.0
  for survivors in (20, 25, 10, 18, 1, 22):
    honest = survivors - survivors // 5
    curves.append(curve_by_hand(stack.binding, honest))
    state, _, measurements = serve(stack, state, silent_sums(stack, survivors))
    privacy = measurements['privacy']
    mu_squared += mu_squared_by_hand(stack.binding, honest)
    expected, _ = accounting.epsilon(accounting.compose(curves), DELTA)
    if law is DiscreteGaussianNoise:
      exact = accounting.gaussian_epsilon(math.sqrt(mu_squared), DELTA)
      assert 0.85 * expected < exact < 0.96 * expected
      expected = exact
    assert -1e-5 <= float(privacy['epsilon']) - expected <= 0.005 * expected
    assert privacy['release_epsilon'] == privacy['epsilon']
    assert (privacy['survivors'], privacy['honest']) == (survivors, honest)
    assert privacy['accepted'] == (honest >= 14)
    assert privacy['rounds'] == len(curves)
    assert privacy['delta'] == DELTA
  costs = stack.binding.costs
  planned, _ = stack.binding.account.epsilon(6 * costs[20], DELTA, 0.0)
  assert float(privacy['epsilon']) > 1.2 * planned  # what the plan alone would have said


@laws
def test_noise_multiplier_covers_vector_and_channels_at_the_minimum(law):
  """The Gaussian of that noise multiplier is what the round costs, to 3 %."""
  stack = stack_of(private_layers(law, z=2.0), DIM, COHORT)
  assert stack.binding.noise_multiplier(14) == pytest.approx(2.0, rel=1e-3)
  assert stack.binding.noise_multiplier(14) >= 2.0 * (1 - 1e-9)
  found, _ = accounting.epsilon(curve_by_hand(stack.binding, 14), DELTA)
  gaussian, _ = accounting.epsilon(accounting.gaussian(2.0), DELTA)
  assert gaussian * (1 - 1e-6) <= found <= 1.03 * gaussian
  for honest in range(1, 21):
    multiplier = stack.binding.noise_multiplier(honest)
    assert multiplier == pytest.approx(2.0 * math.sqrt(honest / 14), rel=1e-3)


@laws
def test_a_round_with_too_few_honest_survivors_changes_nothing_but_the_account(law):
  stack = stack_of(private_layers(law), DIM, COHORT)
  state = stack.init()
  values = np.random.default_rng(0).normal(size=[16, DIM])  # 13 honest
  new, vector, measurements = run(stack, values, state)
  assert not measurements['privacy']['accepted']
  assert not vector.any()
  for name in ('zeroing', 'clipping', 'rotation'):
    for key, old in state[name].items():
      np.testing.assert_array_equal(new[name][key], old)
  assert new['privacy']['rounds'] == 1
  expected = expected_of(stack.binding, 13)
  assert float(measurements['privacy']['epsilon']) == pytest.approx(expected, rel=0.005)

  new, vector, measurements = run(stack, values.repeat(2, axis=0)[:17], state)  # 14 honest
  assert measurements['privacy']['accepted']
  assert vector.all()
  assert any(np.any(new[name][key] != old) for name in state for key, old in state[name].items())


@pytest.mark.parametrize('survivors', [*range(4, 20), 100, 1024, 2**20])
def test_a_cohort_above_the_maximum_is_refused_at_every_size(survivors):
  """Also at sizes that a short counter would take for a small one."""
  cohort = Cohort(expected=3, minimum=1)
  stack = stack_of([Mean(), Clipping(norm=1.0), PlainSum()], DIM, cohort)
  message = messages(stack, stack.init(), [np.ones(DIM)])[0]
  sums = {name: value * survivors for name, value in message.items()}
  with pytest.raises(tf.errors.InvalidArgumentError, match='admits at most 3 clients'):
    stack.server(stack.init(), sums, None)


def test_an_empty_round_is_refused():
  stack = stack_of(private_layers(), DIM, COHORT)
  with pytest.raises(tf.errors.InvalidArgumentError, match='needs at least one client'):
    stack.server(stack.init(), silent_sums(stack, 0), None)


def test_a_cohort_that_no_counter_holds_is_refused():
  cohort = Cohort(expected=2**40, minimum=1)
  with pytest.raises(ConfigurationError, match=r'Lower `Cohort\.maximum`'):
    stack_of([WeightedMean(maximum=1.0), PlainSum()], DIM, cohort)


def test_central_noise_protects_what_is_released_and_not_from_the_server():
  layers = [Zeroing(threshold=QUANTILE), Clipping(norm=QUANTILE)]
  layers += [CentralDiscreteGaussianNoise(noise_multiplier=2.0), PlainSum()]
  stack = stack_of(layers, DIM, Cohort(expected=20, minimum=1))
  state = stack.init()
  for rounds in (1, 2, 3):
    sums = silent_sums(stack, 5)
    state, _, measurements = serve(stack, state, sums, stream(rounds))
    privacy = measurements['privacy']
    expected = accounting.gaussian_epsilon(math.sqrt(rounds) / 2.0, DELTA)
    assert privacy['epsilon'] == math.inf
    assert -1e-6 <= float(privacy['release_epsilon']) - expected <= 0.005 * expected
    assert 2.0 <= privacy['noise_multiplier'] <= 2.0 * (1 + 1e-5)


class AnyFactory:
  """Stands for a TFF factory: the layer only looks for `create`."""

  def create(self, value_type):
    raise NotImplementedError


def test_a_foreign_sum_claims_nothing_against_the_server():
  """It may show the server the sum before the modulus; what is released is as private."""
  foreign = ForeignSum(factory=AnyFactory(), modulus=2**18)
  stack = stack_of([*private_layers()[:-1], foreign], DIM, COHORT)
  _, _, measurements = serve(stack, stack.init(), silent_sums(stack, 20))
  expected = expected_of(stack.binding, 16)
  assert measurements['privacy']['epsilon'] == math.inf
  assert measurements['privacy']['release_epsilon'] == pytest.approx(expected, rel=0.005)


@pytest.mark.filterwarnings('ignore:.* bits round .* coordinates:UserWarning')
@pytest.mark.parametrize(
  'layers',
  [
    [Clipping(norm=1.0), Quantization(), SecureModularSum(bits=16)],
    [Clipping(norm=1.0), PlainSum()],
    [PlainSum()],
  ],
  ids=['secure', 'clipped', 'plain'],
)
def test_without_noise_epsilon_is_infinite(layers):
  stack = stack_of(layers, DIM)
  state = stack.init()
  for seed in range(2):
    state, _, measurements = run(stack, [np.ones(DIM)] * 3, state, seed=seed)
    privacy = measurements['privacy']
    assert privacy['epsilon'] == privacy['release_epsilon'] == math.inf
    assert privacy['noise_multiplier'] == 0


@laws
def test_nothing_of_the_account_depends_on_the_clip(law):
  """The noise is the same in units of the clip, however small it gets."""
  values = np.random.default_rng(0).normal(size=[20, DIM])
  outcomes = []
  for clip in (1.0, 1e-2, 1e-4):
    stack = stack_of(private_layers(law, norm=clip), DIM, COHORT)
    state = stack.init()
    state['rotation'] = {'seed': tf.constant([1, 0], tf.int64)}
    _, vector, measurements = run(stack, values, state)
    outcomes.append((stack.binding.design, vector / clip, measurements['privacy']))
  for design, vector, privacy in outcomes[1:]:
    assert design == outcomes[0][0]
    np.testing.assert_allclose(vector, outcomes[0][1], rtol=1e-3, atol=1e-4)
    for key, value in privacy.items():
      assert value == outcomes[0][2][key]


@laws
def test_nothing_of_the_account_depends_on_an_adapted_clip(law):
  stack = stack_of(private_layers(law), DIM, COHORT)
  found = []
  for norm in (1.0, 1e-2, 1e-4, 1e-12):
    state = stack.init()
    state['clipping'] = {'norm': tf.constant(norm)}
    _, vector, measurements = serve(stack, state, silent_sums(stack, 20))
    assert np.all(np.isfinite(vector))
    found.append({key: float(value) for key, value in measurements['privacy'].items()})
  assert all(one == found[0] for one in found)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shout(Layer):
  """A layer that sends what it was not to send."""

  number: float
  name: str = 'shout'

  @property
  def channels(self):
    return {'volume': Channel()}

  def output_domain(self, domain):
    return domain

  def encode(self, slot, params, value):
    return value, {'volume': tf.constant(self.number, tf.float64)}


@pytest.mark.parametrize(
  ('number', 'at_most'),
  [(1e9, 1.0), (-3.0, -1.0), (math.inf, 0.0), (-math.inf, 0.0), (math.nan, 0.0), (1.0078, 1.0)],
)
def test_a_custom_layer_cannot_exceed_the_sensitivity_of_its_channel(number, at_most):
  """The stack clips: the message is the one of a layer that kept its word."""
  sent = []
  for each in (number, at_most):
    layers = [Shout(number=each), *private_layers()]
    stack = stack_of(layers, DIM, COHORT)
    state = stack.init()
    state['rotation'] = {'seed': tf.constant([1, 0], tf.int64)}
    (message,) = messages(stack, state, [np.ones(DIM)])
    sent.append(message)
  for name in ('vector', 'channels'):
    np.testing.assert_array_equal(sent[0][name], sent[1][name])


@pytest.mark.filterwarnings('ignore:.* bits round .* coordinates:UserWarning')
def test_channels_keep_to_the_layer_that_they_are_of():
  """Clipping's and zeroing's bits, exact in a stack without noise."""
  layers = [
    Zeroing(threshold=AdaptiveQuantile(initial=3.0, target=0.5)),
    Clipping(norm=AdaptiveQuantile(initial=1.0, target=0.5)),
    Quantization(),
    SecureModularSum(bits=16),
  ]
  stack = stack_of(layers, 1)
  lengths = [0.5, 0.9, 2.0, 2.5, 2.9, 4.0, 5.0, np.nan]  # a zeroed vector is below the clip
  _, _, measurements = run(stack, [[length] for length in lengths])
  assert measurements['zeroing']['above'] == pytest.approx(3 / 8)
  assert measurements['clipping']['below'] == pytest.approx(5 / 8)


def test_survivors_and_model_are_the_only_public_numbers():
  """Every measurement of a private stack is a noised channel's, a state's, or the account's."""
  stack = stack_of(private_layers(), DIM, COHORT)
  _, _, measurements = run(stack, np.ones([20, DIM]))
  assert {name: list(entry) for name, entry in measurements.items()} == {
    'zeroing': ['threshold', 'above'],
    'clipping': ['norm', 'below'],
    'privacy': [
      'epsilon',
      'release_epsilon',
      'delta',
      'noise_multiplier',
      'rounds',
      'survivors',
      'honest',
      'accepted',
    ],
  }
  assert stack.binding.facts()['public'] == ['number of survivors']
