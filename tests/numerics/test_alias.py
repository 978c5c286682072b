"""Alias tables: exact weights, exact reconstruction, distances that are computed."""

import dataclasses
import decimal
import math
from decimal import Decimal
from fractions import Fraction

import mpmath
import noise_reference
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.numerics import alias, probabilities

DESIGNS = [
  ('discrete_gaussian', Fraction(1, 1000)),
  ('discrete_gaussian', Fraction(1, 16)),
  ('discrete_gaussian', Fraction(1)),
  ('discrete_gaussian', Fraction(113, 16)),
  ('discrete_gaussian', Fraction(200**2)),
  ('discrete_gaussian', Fraction(100_000)),
  ('discrete_gaussian', Fraction(6400**2)),
  ('skellam', Fraction(1, 4)),
  ('skellam', Fraction(1)),
  ('skellam', Fraction(400)),
  ('skellam', Fraction(6400**2)),
]
designs = pytest.mark.parametrize(('mechanism', 'variance'), DESIGNS)
PMFS = probabilities.PMFS
TOTAL = 2**206


@pytest.fixture(autouse=True)
def _precision():
  with decimal.localcontext(decimal.Context(prec=100)):
    yield


@designs
def test_table_reproduces_its_integer_weights_exactly(mechanism, variance):
  table = alias.alias_table(mechanism, variance)
  weights, distance = probabilities.integer_weights(PMFS[mechanism](variance))
  assert weights[0] + 2 * sum(weights[1:]) == TOTAL
  assert table.radius == len(weights) - 1
  assert distance <= table.distance <= distance * (1 + 2**-50)
  drawn = noise_reference.drawn_weights(table)
  assert sum(drawn.values()) == TOTAL
  assert drawn == {sign * x: w for x, w in enumerate(weights) for sign in (1, -1)}


@designs
def test_a_table_has_arrays_of_its_stated_types_and_lengths(mechanism, variance):
  table = alias.alias_table(mechanism, variance)
  assert table.packed.dtype == np.int32
  assert table.rest.low.dtype == np.uint32
  assert {a.dtype.name for a in (table.rest.high, *vars(table.remainder).values())} == {'uint64'}
  assert {len(a) for a in (table.packed, *vars(table.rest).values())} == {table.columns}
  assert table.columns <= 2**17
  assert table.draw_bits == (16 if table.columns <= 2**12 else 24)
  thresholds, aliases = noise_reference.thresholds_of(table)
  # Only ties reach the last column's value, the remainder.
  assert thresholds[-1] < 2**alias.TIE_BITS
  assert table.columns - 1 not in aliases[:-1]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2**112), min_size=1, max_size=40))
def test_any_integer_weights_are_reproduced(parts):
  k = len(parts).bit_length()
  cuts = sorted(parts)
  weights = [b - a for a, b in zip([0, *cuts], [*cuts, 2**112], strict=True)]
  weights += [0] * (2**k - len(weights))
  assert noise_reference.column_weights(*alias.vose(weights, 112), 112) == weights


