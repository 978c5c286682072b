"""Conformance cases about exact values, noise components and leaks."""

import functools
import math
from collections.abc import Callable

import numpy as np

from tff_privacy_agg import accounting
from tff_privacy_agg.accounting.curves import RdpCurve
from tools.conformance import _inputs, oracle
from tools.conformance._fields import Inputs, Values, of_discrete_gaussian


def oracle_skellam_1d(inputs: Inputs, expected: Inputs) -> Values:
  variance, shift = inputs['total_variance'], inputs['shift']
  bound = accounting.skellam(shift, shift, central_variance=variance)
  return _of_oracle(functools.partial(oracle.skellam_renyi, variance, shift), bound, expected)


def oracle_ddgauss_1d(inputs: Inputs, expected: Inputs) -> Values:
  variance, shares, shift = (inputs[k] for k in ('local_var', 'num_clients', 'shift'))
  bound = accounting.discrete_gaussian(shift, shift, variance, shares, 1)
  exact = functools.partial(oracle.discrete_gaussian_sum_renyi, variance, shares, shift)
  fields = of_discrete_gaussian(shift, shift, variance, shares, 1, expected)
  return fields | _of_oracle(exact, bound, expected)


def _of_oracle(
  exact: Callable[[list[float]], np.ndarray], bound: RdpCurve, expected: Inputs
) -> Values:
  """Fields of an exact divergence next to its bound, at the orders that are expected."""
  names = list(expected.get('exact_renyi', ()))
  values = exact([float(name) for name in names]) if names else np.array([])
  limits = bound.rdp([float(name) for name in names])
  return {
    'exact_renyi': dict(zip(names, values.tolist(), strict=True)),
    'bound': bound,
    'exact_must_not_exceed_bound': bool(np.all(values <= limits * (1 + 1e-9))),
  }


def oracle_skellam_flat_pld(inputs: Inputs, expected: Inputs) -> Values:
  variance, moved = inputs['total_variance'], inputs['coordinates_shifted_by_one']
  rounds, delta = inputs['rounds'], inputs['delta']
  curve = accounting.skellam(math.sqrt(moved), moved, central_variance=variance)
  pld = oracle.skellam_pld_epsilon(variance, moved * rounds, delta)
  bound = accounting.epsilon(curve.scaled(rounds), delta)[0]
  return {
    'epsilon_pld': pld,
    'epsilon_rdp_bound': bound,
    'epsilon_gaussian_same_variance': accounting.gaussian_epsilon(
      math.sqrt(moved * rounds / variance), delta
    ),
    'rdp_bound_must_be_at_least_pld': bound >= pld,
  }


def xnoise_split(inputs: Inputs, expected: Inputs) -> Values:
  components = accounting.xnoise_components(
    sampled=inputs['sampled'],
    tolerated_dropouts=inputs['tolerated_dropouts'],
    central_variance=inputs['central_variance'],
  )
  return {
    'first_components': components[: len(expected.get('first_components', ()))],
    'per_client_total': math.fsum(components),
    'remaining_central_variance': accounting.xnoise_remaining_variance(
      components, sampled=inputs['sampled'], dropouts=inputs['actual_dropouts']
    ),
  }


def quantile_leak(inputs: Inputs, expected: Inputs) -> Values:
  counts = oracle.recovered_below_counts(
    inputs['reported_zeroing_norms'],
    num_clients=inputs['num_clients'],
    target_quantile=inputs['target_quantile'],
    learning_rate=_inputs.number(inputs['learning_rate']),
    multiplier=inputs['multiplier'],
    increment=inputs['increment'],
  )
  return {'recovered_below_counts': [round(count) for count in counts]}
