"""Probabilities of integer noise to 2^-210, and the integer weights that stand for them."""

import decimal
import itertools
import math
from decimal import Decimal
from fractions import Fraction

from tff_privacy_agg.errors import ConfigurationError

# Of integer weights: 2^-206 is the unit of every probability. See docs/proofs/samplers.md.
WEIGHT_BITS = 206
# A wider one, cut at 2^17 columns, would have more than 2^-79 beyond its table.
MAX_TABLE_VARIANCE = 6400**2
# Sum over all integers of what a probability below is off by, those after the last one included.
PMF_ERROR = Fraction(1, 2**210)

# 80 digits hold 265 bits; the recurrences below lose fewer than 40 of them.
_CONTEXT = decimal.Context(prec=80, Emin=-(10**6), Emax=10**6)
_NEGLIGIBLE = Decimal(10) ** -65  # of P(0), where the unit of a weight is 2^-206 = 1e-62


def _check_variance(variance: Fraction) -> None:
  if not 0 < variance <= MAX_TABLE_VARIANCE:
    raise ConfigurationError(
      f'`variance` must be positive and at most {MAX_TABLE_VARIANCE} for one table, '
      f'got {float(variance)}.'
    )


def _decimal(value: Fraction) -> Decimal:
  return Decimal(value.numerator) / Decimal(value.denominator)


def discrete_gaussian_pmf(variance: Fraction | float) -> list[Decimal]:
  """Probabilities of the discrete Gaussian N_Z(0, variance).

  P(x) is proportional to exp(-x^2 / (2 variance)) on the integers (Canonne, Kamath,
  Steinke, arXiv:2004.00010, Definition 1). `variance` is the parameter sigma^2; the
  distribution's variance is slightly smaller when sigma is below one.

  Args:
    variance: In (0, 6400^2].

  Returns:
    P(0), P(1), ... until a term is below 1e-65 of P(0). Errors sum to less than `PMF_ERROR`.
  """
  variance = Fraction(variance)
  _check_variance(variance)
  with decimal.localcontext(_CONTEXT):
    step = (-1 / _decimal(2 * variance)).exp()
    square = step * step
    ratio, term, terms = step, Decimal(1), [Decimal(1)]
    while term > _NEGLIGIBLE:
      term *= ratio
      ratio *= square
      terms.append(term)
    return _normalise(terms)


def skellam_pmf(variance: Fraction | float) -> list[Decimal]:
  """Probabilities of the difference of two Poisson(variance / 2) variables.

  P(x) = exp(-variance) I_x(variance), by Miller's backward recurrence
  I_(x-1) = I_(x+1) + (2 x / variance) I_x, normalised by the sum over all integers
  (Abramowitz and Stegun 9.6.37 and 9.12).

  Args:
    variance: In (0, 6400^2].

  Returns:
    P(0), P(1), ... until beyond terms of 2^-280. Errors sum to less than `PMF_ERROR`.
  """
  variance = Fraction(variance)
  _check_variance(variance)
  # Beyond 20 standard deviations and 80 units every term is below 2^-280.
  start = 20 * math.isqrt(math.ceil(variance)) + 80
  with decimal.localcontext(_CONTEXT):
    factor = 2 / _decimal(variance)
    above, here = Decimal(0), Decimal(1)
    terms = [here]
    for x in range(start, 0, -1):
      above, here = here, above + factor * x * here
      terms.append(here)
    return _normalise(terms[::-1])


def _normalise(terms: list[Decimal]) -> list[Decimal]:
  scale = 1 / (terms[0] + 2 * sum(terms[1:]))
  return [term * scale for term in terms]


PMFS = {'discrete_gaussian': discrete_gaussian_pmf, 'skellam': skellam_pmf}


def integer_weights(pmf: list[Decimal]) -> tuple[list[int], Fraction]:
  """Integer weights of a symmetric distribution, which sum to 2^206 over all integers.

  Every probability but P(0) is rounded down, and zero receives the rest. So the total
  variation distance is what zero gained.

  Args:
    pmf: P(0), P(1), ...; errors sum to less than `PMF_ERROR`.

  Returns:
    The weights of 0, 1, ..., R, where R is the largest with a positive weight, and an upper
    bound on the distance, which includes all that is cut off and the errors of `pmf`.
  """
  total = 1 << WEIGHT_BITS
  with decimal.localcontext(_CONTEXT, rounding=decimal.ROUND_FLOOR):
    scale = Decimal(total)
    positive = list(itertools.takewhile(bool, (int(p * scale) for p in pmf[1:])))
  centre = total - 2 * sum(positive)
  return [centre, *positive], abs(Fraction(centre, total) - Fraction(pmf[0])) + PMF_ERROR


def round_up(value: Fraction) -> float:
  """The smallest float that is at least `value`, so that a stated distance is never understated."""
  nearest = float(value)
  return nearest if Fraction(nearest) >= value else math.nextafter(nearest, math.inf)
