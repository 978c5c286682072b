"""The samplers draw the named law: ties, chi-square, variance, tails, residues, support.

Keys are fixed, so the tests are deterministic; the false alarm rates are those of a fresh key.
"""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tff_privacy_agg._names import DISTRIBUTED, RANDOMNESS
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.numerics import alias_draws, probabilities
from tff_privacy_agg.numerics.randomness import MODEL_NOISE, RandomStream
from tff_privacy_agg.numerics.samplers import noise_sampler

DRAWS = 400_000
DESIGNS = [
  ('skellam', 0.25),
  ('skellam', 1),
  ('skellam', 7.0625),
  ('skellam', 400),
  ('skellam', 3500**2),
  ('discrete_gaussian', 1),
  ('discrete_gaussian', 7.0625),
  ('discrete_gaussian', 400),
  ('discrete_gaussian', 1e5),
  ('discrete_gaussian', 3500**2),
  ('discrete_gaussian', 6400**2),
  ('discrete_gaussian', 6401**2),
  ('discrete_gaussian', 1e4**2),
  ('discrete_gaussian', 1e6**2),
]
designs = pytest.mark.parametrize(('mechanism', 'variance'), DESIGNS)
REFUSAL = 1e-6  # probability below which a chi-square test refuses, in either tail
SIGMAS = 5  # standard errors at which a z test refuses: false alarm 6e-7


def stream_of(seed: int, kind='chacha20') -> RandomStream:
  key = np.random.default_rng(seed).integers(-(2**31), 2**31, 8).astype(np.int32)
  return RandomStream(kind=kind, key=tf.constant(key))


def draw(mechanism, variance, seed=1, count=DRAWS, kind='chacha20'):
  return (
    noise_sampler(mechanism, variance).sample(stream_of(seed, kind), MODEL_NOISE, count).numpy()
  )


def law(mechanism, variance):
  """The support and probabilities in float64, from SciPy or the definition, not the tables."""
  radius = math.ceil(10 * math.sqrt(variance)) + 12
  x = np.arange(-radius, radius + 1)
  if mechanism == 'skellam':
    mass = (
      stats.skellam.pmf(x, variance / 2, variance / 2)
      if variance < 1e4
      else bessel_mass(x, variance)
    )
  else:
    mass = np.exp(-(x.astype(float) ** 2) / (2 * variance))
  return x, mass / mass.sum()


def bessel_mass(x, variance):
  """exp(-v) I_x(v) by its uniform expansion (Abramowitz and Stegun 9.7.7), two terms."""
  root = np.hypot(x, variance)
  exponent = root - variance - np.abs(x) * np.arcsinh(np.abs(x) / variance)
  t = np.abs(x) / root
  order = np.maximum(np.abs(x), 1)
  return (
    np.exp(exponent) / np.sqrt(root) * np.where(x == 0, 1, 1 + (3 * t - 5 * t**3) / (24 * order))
  )


def chi_square_p(sample, mechanism, variance, cells=60):
  """P-value of a sample on cells of about equal probability."""
  x, mass = law(mechanism, variance)
  cdf = np.cumsum(mass)
  upper = np.unique(x[np.searchsorted(cdf, np.arange(1, cells) / cells)])
  expected = np.diff([0, *cdf[upper - x[0]], 1]) * len(sample)
  observed = np.bincount(np.searchsorted(upper, sample), minlength=len(expected))
  keep = expected > 5
  observed = np.append(observed[keep], observed[~keep].sum())
  expected = np.append(expected[keep], expected[~keep].sum())
  used = expected > 0
  return stats.chisquare(observed[used], expected[used] * observed.sum() / expected.sum()).pvalue


def variance_z(sample, mechanism, variance):
  """Standard errors between the sample's second moment and the variance."""
  x, mass = law(mechanism, variance)
  second, fourth = (np.sum(mass * x.astype(float) ** p) for p in (2, 4))
  return (np.mean(sample.astype(float) ** 2) - second) / math.sqrt(
    (fourth - second**2) / len(sample)
  )


def residue_p(sample, modulus, mechanism, variance):
  """P-value of the residues modulo a small number: finds lost low bits."""
  x, mass = law(mechanism, variance)
  expected = np.bincount(x % modulus, mass, modulus) * len(sample)
  return stats.chisquare(np.bincount(sample % modulus, minlength=modulus), expected).pvalue


@designs
def test_draws_have_the_distribution_of_the_mechanism(mechanism, variance):
  sampler = noise_sampler(mechanism, variance)
  sample = draw(mechanism, variance)
  assert sample.dtype == np.int32
  assert sampler.variance == Fraction(variance)
  assert np.abs(sample).max() <= sampler.radius < 2**31
  assert REFUSAL < chi_square_p(sample, mechanism, variance) < 1 - REFUSAL
  assert abs(variance_z(sample, mechanism, variance)) < SIGMAS
  x, mass = law(mechanism, variance)
  for sign in (1, -1):  # each tail by itself
    for sigmas in (0, 3):
      tail = mass[sign * x > sigmas * math.sqrt(variance)].sum()
      error = np.mean(sign * sample > sigmas * math.sqrt(variance)) - tail
      assert abs(error) < SIGMAS * math.sqrt(tail / DRAWS)


