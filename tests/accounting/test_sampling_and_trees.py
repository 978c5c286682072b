"""Random cohorts, participation caps, correlated noise, noise shares."""

import itertools
import math
import warnings

import numpy as np
import pytest

from tff_privacy_agg import accounting
from tff_privacy_agg.errors import ConfigurationError
from tools.conformance import oracle

ORDERS = np.array([2.0, 3.0, 8.0, 32.0])


def skellam(**kwargs):
  return accounting.skellam(1.0, 30.0, local_variance=0.01, honest=100, **kwargs)


def test_the_tight_poisson_bound_is_for_gaussian_noise_only():
  with pytest.raises(ConfigurationError, match='Gaussian'):
    accounting.poisson(skellam(), 0.01, tight=True, total_noise_fixed=True)
  base = accounting.gaussian(1.0)
  general = accounting.poisson(base, 0.01, tight=False).rdp(ORDERS)
  tight = accounting.poisson(base, 0.01, tight=True).rdp(ORDERS)
  assert tight[0] == pytest.approx(general[0], rel=1e-9)
  assert np.all(tight[1:] < general[1:])  # the faulty variant claims less
  np.testing.assert_allclose(tight[2], 0.000893643907606, rtol=2e-10)


def test_unproved_sampling_is_refused():
  with pytest.raises(ConfigurationError, match='total_noise_fixed'):
    accounting.poisson(skellam(), 0.01)
  with pytest.raises(ConfigurationError, match='without_replacement'):
    accounting.poisson(accounting.gaussian(1.0), 0.01, adjacency='replace_one')
  doubled = accounting.gaussian(1.0, adjacency='replace_one')
  with pytest.raises(ConfigurationError, match='replace_one'):
    accounting.poisson(doubled, 0.01)
  with pytest.raises(ConfigurationError, match='twice the sensitivity'):
    accounting.without_replacement(accounting.gaussian(1.0), population=100, cohort=10)
  sampled = accounting.poisson(accounting.gaussian(1.0), 0.01)
  with pytest.raises(ConfigurationError, match='already'):
    accounting.poisson(sampled, 0.01)
  with pytest.raises(ConfigurationError):
    sampled.rdp(4097.0)
  for rate in (0.0, 1.5, math.nan):
    with pytest.raises(ConfigurationError, match='rate'):
      accounting.poisson(accounting.gaussian(1.0), rate)
  with pytest.raises(ConfigurationError, match='population'):
    accounting.without_replacement(doubled, population=9, cohort=10)


def test_without_sampling_nothing_is_gained_or_lost():
  base = accounting.gaussian(2.0)
  np.testing.assert_array_equal(accounting.poisson(base, 1.0).rdp(ORDERS), base.rdp(ORDERS))
  np.testing.assert_allclose(
    accounting.poisson(base, 1.0, tight=True).rdp(ORDERS), base.rdp(ORDERS), rtol=1e-12
  )
  infinite = skellam(adjacency='replace_one') + accounting.skellam(
    1.0, 1.0, local_variance=0.0, honest=3, adjacency='replace_one'
  )
  assert np.all(
    np.isinf(accounting.without_replacement(infinite, population=100, cohort=1).rdp(ORDERS))
  )


def test_sampled_bounds_rise_with_the_rate_and_stay_below_the_base():
  base = skellam()
  last = np.zeros(4)
  for rate in (0.001, 0.01, 0.1, 0.5, 1.0):
    here = accounting.poisson(base, rate, total_noise_fixed=True).rdp(ORDERS)
    assert np.all(last <= here)
    assert np.all(here <= base.rdp(ORDERS))
    last = here


def test_without_replacement_agrees_with_dp_accounting():
  base = accounting.gaussian(2.0, adjacency='replace_one')
  curve = accounting.without_replacement(base, population=10000, cohort=100)
  theirs = oracle.without_replacement_gaussian_epsilon(
    1.0, population=10000, cohort=100, rounds=500, delta=1e-6, orders=np.arange(2.0, 33.0)
  )
  ours = accounting.epsilon(curve.scaled(500), 1e-6, np.arange(2.0, 33.0))[0]
  assert ours == pytest.approx(theirs, rel=1e-3)


def test_participation_cap_counts_only_a_clients_own_rounds():
  curve = accounting.gaussian(3.0)
  capped = accounting.participation_cap(curve, rounds=200, cap=10)
  np.testing.assert_array_equal(capped.rdp(ORDERS), curve.scaled(10).rdp(ORDERS))
  few = accounting.participation_cap(curve, rounds=4, cap=10)
  np.testing.assert_array_equal(few.rdp(ORDERS), curve.scaled(4).rdp(ORDERS))


def _brute_force(total, most, separation):
  blocks, start = [], 0
  for level in reversed(range(total.bit_length())):
    if total >> level & 1:
      blocks.append((start, level))
      start += 1 << level
  nodes = [
    range(s + i * (1 << j), s + (i + 1) * (1 << j))
    for s, level in blocks
    for j in range(level + 1)
    for i in range(1 << (level - j))
  ]
  return max(
    sum(sum(step in node for step in steps) ** 2 for node in nodes)
    for count in range(1, most + 1)
    for steps in itertools.combinations(range(total), count)
    if all(y - x >= separation for x, y in itertools.pairwise(steps))
  )


