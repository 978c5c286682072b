"""The tables of edge cases in docs/mechanisms.md: every cell is a claim, and has a check here."""

import math
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from layer_cases import (
  ALL_LAYERS,
  BITS,
  QUANTILE,
  STRATEGY,
  AnyFactory,
  params_for,
  slot_for,
  stream,
)

import tff_privacy_agg as tpa
from tff_privacy_agg.aggregation import binding, layers
from tff_privacy_agg.aggregation.stack import Stack
from tff_privacy_agg.numerics import modular, randomness, samplers

PAGE = pathlib.Path(__file__).parents[3] / 'docs' / 'mechanisms.md'
COLUMNS = ('zeros', 'NaN or infinite', 'exactly at the threshold', 'one client')
ROWS = {
  'Mean': layers.Mean(),
  'WeightedMean': layers.WeightedMean(maximum=10.0),
  'Zeroing': layers.Zeroing(threshold=5.0),
  'Clipping': layers.Clipping(norm=5.0),
  'CoordinateClipping': layers.CoordinateClipping(maximum=(3.0, 4.0)),
  'HadamardRotation': layers.HadamardRotation(),
  'DFTRotation': layers.DFTRotation(),
  'Quantization': layers.Quantization(),
  'DiscreteGaussianNoise': layers.DiscreteGaussianNoise(noise_multiplier=1.0),
  'SkellamNoise': layers.SkellamNoise(noise_multiplier=1.0),
  'CentralDiscreteGaussianNoise': layers.CentralDiscreteGaussianNoise(noise_multiplier=1.0),
  'CorrelatedNoise': layers.CorrelatedNoise(noise_multiplier=1.0, strategy=STRATEGY),
  'SecureModularSum': layers.SecureModularSum(bits=BITS),
  'ForeignSum': layers.ForeignSum(factory=AnyFactory(), modulus=2**BITS),
  'PlainSum': layers.PlainSum(),
}
AT_FIVE = (3.0, 4.0)  # a norm of exactly 5, in floats too
NOT_FINITE = (math.nan, math.inf, -math.inf)


class Tried:
  """A layer, and what it makes of one client's two numbers."""

  def __init__(self, layer):
    self.layer, self.slot = layer, slot_for(layer, dim=2)
    self.params = params_for(layer, self.slot)
    self.design = self.slot.design

  def encode(self, value, **params):
    integers = isinstance(self.layer, layers.ModularTerminal) or (
      isinstance(self.layer, layers.Mechanism) and self.layer.distributed
    )
    dtype = modular.dtype_for(self.design.bits) if integers else self.slot.dtype
    given = tf.constant(value, dtype)
    encoded, numbers = self.layer.encode(self.slot, {**self.params, **params}, given)
    return encoded.numpy(), {name: float(number) for name, number in numbers.items()}

  def alone(self, value, **sums):
    """What the server decodes if this client is the only one."""
    encoded, numbers = self.encode(value)
    if self.layer.keeps_noise:
      state, total = self.layer.init(self.slot), tf.constant(encoded)
      return self.layer.decode_keeping(self.slot, self.params, total, state)[0].numpy()
    sums = {'survivors': tf.constant(1.0), **numbers, **sums}
    return self.layer.decode(self.slot, self.params, tf.constant(encoded), sums).numpy()

  def noise(self):
    """What the layer's sampler draws from the stream that `params_for` gives."""
    sampler = samplers.noise_sampler(self.layer.law, self.design.local_variance)
    return sampler.sample(stream(1), randomness.MODEL_NOISE, 2).numpy()


def stays_zeros(one):
  return not one.encode([0, 0])[0].any()


def becomes_zeros(one):
  return not any(one.encode([bad, 0.5])[0].any() for bad in NOT_FINITE)


def is_passed_on(one):
  return all(np.array_equal(one.encode([bad, 1])[0], [bad, 1], True) for bad in NOT_FINITE)


def counts_as_weight_0(one):
  return all(one.encode([1, 2], client_weight=bad)[1] == {'weight': 0.0} for bad in NOT_FINITE)


def becomes_0_alone(one):
  return all(np.allclose(one.alone([bad, 2.0]), [0.0, 2.0]) for bad in NOT_FINITE)


