"""The central model's integer design: its bounds hold in integers, its scale is the finest."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import special

from tff_privacy_agg import accounting
from tff_privacy_agg.accounting.vectors import squared_norm
from tff_privacy_agg.errors import ConfigurationError

designs = st.tuples(st.floats(1e-3, 200.0), st.integers(1, 10**6), st.integers(1, 10**8))


def solved(z, clients, dimension):
  return accounting.central_design(noise_multiplier=z, cohort_maximum=clients, dimension=dimension)


@settings(max_examples=200, deadline=None)
@given(designs)
def test_the_noise_covers_the_squared_norm_in_integers(given_design):
  z, clients, dimension = given_design
  design = solved(z, clients, dimension)
  norm = int(design.scaled_norm)
  assert norm == design.scaled_norm >= 1
  bound = squared_norm(design.l2_bound)
  assert bound >= norm**2 + Fraction(dimension, 4) + norm * min(8, math.isqrt(dimension - 1) + 1)
  assert Fraction(design.local_variance) >= Fraction(z) ** 2 * bound
  assert 16 * design.local_variance == int(16 * design.local_variance)
  assert Fraction(design.local_variance) <= accounting.WIDEST_VARIANCE < 10**12
  assert bound < 2**53
  assert clients * math.ceil(design.l2_bound) < 2**61


@pytest.mark.parametrize('z', [0.1, 1.0, 10.0])
@pytest.mark.parametrize('dimension', [1, 100, 10**4, 10**6])
@pytest.mark.parametrize('clients', [10, 10_000])
def test_the_error_is_within_a_thousandth_of_a_float_stack(z, dimension, clients):
  assert solved(z, clients, dimension).error_over_central(clients) < 1.001


@pytest.mark.parametrize(
  ('z', 'clients', 'limited_by'),
  [(1.0, 100, 'noise'), (0.001, 100, 'exact norm'), (0.001, 2**40, 'sum')],
)
def test_the_scale_is_the_finest_that_all_three_limits_allow(z, clients, limited_by):
  design = solved(z, clients, 100)
  finer = design.scaled_norm + 2
  assert {
    'noise': (z * finer) ** 2 > accounting.WIDEST_VARIANCE * (1 - 2e-5),
    'exact norm': finer > 2**26 - 8,
    'sum': clients * finer > 2**61 - 2**43,
  }[limited_by]


def test_more_noise_than_the_samplers_draw_is_refused():
  with pytest.raises(ConfigurationError, match='Lower the noise multiplier or the dimension'):
    solved(1e7, 10, 100)


@pytest.mark.parametrize(
  'arguments', [{'z': 0.0}, {'z': math.nan}, {'clients': 0}, {'dimension': 0}, {'dimension': 1.5}]
)
def test_numbers_outside_their_range_are_refused(arguments):
  with pytest.raises(ConfigurationError):
    solved(**{'z': 1.0, 'clients': 10, 'dimension': 10, **arguments})


@pytest.mark.parametrize('z', [0.5, 1.0, 5.0])
@pytest.mark.parametrize('rounds', [1, 100])
def test_epsilon_is_that_of_the_gaussian_and_hardly_more(z, rounds):
  design = solved(z, 100, 1000)
  price = accounting.RoundPrice(
    mechanism='central_discrete_gaussian',
    minimum=1,
    maximum=100,
    vectors=(
      accounting.noisy_vector(
        name='update',
        mechanism='central_discrete_gaussian',
        dimension=1000,
        l2_bound=design.l2_bound,
        l1_bound=design.l1_bound,
        local_variance=design.local_variance,
        fewest=1,
        most=1,
      ),
    ),
  )
  account = accounting.account_of(price)
  assert account.name == 'gaussian'
  found = account.epsilon(rounds * account.row(price, 100), 1e-6, 0.0)[0]
  exact = accounting.gaussian_epsilon(math.sqrt(rounds) / design.z_eff(1), 1e-6)
  assert exact <= found <= exact * (1 + 1e-9)
  for honest in (0, 1, 100):
    np.testing.assert_array_equal(account.row(price, honest), account.row(price, 1))
    np.testing.assert_array_equal(account.worst(price, honest), account.row(price, 1))
    assert price.noise_multiplier(honest) == pytest.approx(z, rel=1e-4)
    assert price.distance(honest) == price.distance(1)
  assert accounting.RoundPrice.from_dict(price.as_dict()) == price


def test_a_round_of_the_central_model_releases_vectors():
  with pytest.raises(ConfigurationError, match='`vectors` is empty'):
    accounting.RoundPrice(mechanism='central_discrete_gaussian', minimum=1, maximum=3)


@pytest.mark.parametrize('rate', [0.01, 0.3, 1.0])
@pytest.mark.parametrize('variance', [2.0, 30.0])
@pytest.mark.parametrize('shift', [1, 4])
def test_the_tight_poisson_bound_covers_the_discrete_gaussian_both_ways(rate, variance, shift):
  """Exact Renyi divergences of the sampled mechanism, in one coordinate, at integer orders."""
  reach = 60 + 40 * math.ceil(math.sqrt(variance)) + 40 * shift
  z = np.arange(-reach, reach + 1, dtype=np.float64)
  without = np.exp(-(z**2) / (2 * variance))
  without /= without.sum()
  member = np.exp(-((z - shift) ** 2) / (2 * variance))
  member /= member.sum()
  drawn = (1 - rate) * without + rate * member
  orders = np.array([2.0, 3.0, 5.0, 8.0])
  bound = accounting.poisson(
    accounting.central_discrete_gaussian(shift**2, variance), rate, adjacency='zero_out', tight=True
  ).rdp(orders)
  kept = (without > 0) & (drawn > 0)
  laws = np.log(drawn[kept]), np.log(without[kept])
  for one, other in (laws, laws[::-1]):
    for order, limit in zip(orders, bound, strict=True):
      exact = special.logsumexp(order * one + (1 - order) * other) / (order - 1)
      assert exact <= limit * (1 + 1e-9) + 1e-12
