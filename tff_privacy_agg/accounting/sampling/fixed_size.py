"""Curves of rounds whose cohort of fixed size is drawn without replacement."""

import math

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg.accounting.curves import RdpCurve
from tff_privacy_agg.accounting.sampling.moments import (
  check_base,
  log_binomials,
  log_sum,
  moments_of,
  sampled_curve,
)
from tff_privacy_agg.errors import ConfigurationError


@_validate.plain_numbers
def without_replacement(base: RdpCurve, *, population: int, cohort: int) -> RdpCurve:
  """Amplification by a cohort of fixed size drawn without replacement.

  arXiv:1808.00087 (Wang, Balle, Kasiviswanathan 2019), Theorem 9. For who sees
  only the released models.

  Args:
    base: One round's curve under 'replace_one', that is at doubled sensitivity.
    population: Number of clients to draw from, at least `cohort`.
    cohort: Number of clients in each round, at least 1.

  Returns:
    A curve for integer orders 2 to 256, adjacency 'replace_one'.

  Raises:
    ConfigurationError: If `base` is not a curve under 'replace_one'.

  Examples:
    >>> base = tpa.accounting.gaussian(1.0, adjacency='replace_one')
    >>> sampled = tpa.accounting.without_replacement(base, population=10_000, cohort=100)
    >>> round(tpa.accounting.epsilon(sampled.scaled(100), 1e-5)[0], 2)
    11.21
  """
  _validate.at_least(1, cohort=cohort)
  _validate.at_least(cohort, population=population)
  check_base(base)
  if base.adjacency != 'replace_one':
    raise ConfigurationError(
      f'Sampling without replacement has no bound for a curve under {base.adjacency!r}: a cohort '
      "of fixed size needs 'replace_one', at twice the sensitivity. Build the curve with "
      "`adjacency='replace_one'`."
    )
  rate = cohort / population
  moments = moments_of(base)
  second = moments[0]  # RDP(2)
  if second > 0:
    log_two = min(math.log(4.0) + second + math.log(-math.expm1(-second)), math.log(2.0) + second)
  else:
    log_two = -math.inf

  def log_a(a: int) -> float:
    j = np.arange(2, a + 1)
    terms = math.log(2.0) + j * math.log(rate) + log_binomials(a) + moments[: a - 1]
    terms[0] = 2 * math.log(rate) + log_binomials(a)[0] + log_two
    return log_sum(np.append(terms, 0.0))

  label = f'without replacement {cohort}/{population} (Wang et al. 2019 Thm 9)'
  return sampled_curve(base, log_a, label, 'replace_one')