def spreads_to_the_others(one):
  """Infinity less infinity is NaN: what was one coordinate's is in the others, too."""
  spread = [one.encode([bad, 1.0])[0] for bad in NOT_FINITE]
  return not any(np.any(np.isfinite(value)) for value in spread)


def counts_in_full(one):
  value, numbers = one.encode([1.0, 2.0], client_weight=10.0)
  return list(value) == [1.0, 2.0] and numbers == {'weight': 1.0}


def is_kept(one):
  below = np.nextafter(np.float32(5.0), np.float32(0.0))
  lower = Tried(layers.Zeroing(threshold=float(below)))
  return list(one.encode(AT_FIVE)[0]) == [3.0, 4.0] and not lower.encode(AT_FIVE)[0].any()


def is_unchanged(one):
  return np.allclose(one.alone(AT_FIVE), AT_FIVE, rtol=1e-6)


def is_kept_within_the_bound(one):
  sent = one.encode([0.6, 0.8])[0].astype(np.int64)  # a norm of 1: the clip norm itself
  away = one.encode([60.0, 80.0])[0]
  largest = math.floor(one.design.l2_bound**2)
  return 0 < np.sum(sent**2) <= largest and not away.any()


def wraps_at_half_the_modulus(one):
  half = 2 ** (BITS - 1)
  return (
    list(one.alone([half - 1, -half])) == [half - 1, -half] and one.alone([half, 0])[0] == -half
  )


def is_its_value(one):
  return np.allclose(one.alone([1, -2]), [1, -2], rtol=1e-6)


def is_its_value_without_noise(one):
  exact = layers.Slot(dim=2, cohort=one.slot.cohort)
  value, numbers = one.layer.encode(exact, one.params, tf.constant([1.0, -2.0]))
  alone = one.layer.decode(exact, one.params, value, numbers)
  return np.allclose(alone, [1.0, -2.0]) and not is_its_value(one)


def is_its_value_to_one_step(one):
  step = 1 / one.design.scaled_norm
  return np.max(np.abs(one.alone([0.6, -0.5]) - [0.6, -0.5])) <= step * (1 + 1e-3)


def tells_its_bit_through_the_channel(one):
  """Without noise the fraction of one client is its bit, which is why the channel has noise."""
  kind = type(one.layer)
  layer = kind(norm=QUANTILE) if kind is layers.Clipping else kind(threshold=QUANTILE)
  adaptive, (channel,) = Tried(layer), layer.channels
  found = []
  for value in ([0.1, 0.1], [100.0, 100.0]):
    sums = {'survivors': tf.constant(1.0), **adaptive.encode(value)[1]}
    state = layer.init(adaptive.slot)
    found.append(float(layer.update(adaptive.slot, state, adaptive.params, sums)[1][channel]))
  return sorted(found) == [0.0, 1.0]


def carries_one_share(one):
  return list(one.encode([5, -7])[0] - one.noise()) == [5, -7]


def is_noise(one):
  return list(one.encode([0, 0])[0]) == list(one.noise()) and one.noise().any()


def carries_all_the_noise(one):
  expected = (one.noise() + one.encode([0.5, -0.5])[0]) / one.design.scaled_norm
  return np.allclose(one.alone([0.5, -0.5]), expected) and one.noise().any()


CLAIMS = {
  'stays zeros': stays_zeros,
  'becomes noise': is_noise,
  'passed on': is_passed_on,
  'becomes zeros': becomes_zeros,
  'becomes 0, the others stay': becomes_0_alone,
  'a weight counts as 0': counts_as_weight_0,
  'spreads: clip before it': spreads_to_the_others,
  'a weight of `maximum` counts in full': counts_in_full,
  'kept': is_kept,
  'unchanged': is_unchanged,
  'a norm of 1 is sent within B; far beyond, zeros': is_kept_within_the_bound,
  '-2^(b-1) comes back, 2^(b-1) as -2^(b-1)': wraps_at_half_the_modulus,
  'its value': is_its_value,
  'its value, if without noise': is_its_value_without_noise,
  'its value to a step': is_its_value_to_one_step,
  'an adaptive threshold counts its bit': tells_its_bit_through_the_channel,
  'its value with one share of noise': carries_one_share,
  'its value with all the noise': carries_all_the_noise,
}