@designs
def test_residues_of_draws_have_the_distribution_of_the_mechanism(mechanism, variance):
  sample = draw(mechanism, variance, seed=2)
  for modulus in (2, 3, 256) if variance >= 400 else (2, 3):
    assert REFUSAL < residue_p(sample, modulus, mechanism, variance) < 1 - REFUSAL


@designs
@pytest.mark.parametrize('factor', [0.95, 1.05])
def test_of_the_test_a_variance_off_by_five_percent_is_refused(mechanism, variance, factor):
  sample = draw(mechanism, variance)
  assert abs(variance_z(sample, mechanism, factor * variance)) > SIGMAS
  assert chi_square_p(sample, mechanism, factor * variance) < REFUSAL


@pytest.mark.parametrize('variance', [1, 7.0625])
def test_of_the_test_the_other_mechanism_is_refused(variance):
  assert chi_square_p(draw('skellam', variance), 'discrete_gaussian', variance) < REFUSAL
  assert chi_square_p(draw('discrete_gaussian', variance), 'skellam', variance) < REFUSAL


def test_of_the_test_poisson_noise_in_float32_has_no_odd_values():
  """Above a rate of 2^25 float32 holds even integers only; the residue test sees it."""
  rate = 2.0**26

  def poisson_difference(dtype):
    first, second = (
      tf.random.stateless_poisson([DRAWS], [seed, 0], tf.constant(rate, dtype), dtype).numpy()
      for seed in (1, 2)
    )
    return (first.astype(np.int64) - second.astype(np.int64)).astype(np.int64)

  refused = poisson_difference(tf.float32)
  assert not np.any(refused % 2)
  assert residue_p(refused, 2, 'discrete_gaussian', 2 * rate) < REFUSAL
  assert residue_p(poisson_difference(tf.float64), 2, 'discrete_gaussian', 2 * rate) > REFUSAL
  assert residue_p(draw('discrete_gaussian', 2 * rate), 2, 'discrete_gaussian', 2 * rate) > REFUSAL


def reference_sample(mechanism, variance, seed, count):
  """The readable sampler: invert the distribution function with 62 uniform bits."""
  weights, _ = probabilities.integer_weights(probabilities.PMFS[mechanism](variance))
  signed = [*weights[:0:-1], *weights]
  cdf = [c >> (probabilities.WEIGHT_BITS - 62) for c in itertools.accumulate(signed[:-1])]
  uniform = np.random.default_rng(seed).integers(0, 2**62, count)
  return np.searchsorted(np.array(cdf), uniform, side='right') - (len(weights) - 1)


@pytest.mark.parametrize('mechanism', DISTRIBUTED)
@pytest.mark.parametrize('variance', [1, 400])
def test_agrees_with_the_readable_reference(mechanism, variance):
  """Two-sample chi-square; and the reference itself passes the one-sample test."""
  reference = reference_sample(mechanism, variance, seed=5, count=DRAWS)
  assert REFUSAL < chi_square_p(reference, mechanism, variance) < 1 - REFUSAL
  sample = draw(mechanism, variance, seed=6)
  low = -int(3 * math.sqrt(variance))
  counts = [np.bincount(np.clip(s, low, -low) - low) for s in (reference, sample)]
  assert stats.chi2_contingency(counts).pvalue > REFUSAL


@pytest.mark.parametrize('kind', tuple(RANDOMNESS))
@pytest.mark.parametrize('variance', [7.0625, 3500**2, 1e4**2])
@pytest.mark.parametrize('dynamic', [False, True])
def test_graph_and_eager_draws_are_equal(kind, variance, dynamic):
  sampler = noise_sampler('discrete_gaussian', variance)
  count = 100_000  # some ties at 3500

  @tf.function(
    autograph=False,
    input_signature=[tf.TensorSpec([8], tf.int32), tf.TensorSpec([], tf.int32)],
  )
  def compiled(key, size):
    stream = RandomStream(kind=kind, key=key)
    return sampler.sample(stream, MODEL_NOISE, size if dynamic else count)

  eager = draw('discrete_gaussian', variance, count=count, kind=kind)
  np.testing.assert_array_equal(compiled(stream_of(1).key, count), eager)
  if not dynamic:
    assert compiled.get_concrete_function().structured_outputs.shape == [count]


