"""Confidence intervals cover as often as they say, and half as wide ones are caught."""

import dataclasses
import math
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.layers import Quantization
from tff_privacy_agg.analytics import (
  Count,
  Histogram,
  Mean,
  Quantiles,
  Sum,
  private_statistic,
  trees,
)
from tff_privacy_agg.analytics.distributions import encode_categories
from tff_privacy_agg.analytics.error_law import ErrorLaw, noise_probabilities
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.numerics.randomness import RandomStream

pytestmark = pytest.mark.integration

CONFIDENCE = 0.95
LAWS = pytest.mark.parametrize('mechanism', ['discrete_gaussian', 'skellam'])


def law_of(mechanism='discrete_gaussian', variance=900.0, clients=50, step=1.0):
  return ErrorLaw(mechanism=mechanism, local_variance=variance, clients=clients, step=step)


def covers(intervals, truth):
  return (intervals[..., 0] <= truth) & (truth <= intervals[..., 1])


def deviations(covered, wanted=CONFIDENCE):
  """How far the fraction covered is from the wanted one, in its standard errors."""
  return (np.mean(covered) - wanted) / math.sqrt(wanted * (1 - wanted) / np.size(covered))


def test_probabilities_of_the_noise_are_those_of_the_shares_added_up():
  support = np.arange(-60, 61)
  share = np.exp(-(support**2) / (2 * 2.5))
  share /= share.sum()
  added = np.convolve(np.convolve(share, share), share)
  found = noise_probabilities('discrete_gaussian', 2.5, 3)
  half = len(found) // 2
  np.testing.assert_allclose(found[half - 128 : half + 128], added[52:308], atol=1e-15)
  found = noise_probabilities('skellam', 0.5, 3)
  half = len(found) // 2
  expected = stats.skellam.pmf(np.arange(-40, 41), 0.75, 0.75)
  np.testing.assert_allclose(found[half - 40 : half + 41], expected, atol=1e-15)


@LAWS
@pytest.mark.parametrize('clients', [1, 30])
def test_half_width_is_the_quantile_of_noise_and_the_worst_rounding(mechanism, clients):
  """200,000 sums with rounding as wide as it can be; false alarm 3e-6 a side (4.5 errors)."""
  rng = np.random.default_rng(3)
  law = law_of(mechanism, variance=100.0, clients=clients)
  probabilities = noise_probabilities(mechanism, 100.0, clients)
  support = np.arange(len(probabilities)) - len(probabilities) // 2
  noise = rng.choice(support, size=200_000, p=probabilities / probabilities.sum())
  errors = noise + rng.binomial(clients, 0.5, size=noise.size) - clients / 2
  width = law.half_width(CONFIDENCE)
  assert deviations(np.abs(errors) <= width) > -4.5
  assert deviations(np.abs(errors) <= width / 2) < -4.5
  assert deviations(np.abs(errors) <= 0.85 * width) < -4.5  # and it is not wide for nothing


def test_half_width_is_the_normal_one_where_steps_are_small():
  law = law_of(variance=1e6, clients=100, step=0.5)
  assert law.stddev == 5000.0
  for confidence in (0.5, 0.95, 0.999):
    expected = stats.norm.ppf((1 + confidence) / 2) * law.stddev
    assert expected <= law.half_width(confidence) <= 1.002 * expected


@LAWS
def test_counts_are_covered_as_often_as_stated(simulation, mechanism):
  """3,000 categories at once through the whole stack; false alarm 3e-6 a side (4.5 errors)."""
  query = Histogram(categories=tuple(map(str, range(3000))))
  held = [3, 3, 3, 7, 7, 2999, 0, 3]
  counted = private_statistic(
    query, Cohort(expected=len(held)), noise_multiplier=1.0, mechanism=mechanism
  )
  found = counted.answer([encode_categories(query, [str(one)]) for one in held])
  truth = np.bincount(held, minlength=3000)
  # Cut to what is possible, they cover more often: below zero there is nothing but zero.
  assert deviations(covers(counted.intervals(found, CONFIDENCE)['counts'], truth)) > -4.5
  half, errors = counted.precision(CONFIDENCE)['counts'], np.abs(found['uncut']['counts'] - truth)
  assert abs(deviations(errors <= half)) < 4.5
  assert deviations(errors <= half / 2) < -4.5


