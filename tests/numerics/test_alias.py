"""Alias tables: exact weights, exact reconstruction, distances that are computed."""

import decimal
import math
import time
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.numerics import alias

DESIGNS = [
  ('discrete_gaussian', Fraction(1, 16)),
  ('discrete_gaussian', Fraction(1)),
  ('discrete_gaussian', Fraction(113, 16)),
  ('discrete_gaussian', Fraction(100_000)),
  ('discrete_gaussian', Fraction(6400**2)),
  ('skellam', Fraction(1, 4)),
  ('skellam', Fraction(1)),
  ('skellam', Fraction(400)),
  ('skellam', Fraction(6400**2)),
]
designs = pytest.mark.parametrize(('mechanism', 'variance'), DESIGNS)
PMFS = {'discrete_gaussian': alias.discrete_gaussian_pmf, 'skellam': alias.skellam_pmf}


@pytest.fixture(autouse=True)
def _precision():
  with decimal.localcontext(decimal.Context(prec=100)):
    yield


def unpack(table):
  """Thresholds and aliases of a table as Python integers, from its arrays alone."""
  k = table.log_columns
  packed = table.packed.view(np.uint32).tolist()
  high = [p >> k for p in packed]
  assert all(p < 2**table.draw_bits for p in packed)
  assert table.draw_bits + table.middle_bits + alias.LOW_BITS == alias.WEIGHT_BITS
  assert all(0 <= m < 2**table.middle_bits for m in table.middle.tolist())
  tops = [h << table.middle_bits | m for h, m in zip(high, table.middle.tolist(), strict=True)]
  thresholds = [t << alias.LOW_BITS | w for t, w in zip(tops, table.low.tolist(), strict=True)]
  return thresholds, [p & (table.columns - 1) for p in packed]


def reconstruct(thresholds, aliases):
  """The weight of each value: its own part of each column, and what others alias to it."""
  capacity = (1 << alias.WEIGHT_BITS) // len(thresholds)
  weights = [0] * len(thresholds)
  for i, (threshold, other) in enumerate(zip(thresholds, aliases, strict=True)):
    assert 0 <= threshold < capacity
    weights[i] += threshold
    weights[other] += capacity - threshold
  return weights


@designs
def test_table_reproduces_its_integer_weights_exactly(mechanism, variance):
  table = alias.alias_table(mechanism, variance)
  weights, distance = alias.symmetric_weights(PMFS[mechanism](variance), table.radius)
  assert sum(weights) == 2**alias.WEIGHT_BITS
  assert len(weights) == 2 * table.radius + 1
  assert table.distance == distance
  assert table.columns // 2 < len(weights) <= table.columns <= 2**alias.MAX_LOG_COLUMNS
  padding = [0] * (table.columns - len(weights))
  assert reconstruct(*unpack(table)) == weights + padding


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2**94), min_size=1, max_size=40))
def test_any_integer_weights_are_reproduced(parts):
  cuts = sorted(min(p, 2**94) for p in parts)
  weights = [b - a for a, b in zip([0, *cuts], [*cuts, 2**94], strict=True)]
  k = max(1, (len(weights) - 1).bit_length())
  thresholds, aliases = alias.vose(weights, k)
  assert reconstruct(thresholds, aliases) == weights + [0] * (2**k - len(weights))


@designs
def test_distance_bounds_the_total_variation(mechanism, variance):
  """Half the sum of |weight / 2^94 - p| over the table, and half of what lies beyond it."""
  pmf = PMFS[mechanism](variance)
  table = alias.alias_table(mechanism, variance)
  weights, distance = alias.symmetric_weights(pmf, table.radius)
  radius = len(weights) // 2
  assert (radius, distance) == (table.radius, table.distance)
  inside = sum(abs(Decimal(w) / 2**94 - pmf[abs(i - radius)]) for i, w in enumerate(weights))
  exact = (inside + 2 * sum(pmf[radius + 1 :])) / 2
  assert exact <= Decimal(distance) <= exact * Decimal('1.000001')


@pytest.mark.parametrize(
  ('sigma', 'bits'),
  [(0.25, 79), (1, 79), (5, 79), (100, 79), (200, 79), (3000, 79), (3500, 78), (6400, 77)],
)
def test_distance_per_draw(sigma, bits):
  """With 64-bit thresholds it would be 2^-58.6 at sigma 5 and 2^-49.3 at sigma 3000."""
  assert alias.alias_table('discrete_gaussian', Fraction(sigma) ** 2).distance < 2.0**-bits


@pytest.mark.parametrize('mechanism', PMFS)
@pytest.mark.parametrize('sigma', [0.5, 7, 50, 199])
def test_no_smaller_table_is_as_close(mechanism, sigma):
  """What cutting one column in two would cost: the reason for the size of the table."""
  table = alias.alias_table(mechanism, Fraction(sigma) ** 2)
  smaller = (table.columns // 2 - 1) // 2
  _, distance = alias.symmetric_weights(PMFS[mechanism](Fraction(sigma) ** 2), smaller)
  assert table.distance < 2.0**-79 < distance


def exact_skellam(x: int, variance: int) -> Decimal:
  """The power series of exp(-v) I_x(v) in rational arithmetic."""
  half = Fraction(variance, 2)
  series = sum(
    half ** (2 * m + x) / (math.factorial(m) * math.factorial(m + x)) for m in range(150)
  )
  return Decimal(series.numerator) / Decimal(series.denominator) * Decimal(-variance).exp()


@pytest.mark.parametrize('variance', [1, 30])
@pytest.mark.parametrize('x', [0, 1, 7, 20])
def test_skellam_probabilities_to_150_bits(variance, x):
  error = alias.skellam_pmf(variance)[x] / exact_skellam(x, variance) - 1
  assert abs(error) < Decimal(2) ** -150


@pytest.mark.parametrize('variance', [Fraction(1, 16), Fraction(113, 16), Fraction(6400**2)])
def test_discrete_gaussian_probabilities_to_150_bits(variance):
  pmf = alias.discrete_gaussian_pmf(variance)
  assert abs(pmf[0] + 2 * sum(pmf[1:]) - 1) < Decimal(2) ** -150
  for x in (1, 2, min(len(pmf) - 1, 9 * math.isqrt(int(variance)))):
    exponent = Fraction(-x * x, 2) / variance
    ratio = (Decimal(exponent.numerator) / Decimal(exponent.denominator)).exp()
    assert abs(pmf[x] / (pmf[0] * ratio) - 1) < Decimal(2) ** -150


@pytest.mark.parametrize('variance', [0.25, 7.0625, 1e5, 6400.0**2])
def test_skellam_agrees_with_scipy(variance):
  pmf = np.array(alias.skellam_pmf(variance)[:4], float)
  np.testing.assert_allclose(
    pmf, stats.skellam.pmf(range(4), variance / 2, variance / 2), rtol=1e-6
  )


@pytest.mark.parametrize('mechanism', PMFS)
def test_the_largest_table_is_built_within_a_second(mechanism):
  alias.alias_table.cache_clear()
  start = time.process_time()
  alias.alias_table(mechanism, Fraction(6400**2))
  assert time.process_time() - start < 1


@pytest.mark.parametrize('variance', [0, -1, 6401**2])
@pytest.mark.parametrize('mechanism', PMFS)
def test_refuses_variances_outside_the_range(mechanism, variance):
  with pytest.raises(ConfigurationError, match='variance'):
    alias.alias_table(mechanism, Fraction(variance))


def test_refuses_an_unknown_mechanism():
  with pytest.raises(ConfigurationError, match='mechanism'):
    alias.alias_table('laplace', Fraction(1))
