"""Every rare path with chosen bits against big integers, and the distance of what is drawn.

Ties at each level, the remainder, the sum of two tables: nothing here is left to chance.
"""

import dataclasses
import math
from fractions import Fraction

import mpmath
import noise_reference
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

import tff_privacy_agg as tpa
from tff_privacy_agg import accounting
from tff_privacy_agg._names import RANDOMNESS
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.numerics import alias, alias_draws, probabilities, randomness, samplers
from tff_privacy_agg.numerics.randomness import MODEL_NOISE
from tff_privacy_agg.numerics.samplers import noise_sampler

TABLES = [
  ('skellam', 0.25),
  ('skellam', 50**2),
  ('discrete_gaussian', 0.01),
  ('discrete_gaussian', 7.0625),
  ('discrete_gaussian', 90**2),
  ('discrete_gaussian', 200**2),
  ('discrete_gaussian', 201**2),
  ('discrete_gaussian', 3500**2),
  ('discrete_gaussian', 6400**2),
]
tables = pytest.mark.parametrize(('mechanism', 'variance'), TABLES)


def words_of_numbers(numbers, bits):
  """Unsigned numbers of 32 or 64 bits as words, the lower word first."""
  return np.array(numbers, np.uint64 if bits == 64 else np.uint32).view(np.int32)


class Script:
  """A stream that returns chosen words, numbers of 96 bits for ties and of 128 for the remainder."""

  def __init__(self, words, ties=(), remainders=(), table=0):
    high = words_of_numbers([tie >> 32 for tie in ties], 64)
    low = words_of_numbers([tie & (2**32 - 1) for tie in ties], 32)
    pairs = [part for r in remainders for part in (r >> 64, r & (2**64 - 1))]
    self.by_stream = {
      MODEL_NOISE: np.array(words, np.uint32).view(np.int32),
      randomness.tie_stream(MODEL_NOISE, table): np.concatenate([high, low]),
      randomness.remainder_stream(MODEL_NOISE, table): words_of_numbers(pairs, 64),
    }

  def words(self, stream, count):
    words = self.by_stream.get(stream, np.zeros(0, np.int32))  # traced, and not drawn from
    if not tf.is_tensor(count):  # for as many ties as there are draws
      words = np.pad(words, (0, count - len(words)))
    check = tf.debugging.assert_equal(count, len(words))
    with tf.control_dependencies([check] if check is not None else []):
      return tf.constant(words, tf.int32)


def packed_words(numbers, table):
  """The words that hold chosen numbers: first their low 16 bits, then the 8 above them."""
  low = np.array(numbers + [0] * (-len(numbers) % 2), np.int64) & 0xFFFF
  words = low.astype(np.uint16).view(np.uint32).tolist()
  if table.draw_bits == 24:
    high = np.array(numbers + [0] * (-len(numbers) % 4), np.int64) >> 16
    words += high.astype(np.uint8).view(np.uint32).tolist()
  return words


@dataclasses.dataclass
class Draws:
  """Chosen bits of draws from one table, and what big integers say of them."""

  table: alias.AliasTable
  numbers: list = dataclasses.field(default_factory=list)
  ties: list = dataclasses.field(default_factory=list)
  remainders: list = dataclasses.field(default_factory=list)
  expected: list = dataclasses.field(default_factory=list)

  def __post_init__(self):
    self.thresholds, self.aliases = noise_reference.thresholds_of(self.table)
    self.bounds = noise_reference.remainder_thresholds(self.table)

  def add(self, column, uniform, remainder=None):
    """One draw: a column, a number of B - k bits, and one of 128 where it is the remainder's."""
    threshold, rest = self.thresholds[column], alias.TIE_BITS
    self.numbers.append(uniform >> rest << self.table.log_columns | column)
    if uniform >> rest == threshold >> rest:
      self.ties.append(uniform & (2**rest - 1))
    value = column if uniform < threshold else self.aliases[column]
    if value < self.table.columns - 1:
      self.expected.append(value + self.table.offset)
      return
    self.remainders.append(remainder)
    magnitude = sum(bound <= remainder for bound in self.bounds)
    self.expected.append(-magnitude if remainder % 2 else magnitude)

  def script(self):
    return Script(packed_words(self.numbers, self.table), self.ties, self.remainders)


