"""Private statistics: right answers, noise of the stated size, one secure sum, a true epsilon."""

import math

import numpy as np
import pytest
import tensorflow_federated as tff

from tff_privacy_agg import accounting
from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.analytics import (
  Count,
  Histogram,
  Mean,
  Quantiles,
  Sum,
  private_statistic,
)
from tff_privacy_agg.analytics.distributions import encode_categories
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.ledger import PrivacyLedger

pytestmark = pytest.mark.integration

RNG = np.random.default_rng(0)
CLIENTS = 200
NUMBERS = RNG.normal(10.0, 3.0, size=CLIENTS)
COLOURS = ('red', 'green', 'blue')
HELD = [RNG.choice(COLOURS, p=[0.6, 0.3, 0.1]) for _ in range(CLIENTS)]
COLOUR = Histogram(categories=COLOURS)
QUARTILES = Quantiles(probabilities=(0.25, 0.5, 0.75), lower=0.0, upper=20.0, levels=6)
CASES = {
  'count': (Count(), [bool(x > 10) for x in NUMBERS]),
  'sum': (Sum(maximum=20.0), list(NUMBERS)),
  'mean': (Mean(lower=0.0, upper=20.0), list(NUMBERS)),
  'histogram': (COLOUR, [encode_categories(COLOUR, [held]) for held in HELD]),
  'quantiles': (QUARTILES, list(NUMBERS)),
}
each_case = pytest.mark.parametrize('name', CASES)


@pytest.fixture(autouse=True)
def _runs_in_simulation(simulation):
  """Every test here may run computations."""


def statistic(name, z=2.0, clients=CLIENTS, **kwargs):
  return private_statistic(CASES[name][0], Cohort(expected=clients), noise_multiplier=z, **kwargs)


def exact(name):
  return {
    'count': np.sum(NUMBERS > 10),
    'sum': np.sum(NUMBERS),
    'mean': np.mean(NUMBERS),
    'histogram': [HELD.count(colour) for colour in COLOURS],
    'quantiles': np.quantile(NUMBERS, [0.25, 0.5, 0.75]),
  }[name]


@each_case
def test_nothing_but_one_secure_sum_leaves_a_client(name):
  computation = statistic(name).next
  tff.test.assert_not_contains_unsecure_aggregation(computation)
  text = computation.to_building_block().compact_representation()
  assert text.count('federated_secure_modular_sum') == 1


@each_case
def test_with_little_noise_the_answer_is_the_statistic(name):
  found = statistic(name, z=1e-3).answer(CASES[name][1])
  answer = found[{'histogram': 'counts'}.get(name, name)]
  step = 20 / 2**6 if name == 'quantiles' else 0.02 * np.sqrt(CLIENTS)
  np.testing.assert_allclose(answer, exact(name), atol=step)
  assert found['survivors'] == CLIENTS
  assert found['accepted']


@pytest.mark.parametrize('name', ['count', 'sum', 'mean', 'histogram'])
def test_noise_has_the_stated_size(name):
  """40 answers, normalised by the stated deviation: chi-square, false alarm 1e-6 a side."""
  counted = statistic(name, z=2.0)
  key = {'histogram': 'counts'}.get(name, name)
  errors = []
  for _ in range(40):
    found = counted.answer(CASES[name][1])
    errors.append((np.asarray(found['uncut'][key]) - exact(name)) / found['stddev'])
  errors = np.ravel(errors)
  low, high = {40: (13.0, 92.0), 120: (67.0, 195.0)}[errors.size]
  assert low < np.sum(errors**2) < high


def test_quantiles_err_as_their_counts_do():
  """The deviation of a rank over the density at the median; 5 of them: false alarm 6e-7."""
  found = statistic('quantiles', z=1.0).answer(CASES['quantiles'][1])
  density = CLIENTS / (3.0 * math.sqrt(2 * math.pi))
  slack = 5 * float(found['stddev']) / density
  assert abs(found['quantiles'][1] - 10.0) < slack + 1.0
  assert list(found['quantiles']) == sorted(found['quantiles'])


def test_a_client_in_more_categories_counts_for_less_in_each():
  query = Histogram(categories=tuple('abcd'), contributions=1)
  counted = private_statistic(query, Cohort(expected=1), noise_multiplier=1e-3)
  found = counted.answer([np.array([True] * 4)])
  np.testing.assert_allclose(found['counts'], [0.5] * 4, atol=0.02)


def test_no_client_is_in_more_categories_than_there_are():
  assert Histogram(categories=tuple('abcd'), contributions=10**30).unit == 2


def test_no_epsilon_is_stated_where_the_distance_of_the_noise_is_above_delta():
  """At an epsilon of 129, e^epsilon times the distance of the samplers is above delta."""
  loud = private_statistic(Count(), Cohort(expected=1000), noise_multiplier=0.08, bits=40)
  assert loud.binding.sampler_distance * math.exp(129) > 1e-4
  assert math.isinf(loud.epsilon(1e-4))
  once = private_statistic(Count(), Cohort(expected=1000), noise_multiplier=2.0, bits=40)
  assert once.epsilon(1e-4) < 2
  assert math.isinf(once.epsilon(1e-4, answers=10**6))


