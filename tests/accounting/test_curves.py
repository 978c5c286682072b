"""Curves: closed forms, validity, composition, and exact divergences below the bounds."""

import math

import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.rdp import rdp_privacy_accountant
from hypothesis import given, settings, strategies as st

from tff_privacy_agg import accounting
from tff_privacy_agg.errors import CompositionError, ConfigurationError
from tools.conformance import oracle

ORDERS = np.array([2.0, 3.0, 8.0, 32.0])


def ddgauss(honest=50, variance=1.0, **kwargs):
  return accounting.discrete_gaussian(8.0, 64.0, variance, honest, 256, **kwargs)


def skellam(honest=50, variance=1.0, **kwargs):
  return accounting.skellam(8.0, 64.0, local_variance=variance, honest=honest, **kwargs)


@pytest.mark.parametrize('make', [ddgauss, skellam])
@pytest.mark.parametrize('shares', [{'honest': 0}, {'variance': 0.0}])
def test_no_noise_is_infinite_never_zero(make, shares):
  curve = make(**shares)
  assert np.all(np.isinf(curve.rdp(ORDERS)))
  assert np.all(np.isinf(curve.scaled(3).rdp(ORDERS + 0.5)))
  assert accounting.epsilon(curve, 1e-5)[0] == math.inf
  assert accounting.delta(curve, 5.0) == 1.0
  assert accounting.epsilon(accounting.gaussian(0.0), 1e-5)[0] == math.inf
  table = accounting.rdp_table(lambda h: make(honest=h), 3, ORDERS)
  assert table.shape == (4, 4)
  assert table.dtype == np.float64
  assert np.all(np.isinf(table[0]))
  np.testing.assert_array_equal(table[3], make(honest=3).rdp(ORDERS))


@pytest.mark.parametrize('make', [ddgauss, skellam])
def test_add_or_remove_is_refused_for_the_clients_noise(make):
  with pytest.raises(ConfigurationError, match=r'zero_out'):
    make(adjacency='add_or_remove_one')
  with pytest.raises(ConfigurationError):
    accounting.bit_channel('skellam', 64, 10.0, 5, adjacency='add_or_remove_one')
  accounting.gaussian(1.0, adjacency='add_or_remove_one')  # noise of the server: allowed
  # What the refusal is about: k against k-1 shares alone, d = 1e6, k = 100, order 2.
  d, k = 1e6, 100
  leak = d * (0.5 * math.log((k - 1) / k) + 0.5 * math.log((k - 1) / (k - 2)))
  assert leak == pytest.approx(51.0, rel=1e-3)


@pytest.mark.parametrize('make', [ddgauss, skellam])
def test_replace_one_doubles_both_sensitivities(make):
  variance = 1e4
  ratio = make(variance=variance, adjacency='replace_one').rdp(ORDERS)
  np.testing.assert_allclose(ratio / make(variance=variance).rdp(ORDERS), 4.0, rtol=1e-2)


def test_fractional_orders_of_the_skellam_theorem():
  curve = skellam()
  for order in (1.5, 1.999, 1.0, 0.5):
    with pytest.raises(ConfigurationError, match='integer a>=2'):
      curve.rdp(order)
  at = curve.rdp(np.array([2.0, 2.25, 3.0]))
  chord = (0.75 * 1 * at[0] + 0.25 * 2 * at[2]) / 1.25
  assert at[1] == pytest.approx(chord, rel=1e-12)
  formula = 2.25 * 64 / 100 + ((2 * 2.25 - 1) * 64 + 6 * 64) / (4 * 50**2)
  assert at[1] > formula  # the theorem's formula between integers is not proved
  assert not (skellam() + ddgauss()).validity.startswith('real')
  with pytest.raises(ConfigurationError):
    (skellam() + ddgauss()).rdp(1.5)


def test_tau_is_of_the_honest_shares():
  assert accounting.tau(1.0, 50) == pytest.approx(0.000546030867875, rel=1e-9)
  assert accounting.tau(1.0, 1) == 0.0
  assert accounting.tau(0.3, 100) > 1.3 * accounting.tau(0.3, 50)
  # The wrong tau, with all 100 shares instead of 50, claims another curve.
  ours = accounting.discrete_gaussian_terms(2.0, 8.0, 64.0, 0.3, 50, 256)
  assert ours[0] == pytest.approx(2 * 64 / (2 * 15) + 256 * accounting.tau(0.3, 50), rel=1e-12)
  assert ours[0] < 2 * 64 / (2 * 15) + 256 * accounting.tau(0.3, 100)


def test_a_sum_of_discrete_gaussians_is_not_one():
  as_if_one = 2.0 * 64 / (2 * 50)
  assert ddgauss().rdp(2.0) > as_if_one * 1.007
  assert ddgauss().rdp(2.0) == pytest.approx(1.28996054084, rel=1e-9)
  # At a small variance the exact divergence of the sum really exceeds the discrete Gaussian's.
  exact = oracle.discrete_gaussian_sum_renyi(0.25, 2, 1, [32.0])[0]
  alone = 32.0 / (2 * 0.5)
  assert exact != pytest.approx(alone, rel=1e-3)
  assert exact <= accounting.discrete_gaussian(1, 1, 0.25, 2, 1).rdp(32.0) * (1 + 1e-12)


@pytest.mark.parametrize('variance', [0.25, 0.5, 1.0, 2.0])
@pytest.mark.parametrize('shares', [2, 10, 50])
@pytest.mark.parametrize('shift', [1, 2])
def test_discrete_gaussian_bound_holds_exactly(variance, shares, shift):
  orders = [1.05, 1.5, 2.0, 4.0, 8.0]
  exact = oracle.discrete_gaussian_sum_renyi(variance, shares, shift, orders)
  terms = accounting.discrete_gaussian_terms(orders, shift, shift, variance, shares, 1)
  assert np.all(exact <= terms * (1 + 1e-9))


