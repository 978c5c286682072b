"""Bounds of clients' numbers: none is taken whose sum, noise or step leaves float64."""

import math

import pytest
import tensorflow as tf

from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.analytics import Mean, Quantiles, Sum, private_statistic
from tff_privacy_agg.errors import ConfigurationError


def sum_of(lower, upper):
  return Sum(maximum=upper)


def mean_of(lower, upper):
  return Mean(lower=lower, upper=upper)


def median_of(lower, upper):
  return Quantiles(probabilities=(0.5,), lower=lower, upper=upper)


each_query = pytest.mark.parametrize('make', [sum_of, mean_of, median_of])


@each_query
@pytest.mark.parametrize(
  'upper', [pytest.param(10**300, id='integer'), 1e308, 1.1e100, 1e-101, 1e-320]
)
def test_bounds_at_the_ends_of_the_floats_are_refused(make, upper):
  with pytest.raises(ConfigurationError, match=r'neither underflow nor overflow, got .*unit\.'):
    make(0.0, upper)


@pytest.mark.parametrize('make', [mean_of, median_of])
@pytest.mark.parametrize('bounds', [(1.5e308, 1.7e308), (-1.7e308, 1.7e308), (-(10**400), 0)])
def test_so_are_ranges_far_from_zero(make, bounds):
  with pytest.raises(ConfigurationError, match='at most 1e'):
    make(*bounds)


@each_query
@pytest.mark.parametrize('upper', [1e100, 1e-100])
def test_the_error_of_what_is_taken_is_a_number(make, upper):
  """It is in proportion to the bounds: an answer in another unit."""
  cohort = Cohort(expected=1000)
  shown, usual = (
    private_statistic(make(0.0, end), cohort, noise_multiplier=2.0).precision()
    for end in (upper, 1.0)
  )
  for name in shown:
    scale = 1.0 if name in ('rank', 'fraction') else upper
    assert shown[name] == pytest.approx(usual[name] * scale, rel=1e-6, abs=0)


@pytest.mark.parametrize('bounds', [(-1e100, 1e100), (0.9e100, 1e100), (-3e-100, -1e-100)])
def test_a_number_far_outside_the_range_of_a_mean_is_cut_to_its_end(bounds):
  """The difference from the middle of the largest finite numbers is finite, too."""
  query = mean_of(*bounds)
  for value, end in ((1.79e308, bounds[1]), (-1.79e308, bounds[0])):
    sent = tf.clip_by_value(query.encode(tf.constant(value, tf.float64)) / query.unit, -1, 1)
    count = tf.constant(1.0, tf.float64)
    answer = query.decode(sent * query.unit, count, count)
    assert math.isclose(answer['mean'], end)


@pytest.mark.parametrize('make', [mean_of, median_of])
@pytest.mark.parametrize(
  'bounds',
  [(1.0, 1.0), (2.0, 1.0), (0.0, math.inf), (-math.inf, 0.0), (math.nan, 1), (0, math.nan)],
)
def test_a_range_is_finite_and_in_order(make, bounds):
  with pytest.raises(ConfigurationError, match='`lower` must be below `upper`, both finite, got'):
    make(*bounds)
