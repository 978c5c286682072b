"""Private statistics of what clients hold, for those who need no model."""

from tff_privacy_agg import _requires_tff as _requires_tff  # refuses where it is not
from tff_privacy_agg.analytics.base import Query
from tff_privacy_agg.analytics.distributions import Histogram, Quantiles
from tff_privacy_agg.analytics.statistic import Statistic, private_statistic
from tff_privacy_agg.analytics.sums import Count, Mean, Sum

__all__ = [
  'Count',
  'Histogram',
  'Mean',
  'Quantiles',
  'Query',
  'Statistic',
  'Sum',
  'private_statistic',
]
