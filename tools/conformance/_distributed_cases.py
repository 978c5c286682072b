"""Conformance cases about noise that the clients add."""

import math
import re

from tff_privacy_agg import accounting
from tff_privacy_agg.errors import ConfigurationError
from tools.conformance import _inputs
from tools.conformance._fields import Inputs, Values, numbered, of_curve, of_discrete_gaussian


def _of_design(design: _inputs.Design, inputs: Inputs, expected: Inputs) -> Values:
  """Fields that every distributed mechanism has."""
  factor = 2 if design.adjacency == 'replace_one' else 1
  rounds = int(inputs.get('rounds', 1))
  nominal = accounting.gaussian(design.noise_multiplier).scaled(rounds)
  values = {
    'padded_dim': design.dimension,
    'k_stddevs': design.k_stddevs,
    'scale_factor': design.scale,
    'clip_times_scale': design.scaled_norm,
    'l2_int': design.l2,
    'l1_int': design.l1,
    'l2_sensitivity_int': factor * design.l2,
    'l1_sensitivity_int': factor * design.l1,
    'local_var_int': design.local_variance,
    'central_var_int': design.local_variance * design.honest,
    'z_eff': design.z_eff(design.honest),
    'epsilon_nominal_gaussian': lambda: accounting.epsilon(nominal, inputs['delta'])[0],
  }
  if design.mechanism == 'discrete_gaussian' and design.honest and design.local_variance:
    values |= of_discrete_gaussian(
      factor * design.l2,
      factor * design.l1,
      design.local_variance,
      design.honest,
      design.dimension,
      expected,
    )
  return values


def ddp_epsilon(inputs: Inputs, expected: Inputs) -> Values:
  _inputs.require_unsampled(inputs)
  design = _inputs.design(inputs)
  return _of_design(design, inputs, expected) | of_curve(
    design.curve(), inputs['rounds'], inputs['delta'], _inputs.orders(inputs)
  )


def integer_domain(inputs: Inputs, expected: Inputs) -> Values:
  _inputs.require_unsampled(inputs)
  adjacency = _inputs.adjacency(inputs)
  factor = 2 if adjacency == 'replace_one' else 1
  mechanism = _inputs.mechanism(inputs)
  l2, l1 = inputs['l2_int'], inputs['l1_int']
  variance, honest = inputs['local_var_int'], inputs['honest_survivors']
  dimension = inputs['padded_dim']
  curve = _inputs.curve(mechanism, l2, l1, variance, honest, dimension, adjacency)
  values = of_curve(curve, inputs['rounds'], inputs['delta'], _inputs.orders(inputs))
  values |= {'central_var_int': honest * variance, 'z_eff': math.sqrt(honest * variance) / l2}
  if mechanism == 'discrete_gaussian' and honest and variance:
    values |= of_discrete_gaussian(factor * l2, factor * l1, variance, honest, dimension, expected)
  return values


def ledger_survivors(inputs: Inputs, expected: Inputs) -> Values:
  _inputs.require_unsampled(inputs)
  if inputs.get('honest_rule', 'k - floor(kappa*k)') != 'k - floor(kappa*k)':
    raise _inputs.NotImplementedCaseError(f'honest_rule {inputs["honest_rule"]!r}')
  design = _inputs.design(inputs)
  honest = [
    accounting.honest_survivors(k, inputs['colluding_fraction'])
    for k in inputs['survivors_per_round']
  ]
  total = accounting.compose([design.curve(h).scaled(honest.count(h)) for h in set(honest)])
  values = _of_design(design, inputs, expected)
  values |= of_curve(total, 1, inputs['delta'], _inputs.orders(inputs))
  return values | {
    'honest_first5': honest[:5],
    'z_eff_first5': [design.z_eff(h) for h in honest[:5]],
  }


def participation_cap(inputs: Inputs, expected: Inputs) -> Values:
  design = _inputs.design(inputs)
  rounds, delta = inputs['rounds'], inputs['delta']
  curve = design.curve()
  capped = accounting.participation_cap(
    curve, rounds=rounds, cap=inputs['max_participations_per_client']
  )
  values = _of_design(design, inputs, expected) | of_curve(capped, 1, delta)
  return values | {
    'rdp_one_round': curve,
    'epsilon_capped': accounting.epsilon(capped, delta)[0],
    'epsilon_if_every_round': accounting.epsilon(curve.scaled(rounds), delta)[0],
  }


def poisson_ddp(inputs: Inputs, expected: Inputs) -> Values:
  adjacency = _inputs.adjacency(inputs, default='add_or_remove_one')
  # The case states a total that does not move with the cohort, so its base curve is zero-out.
  design = _inputs.design({**inputs, 'adjacency': 'zero_out'})
  curve = accounting.poisson(
    design.curve(),
    inputs['q'],
    adjacency=adjacency,
    tight=bool(re.search(r'tight|factor 1\b', str(inputs.get('bound', '')))),
    total_noise_fixed=True,
  )
  orders = _inputs.orders(inputs, sampled=True)
  return _of_design(design, inputs, expected) | of_curve(
    curve, inputs['rounds'], inputs['delta'], orders
  )