@pytest.mark.parametrize('name', ['count', 'sum', 'mean'])
def test_one_number_is_covered_as_often_as_stated(simulation, name):
  """50 answers at 80 %: outside 25 to 50 with probability 6e-6; half the width covers 48 %."""
  clients, values = 40, np.linspace(-1.0, 3.0, 40)
  query, key, truth = {
    'count': (Count(), 'count', 40),  # all say yes: all are at the bound
    'sum': (Sum(maximum=2.0), 'sum', np.sum(np.minimum(values, 2.0))),
    'mean': (Mean(lower=0.0, upper=4.0), 'mean', np.mean(np.maximum(values, 0.0))),
  }[name]
  asked = private_statistic(query, Cohort(expected=clients), noise_multiplier=1.0)
  half = asked.precision(0.8)[key]
  answers = [asked.answer([True] * clients if name == 'count' else list(values)) for _ in range(50)]
  covered = [covers(asked.intervals(found, 0.8)[key], truth) for found in answers]
  assert np.sum(covered) >= 25
  spread = np.std([found['uncut'][key] - truth for found in answers])
  assert 0.55 < half / (1.2816 * spread) < 1.8  # chi-square with 49 degrees: 1e-6 a side


TREE = Quantiles(probabilities=(0.05, 0.25, 0.5, 0.9), lower=0.0, upper=16.0, levels=6)


def quantile_answers(trials, clients=500, seed=4, bias=0.0):
  """Trees of known data with noise of the exact law: the data, the answers, the law."""
  rng = np.random.default_rng(seed)
  values = rng.gamma(2.0, 2.0, size=clients)
  exact = np.sum([TREE.encode(tf.constant(one)) for one in values], axis=0)
  law = law_of(variance=25.0, clients=clients, step=4.0 / 25.0)
  probabilities = noise_probabilities(law.mechanism, law.local_variance, clients)
  support = np.arange(len(probabilities)) - len(probabilities) // 2
  answers = []
  for _ in range(trials):
    noise = rng.choice(support, size=exact.size, p=probabilities / probabilities.sum())
    sums = tf.constant(exact + law.step * noise + bias)
    answers.append(TREE.decode(sums, tf.constant(float(clients), tf.float64), law.stddev))
  return values, answers, law


def test_quantiles_are_covered_as_often_as_stated():
  """150 trees of four quantiles: too few are covered with probability 3e-6 (4.5 errors).

  Every quantile is taken for itself. Outward rounding to leaves makes the intervals wider than
  the errors need, so half the width is looked for where it shows: in the ranks.
  """
  values, answers, law = quantile_answers(150)
  truth = np.quantile(np.minimum(values, 16.0), TREE.probabilities, method='inverted_cdf')
  covered = np.array(
    [covers(TREE.intervals(a, law, CONFIDENCE)['quantiles'], truth) for a in answers]
  )
  assert np.all([deviations(one) > -4.5 for one in covered.T])
  widths = [np.diff(TREE.intervals(a, law, CONFIDENCE)['quantiles'])[2] for a in answers]
  assert np.median(widths) < 4.0  # they say something: a quarter of the range


def test_no_rank_is_further_off_than_stated():
  """All ranks at once in 300 trees; half the width fails by far."""
  values, answers, law = quantile_answers(300)
  ends = 0.25 * np.arange(1, 65)
  truth = np.array([np.sum(values < end) for end in ends[:-1]] + [len(values)])
  worst = np.array([np.abs(np.asarray(found['ranks']) - truth).max() for found in answers])
  rank = TREE.precision(law, CONFIDENCE)['rank']
  assert deviations(worst <= rank) > -4.5
  assert deviations(worst <= rank / 2) < -4.5
  for found in answers[:50]:  # a quantile lies in a leaf that the ranks allow
    off = np.abs(np.asarray(found['ranks']) - truth).max()
    for probability, place in zip(TREE.probabilities, found['quantiles'], strict=True):
      leaf = min(int(place / 0.25 - 1e-9), 63)
      before = truth[leaf - 1] if leaf else 0
      assert before - off <= probability * len(values) <= truth[leaf] + off


def test_more_noise_than_stated_is_seen():
  """The test of the test: intervals of a law with half the deviation do not cover the ranks."""
  values, answers, law = quantile_answers(150)
  narrow = dataclasses.replace(law, local_variance=law.local_variance / 4)
  truth = np.quantile(np.minimum(values, 16.0), TREE.probabilities, method='inverted_cdf')
  covered = np.array([covers(TREE.intervals(a, narrow, 0.5)['quantiles'], truth) for a in answers])
  wide = np.array([covers(TREE.intervals(a, law, 0.5)['quantiles'], truth) for a in answers])
  assert np.mean(covered) < np.mean(wide) - 0.1