def test_epsilon_is_that_of_the_release():
  counted = statistic('mean', z=2.0)
  by_order, _ = accounting.epsilon(counted.binding.curve(CLIENTS), 1e-5)
  assert counted.epsilon(1e-5) < 0.96 * by_order
  gaussian = accounting.gaussian_epsilon(1 / 2.0, 1e-5)
  assert gaussian * 0.999 <= counted.epsilon(1e-5) <= 1.01 * gaussian
  assert counted.epsilon(1e-5, answers=4) > 1.8 * counted.epsilon(1e-5)


def test_it_is_charged_and_settled_in_a_ledger(tmp_path):
  counted = statistic('mean')
  facts = counted.facts(population=1000, delta=1e-5, minimum_clients=CLIENTS)
  with PrivacyLedger(tmp_path / 'ledger.jsonl', facts) as ledger:
    charge = ledger.charge(1)
    found = counted.answer(CASES['mean'][1])
    ledger.settle(
      charge, survivors=int(found['survivors']), counted_by='runtime', honest=int(found['honest'])
    )
    assert ledger.epsilon('server') == pytest.approx(counted.epsilon(1e-5), rel=0.005)


def test_too_few_clients_get_no_answer():
  found = statistic('count').answer([True] * (CLIENTS - 1))
  assert not found['accepted']
  assert found['count'] == 0


def test_a_round_of_too_few_says_nothing_and_its_intervals_say_so():
  counted = statistic('count', clients=20)
  found = counted.answer([True] * 19)
  np.testing.assert_array_equal(counted.intervals(found)['count'], [0, 19])
  cut = statistic('quantiles', clients=20)
  intervals = cut.intervals(cut.answer([15.0] * 19))
  np.testing.assert_array_equal(intervals['quantiles'], [[0.0, 20.0]] * 3)


def test_quantiles_of_few_clients_are_not_drawn_to_the_middle():
  """Noise of 64 leaves, cut at zero, would add 100 clients spread evenly: found at 3 or 4."""
  clients = 100
  cut = private_statistic(QUARTILES, Cohort(expected=clients), noise_multiplier=1.0)
  found = cut.answer([1.0] * clients)
  assert np.all(found['quantiles'] < 2.5)
  assert np.all(cut.intervals(found)['quantiles'][:, 1] < 3.5)


@pytest.mark.parametrize(
  ('make', 'sentence'),
  [
    (lambda: Sum(maximum=0.0), 'maximum'),
    (lambda: Mean(lower=1.0, upper=1.0), '`lower` must be below `upper`'),
    (lambda: Mean(lower=0.0, upper=math.inf), 'finite'),
    (lambda: Histogram(categories=()), 'categories'),
    (lambda: Histogram(categories=('a', 'a')), 'differ'),
    (lambda: Histogram(categories=('a',), contributions=0), 'contributions'),
    (lambda: Quantiles(probabilities=(1.5,), lower=0, upper=1), 'probabilities'),
    (lambda: Quantiles(probabilities=(0.5,), lower=0, upper=1, levels=20), 'at most 12'),
    (lambda: private_statistic('mean', Cohort(expected=1), noise_multiplier=1.0), 'query'),
    (lambda: private_statistic(Count(), Cohort(expected=1), noise_multiplier=0.0), 'noise'),
  ],
  ids=range(10),
)
def test_bad_questions_are_refused(make, sentence):
  with pytest.raises(ConfigurationError, match=sentence):
    make()


@pytest.mark.parametrize(
  ('query', 'values'),
  [
    (CASES['mean'][0], ['12'] * CLIENTS),
    (CASES['mean'][0], [True] * CLIENTS),
    (CASES['mean'][0], np.ones((CLIENTS, 2))),
    (CASES['mean'][0], dict.fromkeys(range(CLIENTS), 1.0)),
    (CASES['mean'][0], []),
    (CASES['count'][0], [2] * CLIENTS),
    (COLOUR, [[True]] * CLIENTS),
    (COLOUR, ['red'] * CLIENTS),
  ],
)
def test_values_that_do_not_fit_are_refused_before_a_charge(query, values, tmp_path):
  statistic = private_statistic(query, Cohort(expected=CLIENTS), noise_multiplier=4.0)
  facts = statistic.facts(population=CLIENTS, delta=1e-4)
  with PrivacyLedger(tmp_path / 'ledger.jsonl', facts) as ledger:
    with pytest.raises(ConfigurationError, match='`values` must have'):
      statistic.answer(values, ledger=ledger)
    assert ledger.state.rounds == 0


def test_values_of_narrower_types_and_arrays_are_taken():
  mean = private_statistic(CASES['mean'][0], Cohort(expected=CLIENTS), noise_multiplier=0.5)
  whole = [int(x) for x in NUMBERS]
  for values in (whole, np.array(whole, np.int16), np.array(whole, np.float32)):
    assert mean.answer(values)['mean'] == pytest.approx(np.mean(whole), abs=0.5)
  rows = np.array([encode_categories(COLOUR, [held]) for held in HELD])
  counts = private_statistic(COLOUR, Cohort(expected=CLIENTS), noise_multiplier=0.5)
  assert counts.answer(rows)['counts'] == pytest.approx(rows.sum(axis=0), abs=8)
