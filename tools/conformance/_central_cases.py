"""Conformance cases about central Gaussian noise."""

import math

from tff_privacy_agg import _validate, accounting
from tff_privacy_agg.accounting.correlated.column import ONE, BandedColumn
from tff_privacy_agg.errors import ConfigurationError
from tools.conformance import _inputs, oracle
from tools.conformance._fields import Inputs, Values, of_curve

# What to add to a case's `min_separation`, by its rule, for the smallest distance y - x.
_ROUNDS_ADDED = {
  'participations at steps x<y need y-x-1 >= min_separation': 1,
  'participations at steps x<y need y-x >= min_separation': 0,
}


def poisson_gaussian(inputs: Inputs, expected: Inputs) -> Values:
  z, rate, rounds, delta = (inputs[k] for k in ('noise_multiplier', 'q', 'rounds', 'delta'))
  adjacency = _inputs.adjacency(inputs, default='add_or_remove_one')
  base = accounting.gaussian(z, adjacency=adjacency)
  curve = accounting.poisson(base, rate, adjacency=adjacency)
  values = of_curve(curve, rounds, delta, _inputs.orders(inputs))
  fixed = accounting.poisson_epsilon([(1 / z if z else math.inf, rounds)], rate, delta)
  return values | {
    'epsilon': values['epsilon'] if 'orders' in inputs else fixed,
    'epsilon_rdp': values['epsilon'],
    'epsilon_pld': fixed,
    'epsilon_exact': fixed,
    'epsilon_at_least': fixed,
  }


def wor_gaussian(inputs: Inputs, expected: Inputs) -> Values:
  rounds, delta = inputs['rounds'], inputs['delta']
  where = {'population': inputs['population'], 'cohort': inputs['cohort']}
  orders = _inputs.orders(inputs, sampled=True)
  base = accounting.gaussian(inputs['noise_multiplier_per_clip'], adjacency='replace_one')
  values = of_curve(accounting.without_replacement(base, **where), rounds, delta, orders)
  event = inputs['noise_multiplier_per_clip'] / 2
  return values | {
    'event_noise_multiplier': event,
    'epsilon_general_bound': values['epsilon'],
    'epsilon': lambda: oracle.without_replacement_gaussian_epsilon(
      event, **where, rounds=rounds, delta=delta, orders=orders
    ),
  }


def gaussian(inputs: Inputs, expected: Inputs) -> Values:
  _inputs.require_unsampled(inputs)
  factor = 2 if _inputs.adjacency(inputs) == 'replace_one' else 1
  z, rounds, delta = inputs['noise_multiplier'] / factor, inputs['rounds'], inputs['delta']
  values = of_curve(accounting.gaussian(z), rounds, delta, _inputs.orders(inputs))
  return (
    values
    | _of_correlated(z, rounds, delta)
    | {
      'epsilon_dp_accounting_default_orders': lambda: oracle.gaussian_rdp_epsilon(z, rounds, delta)
    }
  )


def _of_correlated(z: float, squared_sensitivity: float, delta: float) -> Values:
  """Fields of one Gaussian release of the given squared sensitivity."""
  mu = math.sqrt(squared_sensitivity) / z if z else math.inf
  curve = accounting.gaussian(1 / mu if mu < math.inf else 0.0)
  exact = accounting.gaussian_epsilon(mu, delta)
  return {
    'mu': mu,
    'epsilon_exact': exact,
    'epsilon_exact_gaussian': exact,
    'epsilon_rdp': accounting.epsilon(curve, delta)[0],
    'equivalent_gaussian_noise_multiplier': 1 / mu,
  }


def tree_restart(inputs: Inputs, expected: Inputs) -> Values:
  _inputs.require_zero_out(inputs)
  total = accounting.tree_restart_sensitivity(
    inputs['steps_per_tree'], inputs['participations_per_tree']
  )
  fields = _of_correlated(inputs['noise_multiplier'], total, inputs['delta'])
  return {'sum_sensitivity_sq': total} | fields


