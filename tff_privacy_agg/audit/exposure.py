"""Exposure: how far up the list of all candidates a model ranks what it was shown."""

import dataclasses
import math

import numpy as np
from scipy import stats

from tff_privacy_agg import _validate
from tff_privacy_agg.audit import intervals
from tff_privacy_agg.errors import ConfigurationError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exposure:
  """Exposure of one inserted canary.

  Attributes:
    bits: `log2 candidates - log2 rank`, at least 0.
    rank: 1 for the likeliest of all candidates.
    candidates: Number of candidates, the canary among them.
  """

  bits: float
  rank: int
  candidates: int


@_validate.plain_numbers
def exposure(canary_loss: float, other_losses: np.ndarray) -> Exposure:
  """Exact exposure of a canary among all candidates; arXiv:1802.08232, Definition 3.

  Args:
    canary_loss: Loss (log-perplexity) of the canary.
    other_losses: Losses of the other candidates, `[n]`; ties rank before the canary, so a
      model that knows nothing shows none.

  Examples:
    >>> tpa.audit.exposure(1.0, np.arange(2.0, 1025.0))
    Exposure(bits=10.0, rank=1, candidates=1024)
  """
  others = intervals.scores(other_losses=other_losses)
  if not math.isfinite(canary_loss):
    raise ConfigurationError(
      f'`canary_loss` must be finite, got {canary_loss!r}. Audit a model that has not diverged.'
    )
  rank = 1 + int(np.sum(others <= canary_loss))
  candidates = len(others) + 1
  return Exposure(bits=max(0.0, math.log2(candidates / rank)), rank=rank, candidates=candidates)


@_validate.plain_numbers
def extrapolated_exposure(canary_loss: float, sampled_losses: np.ndarray) -> float:
  """Exposure in bits from a sample of candidates, too many to list; Section 4.4 there.

  A skew-normal law is fitted to the sampled losses, and the exposure is
  `-log2 P[loss <= canary's]`; it is not limited by the size of the sample.

  Args:
    canary_loss: Loss of the canary.
    sampled_losses: Losses of candidates drawn at random, `[n]`, n >= 100.

  Examples:
    >>> others = np.random.default_rng(0).normal(10.0, 1.0, 1000)
    >>> round(tpa.audit.extrapolated_exposure(6.0, others))
    14
  """
  sample = intervals.scores(sampled_losses=sampled_losses)
  _validate.at_least(100, sampled_candidates=len(sample))
  shape, location, scale = stats.skewnorm.fit(sample)
  log_chance = stats.skewnorm.logcdf(canary_loss, shape, location, scale)
  if not math.isfinite(log_chance):
    return math.inf
  return max(0.0, float(-log_chance / math.log(2)))
