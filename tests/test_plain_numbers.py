"""NumPy's numbers count as Python's, wherever a user passes one; huge ones are refused."""

import dataclasses
import inspect
import json
import re
import warnings

import numpy as np
import pytest
import tensorflow_federated as tff

import tff_privacy_agg as tpa
from tff_privacy_agg import _validate, accounting

# What the package makes itself, and bases of layers: nobody passes them numbers.
INNER = {'RealVectors', 'IntegerVectors', 'ModularVectors', 'Layer', 'Mechanism', 'Statistic'}
INNER |= {'CorrelatedPlan', 'Plan', 'Filter', 'JointDesign', 'Spent', 'Verification'}
INNER |= {'CanaryResult', 'Exposure', 'Interval', 'MembershipResult', 'OneRunBound'}
INNER |= {
  'OneShotEstimate',
  'announced',
  'RoundResult',
  'RoundReport',
  'SessionLimits',
  'TrainingLoop',
  'TrainingPlan',
  'TrainingResult',
}
INNER |= {'Aggregate', 'Blame', 'CommunicationCost', 'GraphParameters', 'Receipt', 'SessionResult'}
INNER |= {'Roster', 'roster_of', 'run_in_memory'}  # numbers are in their mappings only
NUMBER = re.compile(r'\b(int|float)\b(?!\])')
VECTOR = tff.types.to_type((np.float32, [8]))


def public():
  """What takes numbers: (name, the callable), of the package and of its parts."""
  names = (
    'accounting',
    'analytics',
    'audit',
    'deployment',
    'learning',
    'ledger',
    'runtime',
    'secagg',
  )
  parts = {'tpa': tpa, **{name: getattr(tpa, name) for name in names}}
  for part, module in parts.items():
    for name in module.__all__:
      with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)
        found = getattr(module, name)
      if isinstance(found, type) and dataclasses.is_dataclass(found):
        yield f'{part}.{name}', found.__init__
      elif inspect.isfunction(found):
        yield f'{part}.{name}', found


def converts(call):
  """Whether `plain_numbers` is among the decorators of a function."""
  while hasattr(call, '__wrapped__'):
    if call.__code__.co_filename == _validate.__file__:
      return True
    call = call.__wrapped__
  return False


def test_what_takes_numbers_takes_those_of_numpy():
  lacking = set()
  for name, call in public():
    kinds = [str(one) for key, one in call.__annotations__.items() if key != 'return']
    numbers = any(NUMBER.search(kind) for kind in kinds if 'Callable' not in kind)
    if numbers and not converts(call) and name.split('.')[1] not in INNER:
      lacking.add(name)
  assert sorted(lacking) == []


def test_numbers_come_out_as_those_of_python():
  @_validate.plain_numbers
  def given(*arguments, **named):
    return *arguments, *named.values()

  kept = ('2', None, True, [np.int64(3)], np.ones(2))
  for value, want in [(np.int64(2), 2), (np.uint8(2), 2), (np.float32(0.5), 0.5), (2, 2)]:
    for (found,) in (given(value), given(x=value)):
      assert found == want
      assert type(found) is type(want)
  assert all(one is same for one, same in zip(given(*kept), kept, strict=True))
  assert inspect.signature(tpa.Cohort).parameters['expected'].annotation is int


def test_a_plan_is_the_same():
  told = dict(target_epsilon=8.0, target_delta=2.0**-14, rounds=10, clients_per_round=50)
  told.update(population=500, parameters=100, bits=16)
  as_numpy = {
    name: np.float32(one) if isinstance(one, float) else np.int64(one) for name, one in told.items()
  }
  want, found = tpa.plan(**told), tpa.plan(**as_numpy)
  assert found.toml() == want.toml()
  assert found == want


def test_an_accountant_s_numbers_are_the_same():
  """What NumPy's own would wrap around 32 bits, or compute in single precision."""
  wide = {'l2': 70_000, 'l1': 90_000, 'local_variance': 2.0**20, 'honest': 50_000}
  narrow = {'clients': 100, 'bits': 20, 'dimension': 1024, 'modclip_prob': 2.0**-13, 'beta': 0.5}
  tree = {'total_steps': 40, 'max_participations': 3, 'min_separation': 5}
  given = [
    (accounting.gaussian_epsilon, {'mu': 2.0**-8, 'delta': 2.0**-20}),
    (accounting.gaussian_delta, {'mu': 0.5, 'epsilon': 3.0}),
    (accounting.norm_bounds, {'scaled_norm': 3000.5, 'dimension': 70_000, 'beta': 0.5}),
    (accounting.noise_multiplier_supremum, narrow),
    (accounting.tree_sensitivity, tree),
    (lambda **named: accounting.skellam(**named).rdp([2, 8]).tolist(), wide),
  ]
  for call, named in given:
    as_numpy = {
      name: np.float32(one) if isinstance(one, float) else np.int32(one)
      for name, one in named.items()
    }
    want, found = call(**named), call(**as_numpy)
    assert found == want
    assert type(found) is type(want)


def test_an_aggregator_and_its_facts_are_the_same():
  # A cohort whose square does not fit into int32.
  cohort = tpa.Cohort(expected=np.int32(100_000), minimum=np.int32(90_000))
  assert cohort == tpa.Cohort(expected=100_000, minimum=90_000)
  layers = [tpa.Mean(), tpa.Clipping(norm=np.float32(1)), tpa.Quantization()]
  layers += [tpa.DiscreteGaussianNoise(noise_multiplier=np.float32(1))]
  layers += [tpa.SecureModularSum(bits=np.int64(30))]
  bound = tpa.compose(layers, cohort=cohort, delta=np.float32(1e-6)).bind(VECTOR)
  facts = tpa.Accounting(population=np.int64(10**6), delta=np.float32(2**-24)).facts(
    bound.facts(), randomness='chacha20'
  )
  assert json.loads(json.dumps(facts.as_dict()))['population'] == 10**6
  assert tpa.ddp_secure_aggregator(np.float32(1), np.int64(100)).bind(VECTOR).facts()


@pytest.mark.parametrize('noise', [tpa.DiscreteGaussianNoise, tpa.CentralDiscreteGaussianNoise])
def test_noise_beyond_all_use_is_refused(noise):
  noise(noise_multiplier=1e12)
  with pytest.raises(tpa.ConfigurationError, match='`noise_multiplier` must be at most 1e'):
    noise(noise_multiplier=1e300)


def test_noise_too_small_for_any_width_is_called_too_small():
  with pytest.raises(tpa.ConfigurationError, match='Raise the noise multiplier'):
    tpa.ddp_secure_aggregator(1e-9, 100).bind(VECTOR)


@pytest.mark.parametrize('given', ['abc', b'abc', {'a': 1}, 0.5, None])
def test_one_thing_is_no_list(given):
  for refused in (
    lambda: tpa.analytics.Histogram(categories=given),
    lambda: tpa.analytics.Quantiles(probabilities=given, lower=0, upper=1),
    lambda: tpa.UniformCohorts(client_ids=given, size=1),
    lambda: tpa.deployment.make_keys('never', given),
  ):
    with pytest.raises(tpa.ConfigurationError, match='must be a list'):
      refused()
