"""Private statistics: right answers, noise of the stated size, one secure sum, a true epsilon."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_privacy_agg import accounting
from tff_privacy_agg.analytics import (
  Count,
  Histogram,
  Mean,
  Quantiles,
  Sum,
  private_statistic,
  trees,
)
from tff_privacy_agg.analytics.queries import encode_categories
from tff_privacy_agg.domains import Cohort
from tff_privacy_agg.errors import ConfigurationError

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
  computation = statistic(name).computation
  tff.test.assert_not_contains_unsecure_aggregation(computation)
  text = computation.to_building_block().compact_representation()
  assert text.count('federated_secure_modular_sum') == 1


@each_case
def test_with_little_noise_the_answer_is_the_statistic(name):
  found = statistic(name, z=1e-3).computation(CASES[name][1])
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
    found = counted.computation(CASES[name][1])
    errors.append((np.asarray(found[key]) - exact(name)) / found['stddev'])
  errors = np.ravel(errors)
  low, high = {40: (13.0, 92.0), 120: (67.0, 195.0)}[errors.size]
  assert low < np.sum(errors**2) < high


def test_quantiles_err_as_their_counts_do():
  """Deviation of a cumulated count: at most sqrt(levels) nodes; over the density at the median."""
  found = statistic('quantiles', z=1.0).computation(CASES['quantiles'][1])
  density = CLIENTS / (3.0 * math.sqrt(2 * math.pi))
  slack = 5 * math.sqrt(6) * float(found['stddev_of_a_count']) / density
  assert abs(found['quantiles'][1] - 10.0) < slack + 1.0
  assert list(found['quantiles']) == sorted(found['quantiles'])


@each_case
@pytest.mark.parametrize('hostile', [1e30, -1e30, math.nan, math.inf])
def test_one_client_moves_no_vector_beyond_its_bound(name, hostile):
  """In the integer domain, whatever it holds: the sensitivity that the account is made with."""
  query, _ = CASES[name]
  bound = statistic(name).binding
  value = {
    'count': True,
    'histogram': np.array([True] * 3),
  }.get(name, hostile)
  vector = query.encode(tf.constant(value))
  clipping, quantization = bound.layers[:2]
  slot = bound.slots[clipping.name]
  real, _ = clipping.encode(slot, {}, tf.cast(vector, slot.dtype))
  assert np.linalg.norm(real) <= 1 + 1e-6
  assert np.all(np.isfinite(real))
  assert quantization.name == 'quantization'  # enforces the bound exactly: tests/layers


def test_a_client_in_more_categories_counts_for_less_in_each():
  query = Histogram(categories=tuple('abcd'), contributions=1)
  counted = private_statistic(query, Cohort(expected=1), noise_multiplier=1e-3)
  found = counted.computation([np.array([True] * 4)])
  np.testing.assert_allclose(found['counts'], [0.5] * 4, atol=0.02)


def test_epsilon_is_that_of_the_release():
  counted = statistic('mean', z=2.0)
  expected, _ = accounting.epsilon(counted.binding.curve(CLIENTS), 1e-5)
  assert counted.epsilon(1e-5) == pytest.approx(expected)
  gaussian, _ = accounting.epsilon(accounting.gaussian(2.0), 1e-5)
  assert gaussian * 0.999 <= counted.epsilon(1e-5) <= 1.01 * gaussian
  assert counted.epsilon(1e-5, answers=4) > 1.8 * counted.epsilon(1e-5)


def test_it_is_charged_and_settled_in_a_ledger(tmp_path):
  counted = statistic('mean')
  facts = counted.facts(population=1000, delta=1e-5, secagg_threshold=CLIENTS)
  with accounting.PrivacyLedger(tmp_path / 'ledger.jsonl', facts) as ledger:
    charge = ledger.charge(1)
    found = counted.computation(CASES['mean'][1])
    ledger.settle(charge, survivors=int(found['survivors']), honest=int(found['honest']))
    assert ledger.epsilon('server') == pytest.approx(counted.epsilon(1e-5), rel=0.005)


def test_too_few_clients_get_no_answer():
  found = statistic('count').computation([True] * (CLIENTS - 1))
  assert not found['accepted']
  assert found['count'] == 0


def test_consistent_leaves_are_the_least_squares_estimate():
  levels = 3
  rng = np.random.default_rng(1)
  design = np.concatenate(
    [np.kron(np.eye(2**level), np.ones(2 ** (levels - level))) for level in range(1, levels + 1)]
  )
  counts = rng.normal(size=trees.nodes(levels))
  expected, *_ = np.linalg.lstsq(design, counts, rcond=None)
  found = trees.consistent_leaves(tf.constant(counts), levels)
  np.testing.assert_allclose(found, expected, atol=1e-12)


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