def test_intervals_end_where_the_truth_must():
  query = Mean(lower=0.0, upper=4.0)
  law = law_of(variance=1e4, clients=10, step=1.0)
  found = query.intervals({'mean': np.float64(9.0)}, law, CONFIDENCE)
  assert found['mean'].tolist() == [0.0, 4.0]


@pytest.mark.parametrize(('beta', 'biased'), [(0.0, False), (Quantization().beta, True)])
def test_clients_at_the_bound_are_rounded_without_bias(beta, biased):
  """400 roundings of a client at its bound, with K half-way between integers.

  Conditional rounding sends all of them to the same side: the errors of n clients would add up
  to n / 2 steps, which no interval allows for. False alarm 3e-6 a side (4.5 errors).
  """
  asked = private_statistic(Count(), Cohort(expected=5), noise_multiplier=2.0)
  assert asked.binding.layers[1].beta == 0.0
  layer = Quantization(beta=beta)
  bound = 100.5 + (1.0 if beta == 0 else 0.3)  # K + 1, or conditional
  design = dataclasses.replace(asked.binding.design, scaled_norm=100.5, l2_bound=bound, beta=beta)
  slot = dataclasses.replace(asked.binding.slots['quantization'], design=design)
  rng = np.random.default_rng(5)
  rounded = []
  for key in rng.integers(-(2**31), 2**31, size=[400, 8], dtype=np.int64):
    stream = RandomStream(kind='philox', key=tf.constant(key, tf.int32))
    rounded.append(layer.encode(slot, {'randomness': stream}, tf.ones([1], tf.float64))[0][0])
  off = (np.mean(rounded) - 100.5) / (0.5 / math.sqrt(len(rounded)))
  assert (abs(off) > 4.5) == biased


@pytest.mark.parametrize('confidence', [0.0, 1.0, 95])
def test_a_confidence_is_a_probability(confidence):
  with pytest.raises(ConfigurationError, match='`confidence` must lie strictly'):
    law_of().half_width(confidence)
  with pytest.raises(ConfigurationError, match='`confidence` must lie strictly'):
    TREE.precision(law_of(), confidence)


def test_the_page_states_the_errors_that_trees_have():
  page = (pathlib.Path(__file__).parents[2] / 'docs' / 'analytics.md').read_text(encoding='utf-8')
  stated = re.search(r'the worst is ([\d.]+) with 1 level((?:, [\d.]+ with \d+)+)', page)
  pairs = [('1', stated[1])] + [(b, a) for a, b in re.findall(r'([\d.]+) with (\d+)', stated[2])]
  for levels, worst in pairs:
    assert trees.rank_variances(int(levels)).max() == pytest.approx(float(worst), abs=0.006)
  eight, four = re.search(
    r'8 levels are off by (\d+) clients at\s+most .*?, 4 levels by (\d+):', page, re.DOTALL
  ).groups()
  for levels, rank in ((8, eight), (4, four)):
    query = Quantiles(probabilities=(0.5,), lower=0.0, upper=1.0, levels=levels)
    asked = private_statistic(query, Cohort(expected=300), noise_multiplier=2.0)
    assert round(asked.precision(0.95)['rank']) == int(rank)


@pytest.mark.parametrize(
  ('clients', 'bits', 'stated'),
  [
    (200, None, 0.25),
    (10_000, None, 1.3),
    (100_000, None, 2.2),
    (1_000_000, None, 2.7),
    (1_000_000, 32, 34),
  ],
)
def test_the_page_states_what_rounding_adds(clients, bits, stated):
  asked = private_statistic(Count(), Cohort(expected=clients), noise_multiplier=2.0, bits=bits)
  design = asked.binding.design
  noise = 1.959964 * math.sqrt(clients * design.local_variance) / design.scaled_norm
  assert 100 * (asked.precision(0.95)['count'] / noise - 1) == pytest.approx(stated, rel=0.05)


def test_the_page_states_the_bits_that_are_chosen():
  page = (pathlib.Path(__file__).parents[2] / 'docs' / 'analytics.md').read_text(encoding='utf-8')
  stated = re.search(
    r'no step coarser \((\d+), (\d+), (\d+) and (\d+)\s+for these\)', page
  ).groups()
  for clients, bits in zip((200, 10_000, 100_000, 1_000_000), stated, strict=True):
    asked = private_statistic(Count(), Cohort(expected=clients), noise_multiplier=2.0)
    assert asked.binding.design.bits == int(bits)