@settings(max_examples=50, deadline=None)
@given(
  st.lists(st.integers(0, 2**126), max_size=20), st.integers(1, 4), st.sampled_from([112, 120])
)
def test_any_weights_are_split_into_columns_and_remainder(others, log_columns, bits):
  """Whatever the weights beyond the columns, up to a half of the remainder."""
  radius = 2 ** (log_columns - 1) - 1
  weights = [w << 70 for w in others[:radius]] + [w // 20 for w in others[radius:]]
  weights = [TOTAL - 2 * sum(weights), *weights]
  main, remainder = alias.split(weights, log_columns, bits)
  assert len(main) == 2**log_columns
  assert sum(main) == 2**bits
  assert min(main) >= 0
  assert min(remainder) >= 0
  assert remainder[0] + 2 * sum(remainder[1:]) == 2**128
  unit = 2 ** (206 - bits)
  for x, w in enumerate(weights):
    for place in (radius + x, radius - x):
      inside = main[place] if 0 <= place < len(main) - 1 else 0
      assert w == inside * unit + remainder[x]


GRID = [
  *(('discrete_gaussian', Fraction(s) ** 2) for s in (0.01, 0.1, 0.25, 0.5, 1, 2.5, 7, 31.7, 200)),
  *(('skellam', Fraction(s) ** 2) for s in (0.01, 0.25, 0.5, 1, 2.5, 7, 31.7)),
]


def distance_by_oracle(table, mechanism):
  """Total variation distance of what the arrays draw, in 320-bit arithmetic by the definitions."""
  drawn = noise_reference.drawn_weights(table)
  values = range(max(drawn) + 1)
  with mpmath.workprec(noise_reference.PRECISION):
    wanted = noise_reference.DEFINITIONS[mechanism](table.variance, values)
    beyond = 1 - wanted[0] - 2 * mpmath.fsum(wanted[1:])
    inside = mpmath.fsum(abs(mpmath.mpf(w) / TOTAL - wanted[abs(x)]) for x, w in drawn.items())
    return (inside + abs(beyond)) / 2


@pytest.mark.parametrize(('mechanism', 'variance'), GRID)
def test_distance_bounds_the_total_variation(mechanism, variance):
  table = alias.alias_table(mechanism, variance)
  exact = distance_by_oracle(table, mechanism)
  assert exact <= table.distance < 2.0**-190
  assert table.distance <= 1.01 * exact + 2.0**-209


@pytest.mark.parametrize(
  ('mechanism', 'sigma'),
  [
    ('discrete_gaussian', 1600),
    ('discrete_gaussian', 6400),
    ('skellam', 200),
    ('skellam', 3500),
    ('skellam', 6400),
  ],
)
def test_distance_of_the_largest_tables(mechanism, sigma):
  """Single probabilities by the oracle: each weight is within a unit below; zero has the rest."""
  table = alias.alias_table(mechanism, Fraction(sigma) ** 2)
  drawn = noise_reference.drawn_weights(table)
  step = max(1, table.radius // 40)
  values = (0, 1, *range(2, table.radius, step), table.columns // 2, table.radius, table.radius + 1)
  with mpmath.workprec(noise_reference.PRECISION):
    centre, *others = noise_reference.DEFINITIONS[mechanism](table.variance, values)
    for x, p in zip(values[1:], others, strict=True):
      assert -(2.0**-5) < p * TOTAL - drawn.get(x, 0) < 1 + 2.0**-5
    gained = mpmath.mpf(drawn[0]) / TOTAL - centre
    # So they lose less than a unit each, and what lies beyond falls off by 15 / sigma a step.
    assert gained < 2 * (table.radius + sigma) / mpmath.mpf(TOTAL)
    assert gained - 2.0**-209 < table.distance < 2.0**-189
    assert table.distance < 1.01 * gained + 2.0**-209


MUTANTS = {
  'tail cut off': lambda t: dataclasses.replace(
    t, remainder=alias.Thresholds(high=t.remainder.high[:15], low=t.remainder.low[:15])
  ),
  'low words lost': lambda t: dataclasses.replace(
    t, rest=alias.Thresholds(high=t.rest.high, low=0 * t.rest.low)
  ),
  'remainder to 64 bits': lambda t: dataclasses.replace(
    t, remainder=alias.Thresholds(high=t.remainder.high, low=0 * t.remainder.low)
  ),
}


@pytest.mark.parametrize('mutant', MUTANTS)
def test_of_the_test_what_draws_less_exactly_is_further(mutant):
  """Each leaves a distance of 2^-140 to 2^-75, which no sample can show."""
  table = alias.alias_table('discrete_gaussian', Fraction(4))
  assert distance_by_oracle(MUTANTS[mutant](table), 'discrete_gaussian') > 2.0**-180


@pytest.mark.parametrize('mechanism', PMFS)
@pytest.mark.parametrize('sigma', [0.5, 7, 50, 199, 1600, 6400])
def test_no_smaller_table_has_so_little_beyond_it(mechanism, sigma):
  table = alias.alias_table(mechanism, Fraction(sigma) ** 2)
  weights, _ = probabilities.integer_weights(PMFS[mechanism](Fraction(sigma) ** 2))

  def beyond(columns):
    return 2 * sum(weights[columns // 2 :])

  assert beyond(table.columns) <= 2 ** (206 - 79) < beyond(table.columns // 2)


def exact_skellam(x: int, variance: int) -> Decimal:
  """The power series of exp(-v) I_x(v) in rational arithmetic."""
  half = Fraction(variance, 2)
  series = sum(
    half ** (2 * m + x) / (math.factorial(m) * math.factorial(m + x)) for m in range(150)
  )
  return Decimal(series.numerator) / Decimal(series.denominator) * Decimal(-variance).exp()


@pytest.mark.parametrize('variance', [1, 30])
@pytest.mark.parametrize('x', [0, 1, 7, 20])
def test_skellam_probabilities_to_220_bits(variance, x):
  error = probabilities.skellam_pmf(variance)[x] / exact_skellam(x, variance) - 1
  assert abs(error) < Decimal(2) ** -220


@pytest.mark.parametrize('variance', [Fraction(1, 16), Fraction(113, 16), Fraction(6400**2)])
def test_discrete_gaussian_probabilities_to_220_bits(variance):
  pmf = probabilities.discrete_gaussian_pmf(variance)
  assert abs(pmf[0] + 2 * sum(pmf[1:]) - 1) < Decimal(2) ** -220
  for x in (1, 2, min(len(pmf) - 1, 16 * math.isqrt(int(variance)))):
    exponent = Fraction(-x * x, 2) / variance
    ratio = (Decimal(exponent.numerator) / Decimal(exponent.denominator)).exp()
    assert abs(pmf[x] / (pmf[0] * ratio) - 1) < Decimal(2) ** -220


@pytest.mark.parametrize('variance', [0.25, 7.0625, 1e5, 6400.0**2])
def test_skellam_agrees_with_scipy(variance):
  pmf = np.array(probabilities.skellam_pmf(variance)[:4], float)
  np.testing.assert_allclose(
    pmf, stats.skellam.pmf(range(4), variance / 2, variance / 2), rtol=1e-6
  )


@pytest.mark.parametrize('variance', [0, -1, 6401**2])
@pytest.mark.parametrize('mechanism', PMFS)
def test_refuses_variances_outside_the_range(mechanism, variance):
  with pytest.raises(ConfigurationError, match='variance'):
    alias.alias_table(mechanism, Fraction(variance))


def test_a_stated_distance_is_never_understated():
  for value in (Fraction(1, 3), Fraction(2, 3), Fraction(2**60 + 1, 2**240), Fraction(1, 2**180)):
    stated = probabilities.round_up(value)
    assert value <= Fraction(stated) < value * (1 + Fraction(1, 2**51))
  assert probabilities.round_up(Fraction(1, 2**180)) == 2.0**-180


def test_refuses_an_unknown_mechanism():
  with pytest.raises(ConfigurationError, match='mechanism'):
    alias.alias_table('laplace', Fraction(1))
