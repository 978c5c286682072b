"""The distribution of the error of a noised sum: survivors' noise and rounding, both known.

It is public: it depends on the build and on the number of survivors alone. NumPy, no TFF.
"""

import dataclasses
import functools
import math

import numpy as np
from scipy import special

from tff_privacy_agg import _validate

# The rounding's coins are off by at most this: numerics/rounding.py.
_COIN_BIAS = 2.0**-17
# Beyond so many standard deviations there is nothing that double precision could add.
_DEVIATIONS = 12.0
# Terms of the Poisson sum on either side; exact to 1e-15 for the variances that are built.
_IMAGES = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class ErrorLaw:
  """Law of the error of each number of the sum of `clients` vectors.

  The error is `step * (N + R)`. N is the sum of the clients' noise shares, integers of a known
  law. R is the sum of their rounding errors: independent, of mean zero (to 2^-17 each), each in
  an interval of length 1, of a law that depends on the data; so Hoeffding's lemma bounds it:
  `P(R >= t) <= exp(-2 t^2 / clients)`.

  Attributes:
    mechanism: 'discrete_gaussian' or 'skellam'.
    local_variance: Of one client's share (sigma^2 of the discrete Gaussian), in squared steps.
    clients: Shares in the sum: the survivors. At least 1.
    step: One integer, in the unit of the answer.
  """

  mechanism: str
  local_variance: float
  clients: int
  step: float

  @property
  def stddev(self) -> float:
    """Standard deviation of the noise in one number."""
    return self.step * math.sqrt(self.clients * self.local_variance)

  @property
  def stddev_with_rounding(self) -> float:
    """The same with the most that rounding can add."""
    return self.step * math.sqrt(self.clients * (self.local_variance + 0.25))

  def half_width(self, confidence: float) -> float:
    """Half the width of an interval that covers, for any data, with this probability or more.

    The least integer w, in steps, with `2 sum_k P(N = k) min(1, exp(-2 (w - k)^2 / clients))`
    at most `1 - confidence` (the minimum is 1 where k is at least w), and the coins' bias.

    Args:
      confidence: Probability, in (0, 1).
    """
    _validate.fraction(confidence=confidence)
    bias = self.clients * _COIN_BIAS
    return self.step * (_steps(self._law, self.clients, confidence) + bias)

  def normal_half_width(self, confidence: float, comparisons: int = 1) -> float:
    """The same for a sum of many numbers' errors of unit weight in all, by the normal law.

    Args:
      confidence: Probability, in (0, 1), that all of `comparisons` intervals cover.
      comparisons: How many (Bonferroni).
    """
    _validate.fraction(confidence=confidence)
    return -special.ndtri((1 - confidence) / (2 * comparisons)) * self.stddev_with_rounding

  @property
  def _law(self) -> tuple[str, float]:
    return self.mechanism, self.local_variance


def noise_probabilities(mechanism: str, local_variance: float, clients: int) -> np.ndarray:
  """`P(N = k)` for k from -m to m - 1, float64 `[2 m]`: the sum of the shares' exact law.

  By the inverse Fourier transform of the characteristic function to the power of `clients`.
  """
  deviation = math.sqrt(clients * local_variance)
  half = 2 ** math.ceil(math.log2(_DEVIATIONS * deviation + _rounding_reach(clients) + 64))
  angles = np.arange(half + 1) * (math.pi / half)
  if mechanism == 'skellam':
    transform = np.exp(clients * local_variance * (np.cos(angles) - 1))
  else:
    # Poisson's sum: the transform of a discrete Gaussian is a sum of shifted Gaussians.
    shifts = 2 * math.pi * np.arange(-_IMAGES, _IMAGES + 1)[:, np.newaxis]
    images = np.exp(-local_variance * (angles + shifts) ** 2 / 2).sum(axis=0)
    transform = (images / images[0]) ** clients
  found = np.roll(np.fft.irfft(transform, 2 * half), half)
  return np.maximum(found, 0.0)


def _rounding_reach(clients: int) -> float:
  """Steps that the sum of rounding errors exceeds with a probability of 1e-18."""
  return math.sqrt(clients * math.log(1e18) / 2)


@functools.lru_cache(maxsize=64)
def _steps(law: tuple[str, float], clients: int, confidence: float) -> int:
  probabilities = noise_probabilities(*law, clients)
  half = len(probabilities) // 2
  tail = np.cumsum(probabilities[::-1])[::-1]  # P(N >= w), at index w + half
  reach = min(math.ceil(_rounding_reach(clients)), half)
  kernel = np.zeros(2 * half)
  kernel[1 : reach + 1] = np.exp(-2 * np.arange(1, reach + 1) ** 2 / clients)
  spread = np.fft.irfft(np.fft.rfft(probabilities) * np.fft.rfft(kernel), 2 * half)
  exceeds = 2 * (tail + np.maximum(spread, 0.0)) > 1 - confidence
  # At zero on it only falls; the last that is too likely is one below the width.
  return int(np.flatnonzero(exceeds[half:])[-1]) + 1 if exceeds[half] else 0