def at_thresholds(table) -> Draws:
  """All columns, at, one below and one above each of the three parts of the threshold."""
  draws = Draws(table)
  limit = 1 << (table.draw_bits + alias.TIE_BITS - table.log_columns)
  for column, threshold in enumerate(draws.thresholds):
    beside = (-(2**96), -(2**32), -1, 0, 1, 2**32, 2**96)
    for uniform in (0, *(threshold + by for by in beside), limit - 1):
      if 0 <= uniform < limit:
        draws.add(column, uniform, remainder=12_345)
  return draws


def in_remainder(table) -> Draws:
  """The ends and every threshold of the remainder, or a selection: at and next to both parts."""
  draws = Draws(table)
  last = table.columns - 1
  step = max(1, len(draws.bounds) // 30)
  chosen = draws.bounds[:3] + draws.bounds[3:-3:step] + draws.bounds[-3:]
  beside = [b + by for b in chosen for by in (-(2**64), -2, -1, 0, 1, 2, 2**64)]
  for i, remainder in enumerate((0, 1, 2**64, 2**127 + 1, 2**128 - 2, 2**128 - 1, *beside)):
    if 0 <= remainder < 2**128:
      # All that the last column's threshold leaves, from 0 to one below it.
      draws.add(last, (0, 1, draws.thresholds[last] - 1)[i % 3], remainder)
      draws.add(last, draws.thresholds[last])
  return draws


def drawn(sampler, draws):
  return sampler.sample(draws.script(), MODEL_NOISE, len(draws.numbers)).numpy()


@tables
def test_every_column_at_and_beside_its_threshold(mechanism, variance):
  sampler = noise_sampler(mechanism, variance)
  draws = at_thresholds(sampler.tables[0])
  np.testing.assert_array_equal(drawn(sampler, draws), draws.expected)
  assert len(draws.ties) >= 2 * np.count_nonzero(draws.thresholds)
  assert draws.remainders


@tables
def test_the_remainder_at_and_beside_its_thresholds(mechanism, variance):
  sampler = noise_sampler(mechanism, variance)
  (table,) = sampler.tables
  draws = in_remainder(table)
  values = drawn(sampler, draws)
  np.testing.assert_array_equal(values, draws.expected)
  if table.radius > table.columns // 2:
    assert values.min() == -table.radius == -sampler.radius
    assert values.max() == table.radius
    assert np.abs(values).max() > table.columns // 2 - 1  # beyond the columns


def reached(table, name, part, change):
  """The table with one of its arrays changed."""
  arrays = dataclasses.replace(getattr(table, name), **{part: change})
  return dataclasses.replace(table, **{name: arrays})


MUTANTS = {
  'no high words': lambda t: reached(t, 'rest', 'high', 0 * t.rest.high),
  'no low words': lambda t: reached(t, 'rest', 'low', 0 * t.rest.low),
  'high words less one': lambda t: reached(t, 'rest', 'high', t.rest.high - np.uint64(1)),
  'low words less one': lambda t: reached(t, 'rest', 'low', t.rest.low - np.uint32(1)),
  'remainder: low less one': lambda t: reached(
    t, 'remainder', 'low', t.remainder.low - np.uint64(1)
  ),
  'remainder: high less one': lambda t: reached(
    t, 'remainder', 'high', t.remainder.high - np.uint64(1)
  ),
  'remainder: one value less': lambda t: dataclasses.replace(
    t, remainder=alias.Thresholds(high=t.remainder.high[:-1], low=t.remainder.low[:-1])
  ),
}


@pytest.mark.parametrize('mutant', MUTANTS)
@pytest.mark.parametrize('variance', [7.0625, 201**2])
def test_of_the_test_a_changed_table_is_noticed(mutant, variance):
  sampler = noise_sampler('discrete_gaussian', variance)
  changed = dataclasses.replace(sampler, tables=(MUTANTS[mutant](sampler.tables[0]),))

  def agrees(draws):
    try:
      return np.array_equal(drawn(changed, draws), draws.expected)
    except tf.errors.InvalidArgumentError:  # other draws than those expected fell on the remainder
      return False

  assert not all(agrees(make(sampler.tables[0])) for make in (at_thresholds, in_remainder))


def test_the_rare_paths_in_tffs_worker():
  """The kernels that only a remainder needs run there, and each table has streams of its own."""
  sampler = noise_sampler('discrete_gaussian', 1e4**2)
  first, second = sampler.tables
  far = Draws(second)
  far.add(second.columns - 1, 0, 2**128 - 1)
  near = Draws(first)
  near.add(first.columns // 2 - 1, 0)  # zero's own column
  script = Script(
    packed_words(near.numbers, first) + packed_words(far.numbers, second),
    far.ties,
    far.remainders,
    table=1,
  )

  @tff.tensorflow.computation(np.int32)
  def sample(unfoldable):
    return sampler.sample(script, MODEL_NOISE, 1) + 0 * unfoldable

  with tpa.runtime.simulation_context():
    assert sample(7) == [-sampler.stride * second.radius]


@pytest.mark.parametrize('kind', tuple(RANDOMNESS))
def test_the_remainder_of_a_true_stream(kind):
  """Drawn in a graph, 1,000 at once: every one is the inversion of its own 128 bits."""
  table = alias.alias_table('discrete_gaussian', Fraction(50) ** 2)
  stream = randomness.RandomStream(kind=kind, key=tf.range(8))
  number = randomness.remainder_stream(MODEL_NOISE, 0)

  @tf.function(autograph=False, input_signature=[tf.TensorSpec([], tf.int32)])
  def draw(count):
    return alias_draws.remainder(table, stream, number, count)

  words = stream.words(number, 4000).numpy().view(np.uint64).tolist()
  bits = [high << 64 | low for high, low in zip(words[::2], words[1::2], strict=True)]
  bounds = noise_reference.remainder_thresholds(table)
  magnitudes = [sum(bound <= one for bound in bounds) for one in bits]
  expected = [(1 - 2 * (one % 2)) * m for one, m in zip(bits, magnitudes, strict=True)]
  np.testing.assert_array_equal(draw(1000) + table.offset, expected)
  assert 0 < np.count_nonzero(magnitudes) < 1000


@pytest.mark.parametrize('sigma', [6401, 1e4, 123_456.5, 1e6])
def test_two_tables_have_exactly_the_variance(sigma):
  sampler = noise_sampler('discrete_gaussian', Fraction(sigma) ** 2)
  first, second = sampler.tables
  assert first.variance + sampler.stride**2 * second.variance == Fraction(sigma) ** 2
  assert len(sampler.tables) == 2
  assert max(table.columns for table in sampler.tables) <= 2**15
  assert sampler.distance < 2.0**-181
  assert sampler.radius < 2**31


def smoothing_in_full(first, second, stride):
  """Most that the probability of a sum differs from the Gaussian's, relatively, in 320 bits.

  At z it is the sum over n of exp(-(n - y)^2 / 2 s^2) over its mean, where y = z s^2 m / v_1.
  """
  with mpmath.workprec(noise_reference.PRECISION):
    square = first * second / (first + stride**2 * second)
    square = mpmath.mpf(square.numerator) / square.denominator
    mean = mpmath.sqrt(2 * mpmath.pi * square)

    def at(y):
      return mpmath.fsum(mpmath.exp(-((n - y) ** 2) / (2 * square)) for n in range(-80, 81)) / mean

    return max(abs(at(mpmath.mpf(y) / 8) - 1) for y in range(8))


@pytest.mark.parametrize('sigma', [6401, 6502, 8000, 12_345.6, 1e5, 999_999])
def test_the_smoothing_error_bounds_what_the_sum_differs_by(sigma):
  parts = samplers._two_variances(Fraction(sigma) ** 2)
  differs = smoothing_in_full(*parts)
  bound = samplers._smoothing_error(*parts)
  with mpmath.workprec(noise_reference.PRECISION):
    stated = mpmath.mpf(bound.numerator) / bound.denominator
    assert differs / (1 - differs) < stated < 2.1 * differs
    assert stated < mpmath.mpf(2) ** -182


def test_every_deviation_above_one_table_smooths_enough():
  for sigma in np.geomspace(6400.001, 1e6, 3001):
    variance = min(Fraction(sigma) ** 2, Fraction(10**12))
    first, second, stride = samplers._two_variances(variance)
    assert first + stride**2 * second == variance
    # With the tables' own 2 * 2^-188 a draw stays below 2^-182.
    assert samplers._smoothing_error(first, second, stride) < Fraction(11, 10 * 2**183)
    assert max(first, second) < 1600**2


def test_of_the_test_less_smoothing_is_further_than_stated(monkeypatch):
  """2.2, which served 2^-77, leaves 2^-137; and it is refused."""
  monkeypatch.setattr(samplers, '_TARGET_SMOOTHING', 2.2)
  parts = samplers._two_variances(Fraction(10**5) ** 2)
  assert smoothing_in_full(*parts) > 2.0**-140
  with pytest.raises(ConfigurationError, match='smooth'):
    samplers._smoothing_error(*parts)


def test_two_table_sum_is_the_discrete_gaussian():
  """The smoothing bound covers the exact convolution, at a stride where float64 can see it."""
  first, second, stride = 12.0, 0.75, 4  # s = 0.612: relative error about 1e-3
  x = np.arange(-400, 401)

  def mass(variance):
    weights = np.exp(-(x**2) / (2 * variance))
    return weights / weights.sum()

  spread = np.zeros(x.size)
  spread[x % stride == 0] = mass(second)[np.abs(x) <= 400 // stride]
  exact = np.convolve(mass(first), spread, mode='same')
  total_variation = np.abs(exact - mass(first + stride**2 * second)).sum() / 2
  smoothing = 1 / math.sqrt(1 / second + stride**2 / first)
  bound = 1.01 * 2 * math.exp(-2 * (math.pi * smoothing) ** 2)
  assert 0.1 * bound < total_variation <= bound


@pytest.mark.parametrize(
  ('mechanism', 'sigma'),
  [
    *(('discrete_gaussian', s) for s in (0.01, 0.3, 1, 20, 200, 3000, 6400, 6401, 1e5, 1e6)),
    *(('skellam', s) for s in (0.01, 0.3, 1, 20, 200, 3500)),
  ],
)
def test_distance_of_a_draw_is_below_2_to_the_minus_180(mechanism, sigma):
  """With what `test_alias` shows of each table; 10^12 draws at epsilon 50 move delta by 4e-21."""
  sampler = noise_sampler(mechanism, Fraction(sigma) ** 2)
  stated = Fraction(sampler.distance)
  assert stated >= sum(Fraction(table.distance) for table in sampler.tables)
  if sampler.stride:
    parts = (*(table.variance for table in sampler.tables), sampler.stride)
    tables = sum(Fraction(table.distance) for table in sampler.tables)
    assert stated >= tables + samplers._smoothing_error(*parts)
  assert sampler.distance < 2.0**-180
  assert 10**12 * sampler.distance * (1 + math.exp(50)) < 4e-21
  assert stated >= probabilities.PMF_ERROR


def test_the_noise_of_the_central_model_takes_one_table_twice():
  sampler = samplers.noise_sampler('discrete_gaussian', accounting.WIDEST_VARIANCE)
  first, second = sampler.tables
  assert first is second
  assert first.variance * (1 + sampler.stride**2) == accounting.WIDEST_VARIANCE
  assert 0 < sampler.distance < 2**-180