def wor_ddp(inputs: Inputs, expected: Inputs) -> Values:
  design = _inputs.design({'adjacency': 'replace_one', **inputs})
  curve = accounting.without_replacement(
    design.curve(), population=inputs['population'], cohort=inputs['cohort']
  )
  orders = _inputs.orders(inputs, sampled=True)
  return _of_design(design, inputs, expected) | of_curve(
    curve, inputs['rounds'], inputs['delta'], orders
  )


def adaptive_ddp(inputs: Inputs, expected: Inputs) -> Values:
  _inputs.require_unsampled(inputs)
  design = _inputs.design({'noise_multiplier': inputs['value_noise_multiplier'], **inputs})
  bound, rounds, delta = inputs['S'], inputs['rounds'], inputs['delta']
  value = design.curve()
  total = value
  channels: Values = {}
  for name in ('clip', 'zero'):
    stddev = inputs.get(f'{name}_count_stddev')
    if stddev is None:
      channels[f'rdp_{name}_bit'] = value.scaled(0)
      continue
    share = (2 * bound * stddev) ** 2 / design.expected_clients
    channels[f'rdp_{name}_bit'] = _inputs.curve(
      design.mechanism, bound, bound, share, design.honest, 1, design.adjacency
    )
    total += channels[f'rdp_{name}_bit']
  return (
    _of_design(design, inputs, expected)
    | of_curve(total, rounds, delta)
    | channels
    | {
      'rdp_value': value,
      'epsilon_total': accounting.epsilon(total.scaled(rounds), delta)[0],
      'epsilon_vector_only': accounting.epsilon(value.scaled(rounds), delta)[0],
    }
  )


def z_eff_supremum(inputs: Inputs, expected: Inputs) -> Values:
  supremum = accounting.noise_multiplier_supremum(
    clients=inputs['expected_clients'],
    bits=inputs['bits'],
    dimension=_inputs.padded_dimension(inputs),
    modclip_prob=inputs['modclip_prob'],
    beta=inputs['beta'],
  )
  values: Values = {'padded_dim': _inputs.padded_dimension(inputs), 'sup_z_eff': supremum}
  for name, z in numbered(expected, 'z_eff_at_z_'):
    planned = {'mechanism': 'ddgauss', 'clip': 1.0, **inputs, 'noise_multiplier': z}
    design = _inputs.design(planned)
    values[name] = design.z_eff(design.expected_clients)
  return values


def calibration(inputs: Inputs, expected: Inputs) -> Values:
  _inputs.require_unsampled(inputs)
  target, delta, rounds = inputs['target_epsilon'], inputs['delta'], inputs['rounds']

  def design_of(z: float) -> _inputs.Design:
    return _inputs.design({**inputs, 'noise_multiplier': z})

  def naive() -> float:
    return accounting.find_noise_multiplier(
      target, delta, lambda z: accounting.gaussian(z).scaled(rounds)
    )

  values: Values = {'naive_gaussian_noise_multiplier': naive}
  try:
    z = accounting.find_noise_multiplier(
      target, delta, lambda z: design_of(z).curve().scaled(rounds)
    )
  except ConfigurationError:
    return values | {'feasible': False, 'noise_multiplier': None, 'z_eff': None, 'epsilon': None}
  design = design_of(z)
  fields = _of_design(design, inputs, expected) | of_curve(design.curve(), rounds, delta)
  return (
    fields
    | values
    | {
      'feasible': True,
      'noise_multiplier': z,
      'achieved_epsilon': fields['epsilon'],
      'achieved_epsilon_must_be_at_most_target': fields['epsilon'] <= target,
    }
  )


def joint_design(inputs: Inputs, expected: Inputs) -> Values:
  dimension = _inputs.padded_dimension(inputs)
  found = accounting.joint_design(
    noise_multiplier=inputs['target_z_eff'],
    cohort_maximum=inputs['max_clients'],
    minimum_honest=inputs['min_honest'],
    bits=inputs['bits'],
    dimension=dimension,
    modclip_prob=inputs['modclip_prob'],
    rho=inputs['rho'],
    beta=inputs['beta'],
  )
  values = {
    'padded_dim': dimension,
    'feasible': found.feasible,
    'clip_times_scale': found.scaled_norm,
    'l2_int': found.l2_bound,
    'l1_int': found.l1_bound,
    'local_var_int': found.local_variance,
    'error_over_central_gaussian': found.error_over_central,
    'z_eff': None,
  }
  if found.local_variance is not None and found.l2_bound is not None:
    values['z_eff'] = math.sqrt(inputs['min_honest'] * found.local_variance) / found.l2_bound
  return values