def tree_no_restart(inputs: Inputs, expected: Inputs) -> Values:
  _inputs.require_zero_out(inputs)
  total = accounting.tree_sensitivity(
    inputs['total_steps'],
    inputs['max_participation'],
    _separation(inputs, 'participations at steps x<y need y-x-1 >= min_separation'),
  )
  fields = _of_correlated(inputs['noise_multiplier'], total, inputs['delta'])
  return {'sum_sensitivity_sq': total} | fields


def banded_mf(inputs: Inputs, expected: Inputs) -> Values:
  _inputs.require_zero_out(inputs)
  bands, separation = inputs.get('bands'), inputs.get('min_separation')
  if isinstance(bands, int) and isinstance(separation, int):
    separation = _separation(inputs, 'participations at steps x<y need y-x >= min_separation')
  else:
    bands = separation = 1  # stated in words: participations are as far apart as the bands
  z = accounting.banded_noise_multiplier(
    inputs['noise_multiplier'],
    bands=bands,
    min_separation=separation,
    max_participations=inputs['max_participations'],
    column_norm=_column_norm(inputs),
  )
  return _of_correlated(z, 1.0, inputs['delta'])


def _column_norm(inputs: Inputs) -> float:
  """As stated, or that of a stated first column of a Toeplitz matrix."""
  if 'column' not in inputs:
    return float(inputs['column_norm'])
  column = BandedColumn.from_floats(inputs['column'])
  if column.bands != inputs.get('bands'):
    raise ConfigurationError(
      f'Input `column` has {column.bands} coefficients, `bands` is {inputs.get("bands")!r}; state as '
      'many bands as coefficients.'
    )
  return math.sqrt(column.squared_steps) / ONE


def _separation(inputs: Inputs, rule: str) -> int:
  """Distance y - x of participations, which is `accounting`'s meaning, by the rule of the case.

  Args:
    inputs: Of the case.
    rule: What its file means where it states no `min_separation_rule`: tree accountants count
      the rounds in between.
  """
  stated = str(inputs.get('min_separation_rule', rule))
  if stated not in _ROUNDS_ADDED:
    raise _inputs.NotImplementedCaseError(f'min_separation_rule {stated!r}')
  _validate.at_least(0, min_separation=inputs['min_separation'])
  return int(inputs['min_separation']) + _ROUNDS_ADDED[stated]


def adaptive_split(inputs: Inputs, expected: Inputs) -> Values:
  total = inputs['total_noise_multiplier']
  # An indicator moves the count by 0.5: shifted to +-0.5, and 0 where the client is zeroed out.
  bits = {
    name: 2 * inputs[key]
    for name, key in (('clip', 'clip_count_stddev'), ('zero', 'zero_count_stddev'))
    if inputs.get(key) is not None
  }
  rho = {name: 0.5 / z**2 for name, z in bits.items()}
  values: Values = {
    'zcdp_total': 0.5 / total**2,
    'zcdp_clip_bit': rho.get('clip', 0.0),
    'zcdp_zero_bit': rho.get('zero', 0.0),
  }
  try:
    vector = accounting.split_noise_multiplier(total, list(bits.values()))
  except ConfigurationError:
    return values | {'feasible': False, 'value_noise_multiplier': None, 'zcdp_value': None}
  return values | {
    'feasible': True,
    'value_noise_multiplier': vector,
    'zcdp_value': 0.5 / vector**2,
  }


def calibration_gaussian(inputs: Inputs, expected: Inputs) -> Values:
  _inputs.require_unsampled(inputs)
  target, delta, rounds = inputs['target_epsilon'], inputs['delta'], inputs['rounds']
  z = accounting.find_gaussian_noise_multiplier(target, delta, rounds)
  achieved = accounting.gaussian_epsilon(math.sqrt(rounds) / z, delta)
  return {
    'noise_multiplier_exact': z,
    'noise_multiplier_rdp': lambda: accounting.find_noise_multiplier(
      target, delta, lambda z: accounting.gaussian(z).scaled(rounds)
    ),
    'achieved_epsilon': achieved,
    'achieved_epsilon_must_be_at_most_target': achieved <= target,
  }
