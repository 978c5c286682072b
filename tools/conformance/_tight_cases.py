"""Conformance cases about sums of discrete Gaussians accounted as one Gaussian."""

import math

from tff_privacy_agg import accounting
from tools.conformance._fields import Inputs, Values
from tools.conformance._inputs import NotImplementedCaseError


def gaussian_differential_privacy(inputs: Inputs, expected: Inputs) -> Values:
  """Epsilon of rounds of one design; the bounds that are expected of it are one-sided."""
  del expected
  if inputs['mechanism'] != 'discrete_gaussian':
    raise NotImplementedCaseError(f'mechanism {inputs["mechanism"]!r}')
  rounds, delta = inputs['rounds'], inputs['delta']
  honest, variance = inputs['honest_survivors'], inputs['local_variance']
  l2 = inputs['l2_bound']
  vector = accounting.noisy_vector(
    name='update',
    mechanism='discrete_gaussian',
    dimension=inputs['dimension'],
    l2_bound=l2,
    l1_bound=l2 * min(math.sqrt(inputs['dimension']), l2),
    local_variance=variance,
    fewest=honest,
    most=honest,
  )
  price = accounting.RoundPrice(
    mechanism='discrete_gaussian', minimum=honest, maximum=honest, vectors=(vector,)
  )
  account = accounting.GaussianAccount()
  by_mu = account.epsilon(rounds * account.row(price, honest), delta, 0.0)[0]
  # Fixed rounds: the smaller of two valid bounds holds. Narrow shares have no use for the first.
  epsilon = min(by_mu, accounting.epsilon(price.curve(honest).scaled(rounds), delta)[0])
  mu = math.sqrt(rounds / (honest * variance)) * l2
  return {
    'mu': mu,
    'epsilon_of_the_continuous_gaussian': accounting.gaussian_epsilon(mu, delta),
    'epsilon_by_the_reduction': epsilon,
    'epsilon_at_least': epsilon,
    'epsilon_exact_lower_bound': epsilon,
  }