@pytest.mark.parametrize('kind', tuple(RANDOMNESS))
def test_draws_of_equal_shape_are_independent_and_never_equal(kind):
  """Correlation of streams and keys: |z| < 5; 32 values agree by chance once in 10^30."""
  sampler = noise_sampler('discrete_gaussian', 400)
  samples = [
    sampler.sample(stream_of(seed, kind), MODEL_NOISE + 16 * i, 20_000).numpy()
    for seed in (1, 2)
    for i in range(2)
  ]
  for i, first in enumerate(samples):
    for second in samples[:i]:
      assert abs(np.corrcoef(first, second)[0, 1]) * math.sqrt(first.size) < SIGMAS

  @tf.function(autograph=False, input_signature=[tf.TensorSpec([8], tf.int32)])
  def pair(key):
    stream = RandomStream(kind=kind, key=key)
    return [sampler.sample(stream, MODEL_NOISE + 16 * i, 32) for i in range(2)]

  drawn = {tuple(part.numpy()) for seed in range(200) for part in pair(stream_of(seed).key)}
  assert len(drawn) == 400


def test_the_two_tables_of_a_draw_are_independent(monkeypatch):
  """Recorded before they are added: false alarm 6e-7."""
  inner, drawn = alias_draws.draw, []
  monkeypatch.setattr(alias_draws, 'draw', lambda *given: drawn.append(inner(*given)) or drawn[-1])
  draw('discrete_gaussian', 1e4**2)
  first, second = drawn
  assert abs(np.corrcoef(first, second)[0, 1]) * math.sqrt(DRAWS) < SIGMAS


@pytest.mark.parametrize(
  ('mechanism', 'variance', 'message'),
  [
    ('laplace', 1, 'mechanism'),
    ('skellam', 0, 'variance'),
    ('skellam', math.nan, 'variance'),
    ('discrete_gaussian', math.inf, 'variance'),
    ('skellam', 3501**2, 'Use discrete Gaussian'),
    ('discrete_gaussian', 1e12 + 1, 'at most'),
  ],
)
def test_refuses_what_it_cannot_sample(mechanism, variance, message):
  with pytest.raises(ConfigurationError, match=message):
    noise_sampler(mechanism, variance)


class _Counting:
  """A stream that counts the words that are drawn from it."""

  def __init__(self, stream):
    self._stream, self.by_stream = stream, {}

  @property
  def count(self):
    return sum(self.by_stream.values())

  def words(self, stream, count):
    self.by_stream[stream] = self.by_stream.get(stream, 0) + int(count)
    return self._stream.words(stream, count)


@pytest.mark.parametrize('sigma', [0.5, 5, 20, 50, 100, 200, 201, 3500, 6400])
def test_a_draw_takes_the_secret_bits_that_are_stated(sigma):
  """On average, ties included: 16 or 24, and three words for one draw in 2^(w - k)."""
  counting = _Counting(stream_of(3))
  sampler = noise_sampler('discrete_gaussian', sigma**2)
  sampler.sample(counting, MODEL_NOISE, DRAWS)
  (table,) = sampler.tables
  assert table.draw_bits == (16 if sigma <= 200 else 24)
  tie = 2.0 ** (table.log_columns - table.draw_bits)
  error = 5 * 96 * math.sqrt(tie / DRAWS)  # five standard errors
  assert counting.count * 32 / DRAWS == pytest.approx(table.draw_bits + 96 * tie, abs=error + 1e-3)
  assert counting.count * 32 / DRAWS <= (22 if sigma <= 200 else 24.8) + error


@pytest.mark.parametrize('count', [1, 2, 3, 4, 5, 7, 1000])
@pytest.mark.parametrize('sigma', [20, 1000])
def test_every_random_bit_serves_one_draw_only(count, sigma):
  """Turning one bit of one word changes one number at most, and all bits but the last word's do."""
  (table,) = noise_sampler('discrete_gaussian', sigma**2).tables
  words = np.random.default_rng(7).integers(-(2**31), 2**31, table.words(count)).astype(np.int32)
  before = alias_draws.uniform_numbers(table, tf.constant(words), count).numpy()
  assert before.shape == (count,)
  assert before.min() >= 0
  assert before.max() < 2**table.draw_bits
  turned = 0
  for word in range(min(len(words), 3)):
    for bit in range(32):
      changed = words.copy()
      changed[word] ^= np.int32(np.uint32(1 << bit).view(np.int32))
      after = alias_draws.uniform_numbers(table, tf.constant(changed), count).numpy()
      differing = np.flatnonzero(after != before)
      assert len(differing) <= 1
      turned += len(differing)
  if len(words) <= 3:
    assert turned == count * table.draw_bits


@pytest.mark.parametrize('sigma', [0.5, 50, 200, 6400, 1e4])
def test_words_drawn_ahead_suffice(sigma):
  """Six standard deviations above the mean number of ties: no draw here needs a further run."""
  sampler = noise_sampler('discrete_gaussian', sigma**2)
  ahead = sampler.random_words(MODEL_NOISE, 10_000)
  for seed in range(20):
    counting = _Counting(stream_of(seed))
    sampler.sample(counting, MODEL_NOISE, 10_000)
    assert {
      stream: count for stream, count in counting.by_stream.items() if count > ahead[stream]
    } == {}