@pytest.mark.parametrize('variance', [0.5, 4.0, 40.0, 400.0])
@pytest.mark.parametrize('shift', [1, 3, 8])
def test_skellam_bound_holds_exactly(variance, shift):
  orders = np.array([2.0, 3.0, 8.0, 32.0])
  exact = oracle.skellam_renyi(variance, shift, orders)
  bound = accounting.skellam(shift, shift, central_variance=variance).rdp(orders)
  assert np.all(exact <= bound)
  assert np.all(exact >= 0.01 * bound)  # the oracle is not empty


def test_skellam_costs_more_than_gaussian_noise_by_what_the_theorem_says():
  """By either term of the least of two: the first where the noise is wide, the second where not."""
  wide = accounting.skellam(8.0, 64.0, central_variance=50.0).rdp(3.0)
  assert wide == pytest.approx(3 * 64 / 100 + (5 * 64 + 6 * 64) / (4 * 50**2), rel=1e-12)
  narrow = accounting.skellam(8.0, 8.0, central_variance=2.0).rdp(3.0)
  assert narrow == pytest.approx(3 * 64 / 4 + 3 * 8 / 4, rel=1e-12)


def test_interpolated_skellam_stays_above_the_exact_divergence():
  orders = np.arange(2.0, 8.0, 0.25)
  exact = oracle.skellam_renyi(4.0, 2, orders)
  assert np.all(exact <= accounting.skellam(2, 2, central_variance=4.0).rdp(orders))


@settings(max_examples=50, deadline=None)
@given(
  st.integers(1, 300),
  st.integers(1, 300),
  st.floats(0.3, 100.0),
  st.floats(1.0, 3.0),
  st.integers(1, 50),
  st.sampled_from([ddgauss, skellam]),
)
def test_epsilon_falls_with_noise_and_rises_with_rounds(h, more, v, factor, rounds, make):
  def epsilon(honest, variance, times):
    return accounting.epsilon(make(honest=honest, variance=variance).scaled(times), 1e-6)[0]

  here = epsilon(h, v, rounds)
  assert epsilon(h, v * factor, rounds) <= here * (1 + 1e-9)
  assert epsilon(h, v, rounds + more) >= here * (1 - 1e-9)
  if make is skellam or v >= 4:  # tau grows with honest: at small v the sum moves away
    assert epsilon(h + more, v, rounds) <= here * (1 + 1e-9)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.3, 50.0), st.integers(1, 1000), st.floats(1e-9, 1e-2))
def test_gaussian_agrees_with_dp_accounting(z, rounds, delta):
  accountant = rdp_privacy_accountant.RdpAccountant(list(accounting.REAL_ORDERS))
  theirs = accountant.compose(dp_event.GaussianDpEvent(z), rounds).get_epsilon(delta)
  curve = accounting.gaussian(z).scaled(rounds)
  assert accounting.epsilon(curve, delta, accounting.REAL_ORDERS)[0] == pytest.approx(
    theirs, rel=1e-9, abs=1e-12
  )
  assert accounting.epsilon(curve, delta)[0] <= theirs + 1e-9
  assert accounting.epsilon(curve, delta)[0] >= accounting.gaussian_epsilon(
    math.sqrt(rounds) / z, delta
  )


def test_curves_are_immutable_and_add_up():
  curve = skellam()
  total = curve + ddgauss().scaled(2) + curve.scaled(0)
  np.testing.assert_allclose(total.rdp(ORDERS), curve.rdp(ORDERS) + 2 * ddgauss().rdp(ORDERS))
  assert total.mechanism == 'mixed'
  with pytest.raises(AttributeError):
    curve.mechanism = 'gaussian'
  with pytest.raises(CompositionError, match='adjacency'):
    curve + skellam(adjacency='replace_one')
  with pytest.raises(TypeError):
    curve + 1.0
  many = accounting.compose([curve] * 5000)
  np.testing.assert_allclose(many.rdp(ORDERS), curve.scaled(5000).rdp(ORDERS))
  assert many.provenance.startswith('5000 x [')
  with pytest.raises(ConfigurationError):
    accounting.compose([])


def test_bit_channel_is_one_coordinate():
  curve = accounting.bit_channel('skellam', 64, 4096.0, 100)
  same = accounting.skellam(64, 64, central_variance=409600.0)
  np.testing.assert_array_equal(curve.rdp(ORDERS), same.rdp(ORDERS))
  large = accounting.bit_channel('discrete_gaussian', 64, 4096.0, 100)
  np.testing.assert_allclose(large.rdp(ORDERS), ORDERS * 64**2 / (2 * 409600.0))
  with pytest.raises(ConfigurationError, match='mechanism'):
    accounting.bit_channel('gaussian', 64, 4096.0, 100)


@pytest.mark.parametrize(
  'arguments',
  [
    {},
    {'central_variance': 1.0, 'local_variance': 1.0, 'honest': 2},
    {'local_variance': 1.0},
    {'central_variance': 1.0, 'honest': 3},
    {'central_variance': -1.0},
    {'local_variance': math.nan, 'honest': 2},
    {'local_variance': 1.0, 'honest': 2.5},
  ],
)
def test_skellam_refuses_half_a_description(arguments):
  with pytest.raises(ConfigurationError):
    accounting.skellam(1.0, 1.0, **arguments)


@pytest.mark.parametrize('bad', [1.0, 0.9, math.nan, math.inf])
def test_orders_outside_validity_are_refused(bad):
  with pytest.raises(ConfigurationError, match='orders'):
    ddgauss().rdp([2.0, bad])
