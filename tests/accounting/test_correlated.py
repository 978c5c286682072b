"""Noise correlated over rounds: sensitivity against brute force, coefficients against optima."""

import dataclasses
import itertools
import json
import math
from fractions import Fraction

import numpy as np
import pytest

from tff_privacy_agg import accounting
from tff_privacy_agg.accounting.correlated import workload
from tff_privacy_agg.accounting.correlated.column import ONE, BandedColumn
from tff_privacy_agg.accounting.correlated.strategy import most_participations
from tff_privacy_agg.errors import ConfigurationError


def centres(column, contributions, releases, restarts=()):
  """The integer centres q_t of all rounds, given what was released."""
  noise = releases - contributions
  found = []
  for t in range(len(releases)):
    begun = max((start for start in restarts if start <= t), default=0)
    lags = range(1, min(t - begun, column.bands - 1) + 1)
    carried = sum((column.steps[j] * noise[t - j] for j in lags), np.zeros_like(noise[0]))
    found.append(contributions[t] - (carried + ONE // 2) // ONE)
  return np.array(found)


def patterns(rounds, separation):
  for count in range(1, most_participations(rounds, separation) + 1):
    for steps in itertools.combinations(range(rounds), count):
      if all(y - x >= separation for x, y in itertools.pairwise(steps)):
        yield steps


def test_no_participation_pattern_moves_the_centres_further():
  random = np.random.default_rng(0)
  largest = 0.0
  for bands, rounds, dimension in itertools.product((1, 2, 3), (5, 7), (1, 3)):
    separation = bands
    column = BandedColumn.from_floats([1.0, *random.uniform(-1, 1, bands - 1)])
    for steps in patterns(rounds, separation):
      others = random.integers(-9, 10, (rounds, dimension))
      releases = random.integers(-99, 100, (rounds, dimension))
      mine = np.zeros_like(others)
      mine[list(steps)] = random.integers(-2, 3, (len(steps), dimension))
      bound = max(int((mine**2).sum(axis=1).max()), 1)
      moved = centres(column, others + mine, releases) - centres(column, others, releases)
      limit = len(steps) * column.squared_sensitivity(bound, dimension)
      assert (moved**2).sum() <= limit
      largest = max(largest, (moved**2).sum() / limit)
  assert largest > 0.9


def test_participations_on_both_sides_of_a_restart_share_no_round():
  """Also where a client of a lost round takes part in the next one, and in all of them."""
  random = np.random.default_rng(1)
  rounds, dimension = 6, 2
  largest = 0.0
  for bands, restarts in itertools.product((2, 3), ((3,), (2, 4), (1, 2, 3), (3, 4, 5))):
    column = BandedColumn.from_floats([1.0, *random.uniform(-1, 1, bands - 1)])
    segments = np.searchsorted(restarts, np.arange(rounds), side='right')
    for steps in itertools.chain.from_iterable(
      itertools.combinations(range(rounds), count) for count in range(1, rounds + 1)
    ):
      near = [y - x < bands and segments[x] == segments[y] for x, y in itertools.pairwise(steps)]
      if any(near):
        continue
      others = random.integers(-9, 10, (rounds, dimension))
      releases = random.integers(-99, 100, (rounds, dimension))
      mine = np.zeros_like(others)
      mine[list(steps)] = 20 * random.choice([-1, 1], (len(steps), dimension))
      bound = max(int((mine**2).sum(axis=1).max()), 1)
      both = (centres(column, all_of, releases, restarts) for all_of in (others + mine, others))
      moved = next(both) - next(both)
      limit = len(steps) * column.squared_sensitivity(bound, dimension)
      assert (moved**2).sum() <= limit
      largest = max(largest, (moved**2).sum() / limit)
  assert largest > 0.8


def test_most_participations_is_the_longest_pattern():
  for rounds, separation in itertools.product(range(1, 9), range(1, 5)):
    longest = max(len(steps) for steps in patterns(rounds, separation))
    assert most_participations(rounds, separation) == longest


def test_the_sensitivity_is_the_formula_rounded_down_exactly():
  column = BandedColumn.from_floats([1.0, -0.5, 0.25])
  norm = math.sqrt(1 + 0.25 + 0.0625)
  formula = (norm * 1000 + math.sqrt(2 * 7)) ** 2
  assert column.squared_sensitivity(1000**2, 7) == math.floor(formula)
  # Coordinates that a client of norm 1 leaves at 0 are not rounded otherwise.
  assert column.squared_sensitivity(1, 10**6) == math.floor((norm + math.sqrt(2)) ** 2)


def test_mu_counts_participations_and_needs_separation():
  column = BandedColumn.from_floats([1.0, 0.5])
  facts = {'l2_squared': 64, 'dimension': 1, 'variance': Fraction(100)}
  one = column.mu_squared(participations=1, separation=2, **facts)
  assert column.mu_squared(participations=5, separation=2, **facts) == 5 * one
  assert one == Fraction(column.squared_sensitivity(64, 1), 100)
  with pytest.raises(ConfigurationError, match='at least 2 rounds apart'):
    column.mu_squared(participations=5, separation=1, **facts)
  with pytest.raises(ConfigurationError, match='does not begin with 1'):
    BandedColumn.from_floats([0.5, 1.0])


def _error(column, rounds, momentum, rates):
  strategy = sum(c * np.eye(rounds, k=-j) for j, c in enumerate(column))
  lags = np.subtract.outer(np.arange(rounds), np.arange(rounds))
  momenta = np.where(lags >= 0, momentum ** np.maximum(lags, 0), 0.0)
  noise = np.tril(np.ones((rounds, rounds))) @ np.diag(rates) @ momenta @ np.linalg.inv(strategy)
  return math.sqrt((noise**2).sum() / rounds) * np.linalg.norm(column)


@pytest.mark.parametrize('momentum', [0.0, 0.9])
@pytest.mark.parametrize('schedule', ['constant', 'decaying', 'warmed up'])
def test_the_error_is_that_of_the_matrices_and_no_neighbour_is_better(momentum, schedule):
  rounds, bands = 70, 4
  given = {
    'constant': None,
    'decaying': np.linspace(1, 0, rounds),
    'warmed up': [0.0] * 9 + [0.5] * 61,
  }
  rates = given[schedule]
  used = np.ones(rounds) if rates is None else np.array(rates)
  steps = workload.optimal_column(rounds, bands, momentum=momentum, learning_rates=rates).steps
  column = [c / ONE for c in steps]
  best = _error(column, rounds, momentum, used)
  assert workload.root_mean_squared_error(column, rounds, momentum, rates) == pytest.approx(best)
  for j, change in itertools.product(range(1, bands), (-0.02, 0.02)):
    assert (
      _error([*column[:j], column[j] + change, *column[j + 1 :]], rounds, momentum, used) > best
    )


@pytest.mark.parametrize('rates', [[1.0] * 8, [0.0] * 9, [1.0] * 8 + [-1.0], [math.nan] * 9])
def test_learning_rates_are_one_for_each_round(rates):
  with pytest.raises(ConfigurationError, match='`learning_rates` must be 9 numbers'):
    workload.optimal_column(9, 3, learning_rates=rates)


def test_without_correlation_the_error_is_that_of_a_random_walk():
  assert workload.optimal_column(9, 1).steps == (ONE,)
  assert workload.root_mean_squared_error([1.0], 9) == pytest.approx(math.sqrt(5))
  gain = workload.root_mean_squared_error([1.0], 200) / workload.root_mean_squared_error(
    [c / ONE for c in workload.optimal_column(200, 20).steps], 200
  )
  assert gain > 3.1  # the banded square root alone


@pytest.mark.parametrize(
  'column', [[1.0], [1.0, 0.5], [1.0, -0.7, 0.6], [1.0, 0.55, 0.45, 0.4], [1.0, 0.0, 0.7]]
)
def test_no_noise_is_larger_than_is_said(column):
  radius, rounds = 1000, 400
  column = BandedColumn.from_floats(column)
  exact = [Fraction(c, ONE) for c in column.steps]
  inverse = [Fraction(1)]
  for t in range(1, 60):
    inverse.append(-sum(exact[j] * inverse[t - j] for j in range(1, min(t, len(exact) - 1) + 1)))
  largest = column.largest_noise(radius)
  assert radius * sum(map(abs, inverse)) < largest < 1.02 * radius * sum(map(abs, inverse)) + 20
  # Draws whose signs add up in the last round reach nearly as far.
  noise = []
  for t in range(rounds):
    age = rounds - 1 - t
    draw = radius * (-1 if age < len(inverse) and inverse[age] < 0 else 1)
    lags = range(1, min(t, column.bands - 1) + 1)
    carried = sum(column.steps[j] * noise[t - j] for j in lags)
    noise.append(draw - (carried + ONE // 2) // ONE)
  assert 0.97 * largest < max(map(abs, noise)) <= largest


def test_noise_that_grows_without_end_is_refused():
  for column in ([1.0, 1.0], [1.0, -1.01], [1.0, 3.0, 2.0]):
    with pytest.raises(ConfigurationError, match='grows from round to round'):
      BandedColumn.from_floats(column).largest_noise(1)


def _price(**changes):
  column = BandedColumn.from_floats([1.0, 0.5])
  vector = accounting.noisy_vector(
    name='update',
    mechanism='correlated_discrete_gaussian',
    dimension=7,
    l2_bound=1000.0,
    l1_bound=3000.0,
    local_variance=1e7,
    fewest=1,
    most=1,
    draw_distance=1e-20,
    column=column,
  )
  values = {'mechanism': 'correlated_discrete_gaussian', 'minimum': 1, 'maximum': 9}
  values |= {'vectors': (vector,), 'separation': 3, 'participations': 4}
  return accounting.RoundPrice(**(values | changes)), column


def test_the_price_of_correlated_noise_is_that_of_a_participation():
  price, column = _price()
  (vector,) = price.vectors
  moved = column.squared_sensitivity(1000**2, 7)
  mu_squared, c1, c2 = price.gaussian(1)
  exact = column.mu_squared(
    l2_squared=1000**2,
    dimension=7,
    variance=Fraction(10**7) - Fraction(vector.t_squared),
    participations=1,
    separation=3,
  )
  assert mu_squared == math.ceil(exact * accounting.UNIT)
  assert vector.difference('zero_out') == (moved, 2 * 7)
  assert 0 < c1 <= c2  # of the coordinates of both rounds
  assert price.distance(9) == pytest.approx(2 * 7 * 1e-20)
  assert price.noise_multiplier(1) == pytest.approx(math.sqrt(1e7 / moved))
  assert [price.most_participations(t) for t in (0, 1, 3, 4, 10, 99)] == [0, 1, 1, 2, 4, 4]
  assert accounting.RoundPrice.from_dict(json.loads(json.dumps(price.as_dict()))) == price
  assert price.curve(1).rdp(2.0) == pytest.approx(moved / 1e7)


def test_prices_of_other_noise_say_nothing_of_strategies():
  price, _ = _price()
  plain = dataclasses.replace(price.vectors[0], steps=())
  central, _ = _price(
    mechanism='central_discrete_gaussian', vectors=(plain,), separation=None, participations=None
  )
  assert not {'separation', 'participations'} & {*central.as_dict()}
  assert 'steps' not in central.as_dict()['vectors'][0]
  assert central.most_participations(10) == 10
  joint = price.beside([central])
  assert joint.gaussian(1)[0] == price.gaussian(1)[0] + central.gaussian(1)[0]
  with pytest.raises(ConfigurationError, match='need one separation'):
    price.beside([_price(separation=4)[0]])
  with pytest.raises(ConfigurationError, match='correlated over rounds, and only there'):
    _price(separation=None)
  with pytest.raises(ConfigurationError, match='at least 2 rounds apart'):
    _price(separation=1)


def test_no_amplification_is_claimed_for_correlated_noise():
  price, _ = _price()
  for sampled in (
    lambda: accounting.poisson_round(price, 1, 0.1),
    lambda: accounting.poisson(price.curve(1), 0.1, adjacency='zero_out', total_noise_fixed=True),
    lambda: accounting.without_replacement(
      price.curve(1, adjacency='replace_one'), population=100, cohort=9
    ),
  ):
    with pytest.raises(
      ConfigurationError, match='no proved bound for noise that is correlated over rounds'
    ):
      sampled()