def test_tree_sensitivity_is_the_brute_force_maximum():
  for total, most, separation in itertools.product(range(1, 12), range(1, 4), range(1, 6)):
    expected = _brute_force(total, most, separation)
    assert accounting.tree_sensitivity(total, most, separation) == expected


def test_tree_with_restarts_is_the_closed_form():
  assert accounting.tree_restart_sensitivity([64]) == 7
  assert accounting.tree_restart_sensitivity([100, 1, 8]) == 7 + 1 + 4
  assert accounting.tree_restart_sensitivity([4], 2) == accounting.tree_sensitivity(4, 2, 1)
  assert accounting.tree_sensitivity(2048, 4, 300) > 0
  with pytest.raises(ConfigurationError):
    accounting.tree_restart_sensitivity([])
  with pytest.raises(ConfigurationError):
    accounting.tree_sensitivity(0, 1, 1)


def test_no_separation_can_only_mean_the_old_meaning():
  with pytest.warns(DeprecationWarning, match='distance y - x'):
    assert accounting.tree_sensitivity(8, 3, 0) == accounting.tree_sensitivity(8, 3, 1)
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    # A number that was meant as y - x - 1 is charged for more patterns than it allows, never fewer.
    for old in range(1, 8):
      assert accounting.tree_sensitivity(32, 4, old) >= accounting.tree_sensitivity(32, 4, old + 1)
    accounting.tree_restart_sensitivity([8, 8], 3)


@pytest.mark.parametrize('bands', [1, 2, 3])
def test_banded_noise_is_the_brute_force_maximum_at_its_separation(bands):
  rounds, most = 9, 3
  strategy = np.tril(np.random.default_rng(bands).uniform(0.2, 1.0, (rounds, rounds)))
  strategy *= np.subtract.outer(np.arange(rounds), np.arange(rounds)) < bands
  strategy /= np.linalg.norm(strategy, axis=0)

  def squared(separation):
    # The norm of a sum of columns; the strategy is not negative, so equal updates are the worst.
    return max(
      np.sum(strategy[:, list(steps)].sum(axis=1) ** 2)
      for count in range(1, most + 1)
      for steps in itertools.combinations(range(rounds), count)
      if all(y - x >= separation for x, y in itertools.pairwise(steps))
    )

  z = accounting.banded_noise_multiplier(
    1.0, bands=bands, min_separation=bands, max_participations=most
  )
  assert 1 / z**2 == pytest.approx(squared(bands))
  if bands > 1:
    assert squared(bands - 1) > 1.1 * squared(bands)
    with pytest.raises(ConfigurationError, match='overlap'):
      accounting.banded_noise_multiplier(
        1.0, bands=bands, min_separation=bands - 1, max_participations=most
      )


def test_banded_noise_needs_separation():
  z = accounting.banded_noise_multiplier(4.0, bands=8, min_separation=8, max_participations=5)
  assert z == pytest.approx(4.0 / math.sqrt(5))
  with pytest.raises(ConfigurationError, match='overlap'):
    accounting.banded_noise_multiplier(4.0, bands=8, min_separation=7, max_participations=5)
  curve = accounting.correlated_gaussian(4.0, 5.0)
  np.testing.assert_allclose(curve.rdp(ORDERS), ORDERS * 5 / 32)


def test_colluders_do_not_count():
  assert accounting.honest_survivors(90, 0.1) == 81
  assert accounting.honest_survivors(100, 0.29) == 71  # 0.29 * 100 is 28.999... in binary
  assert accounting.honest_survivors(100, 0.0) == 100
  assert accounting.honest_survivors(10, 1.0) == 0
  with pytest.raises(ConfigurationError):
    accounting.honest_survivors(10, 1.5)


@pytest.mark.parametrize('tolerated', [0, 1, 30, 99])
def test_xnoise_leaves_the_planned_variance(tolerated):
  parts = accounting.xnoise_components(
    sampled=100, tolerated_dropouts=tolerated, central_variance=3.0
  )
  assert math.fsum(parts) == pytest.approx(3.0 / (100 - tolerated))
  for dropouts in range(tolerated + 1):
    left = accounting.xnoise_remaining_variance(parts, sampled=100, dropouts=dropouts)
    assert left == pytest.approx(3.0)
  with pytest.raises(ConfigurationError, match='tolerate'):
    accounting.xnoise_remaining_variance(parts, sampled=100, dropouts=tolerated + 1)


def test_un_noised_thresholds_give_the_counts_away():
  rate, quantile, estimate = math.log(10.0), 0.98, 10.0
  counts, reported = [97, 90, 100, 3], []
  for count in [*counts, 0]:
    reported.append(2 * estimate + 1)
    estimate *= math.exp(-rate * (count / 100 - quantile))
  found = oracle.recovered_below_counts(
    reported,
    num_clients=100,
    target_quantile=quantile,
    learning_rate=rate,
    multiplier=2.0,
    increment=1.0,
  )
  np.testing.assert_allclose(found, counts, atol=1e-9)