def round_of(clients: int, cohort: tpa.Cohort):
  """A round of clients that all hold (0.6, -0.8): the state before, and what the server makes of it."""
  stack_layers = (
    tpa.Mean(),
    tpa.Clipping(norm=1.0),
    tpa.Quantization(),
    tpa.DiscreteGaussianNoise(noise_multiplier=0.01),
    tpa.SecureModularSum(bits=20),
  )
  stack = Stack(binding=binding.bind(stack_layers, cohort, 2, tf.float32), delta=1e-6)
  state, value = stack.init(), tf.constant([0.6, -0.8])
  sent = [stack.client(stack.prepare(state), value, stream(client)) for client in range(clients)]
  shapes = stack.client(stack.prepare(state), value, stream(0))
  sums = {name: sum((one[name] for one in sent), tf.zeros_like(shapes[name])) for name in shapes}
  return (state, *stack.server(state, sums, None))


def it_is_refused_when_it_is_built():
  with pytest.raises(tpa.CompositionError, match='at least one number'):
    tpa.compose([tpa.Mean(), tpa.PlainSum()], cohort=tpa.Cohort(expected=1)).bind(
      tff.TensorType(np.float32, [0])
    )


def a_round_of_nobody_fails():
  with pytest.raises(tf.errors.InvalidArgumentError, match='at least one client'):
    round_of(0, tpa.Cohort(expected=2))


def a_round_of_too_many_fails():
  with pytest.raises(tf.errors.InvalidArgumentError, match='at most 2 clients'):
    round_of(3, tpa.Cohort(expected=2))


def a_round_of_too_few_moves_nothing_and_is_charged():
  before, after, vector, measurements = round_of(1, tpa.Cohort(expected=4, minimum=2))
  assert not vector.numpy().any()
  assert not measurements['privacy']['accepted']
  assert np.any(after['privacy']['cost'] > before['privacy']['cost'])


def a_round_of_one_gives_its_value_with_its_noise():
  _, _, vector, measurements = round_of(1, tpa.Cohort(expected=1))
  assert measurements['privacy']['accepted']
  assert 0 < np.linalg.norm(vector - [0.6, -0.8]) < 0.1


ROUNDS = {
  'the values have no coordinate': ('refused when it is built', it_is_refused_when_it_is_built),
  'no client takes part': ('the round fails', a_round_of_nobody_fails),
  'more clients than `Cohort.maximum`': ('the round fails', a_round_of_too_many_fails),
  'fewer honest ones than `Cohort.minimum`': (
    'zeros; nothing moves but the account, which is charged',
    a_round_of_too_few_moves_nothing_and_is_charged,
  ),
  'one client, of a `Cohort(expected=1)`': (
    'its clipped value, with all of the noise from its own share',
    a_round_of_one_gives_its_value_with_its_noise,
  ),
}


def table(heading: str) -> list[list[str]]:
  """The cells of the first table below a heading of the page, head and rule left out."""
  below = PAGE.read_text(encoding='utf-8').split(f'\n## {heading}\n')[1].split('\n## ')[0]
  lines = [line for line in below.splitlines() if line.startswith('|')]
  return [
    [cell.strip() for cell in line.strip('|').split('|')] for line in lines if '|---' not in line
  ]


HEAD, *BODY = table('Edge cases')
CELLS = [
  pytest.param(name, claim, id=f'{name}-{column}')
  for names, *claims in BODY
  for name in re.findall(r'`(\w+)`', names)
  for column, claim in zip(COLUMNS, claims, strict=True)
  if claim != '-'
]


def test_the_table_has_every_layer_once_and_every_claim():
  assert tuple(HEAD[1:]) == COLUMNS
  assert [name for names, *_ in BODY for name in re.findall(r'`(\w+)`', names)] == list(ROWS)
  assert {type(layer) for layer in ROWS.values()} == {type(layer) for layer in ALL_LAYERS}
  assert {claim for _, *claims in BODY for claim in claims} - {'-'} == set(CLAIMS)


@pytest.mark.parametrize(('name', 'claim'), CELLS)
def test_a_cell_of_the_table_is_true(name, claim):
  assert CLAIMS[claim](Tried(ROWS[name]))


def test_the_table_of_rounds_has_every_case():
  _, *rows = table('Edge cases of a round')
  assert [tuple(row) for row in rows] == [(case, claim) for case, (claim, _) in ROUNDS.items()]


@pytest.mark.parametrize('case', ROUNDS)
def test_a_case_of_a_round_is_true(case):
  ROUNDS[case][1]()
