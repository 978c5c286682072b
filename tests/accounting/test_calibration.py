"""The integer design, and the search for noise multipliers."""

import math
import re
import warnings

import pytest
from hypothesis import assume, given, settings, strategies as st

from tff_privacy_agg import accounting
from tff_privacy_agg.errors import ConfigurationError

BETA = math.exp(-0.5)
LAWS = st.sampled_from(['discrete_gaussian', 'skellam'])
COHORTS = st.tuples(st.integers(1, 2000), st.floats(0.1, 1.0)).map(
  lambda pair: {
    'cohort_maximum': pair[0],
    'minimum_honest': max(1, math.ceil(pair[0] * pair[1])),
  }
)


def solve(**changes):
  arguments = {
    'noise_multiplier': 1.0,
    'cohort_maximum': 128,
    'minimum_honest': 80,
    'bits': 18,
    'dimension': 2**17,
    'modclip_prob': 1e-4,
    'rho': 1.0,
    'beta': BETA,
    'mechanism': 'discrete_gaussian',
  }
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    return accounting.solve(**(arguments | changes))


@settings(max_examples=200, deadline=None)
@given(
  z=st.floats(0.05, 20.0),
  cohort=COHORTS,
  bits=st.integers(1, 40),
  dimension=st.integers(1, 2**22),
  beta=st.sampled_from([0.0, BETA, 0.1]),
  law=LAWS,
  rotated=st.booleans(),
  modclip_prob=st.sampled_from([1e-2, 1e-4, 1e-8]),
)
def test_a_solved_design_keeps_its_noise_multiplier_and_modulus(
  z, cohort, bits, dimension, beta, law, rotated, modclip_prob
):
  arguments = {
    'noise_multiplier': z,
    **cohort,
    'dimension': dimension,
    'beta': beta,
    'mechanism': law,
    'rho': 1.0 if rotated else float(dimension),
    'modclip_prob': modclip_prob,
  }
  try:
    design = solve(bits=bits, **arguments)
  except ConfigurationError as error:
    named = re.search(r'smallest bit width that works is (\d+)', str(error))
    assume(named is not None)
    assert int(named[1]) > bits
    design = solve(bits=int(named[1]), **arguments)  # it really works
    with pytest.raises(ConfigurationError):
      solve(bits=int(named[1]) - 1, **arguments)  # and one fewer does not
  n, k = cohort['cohort_maximum'], accounting.clip_stddevs(modclip_prob)
  signal = arguments['rho'] * (design.scaled_norm * n) ** 2 / dimension
  spread = signal + n / 4 + n * design.local_variance
  assert 2 * k * math.sqrt(spread) <= design.modulus * (1 + 1e-12)
  assert design.modulus == 2**design.bits
  assert design.z_eff(cohort['minimum_honest']) >= z
  assert (16 * design.local_variance).is_integer()
  bounds = accounting.norm_bounds(design.scaled_norm, dimension, beta)
  assert (design.l2_bound, design.l1_bound) == bounds
  assert design.l2_bound**2 < 2**53
  share = math.sqrt(design.local_variance)
  assert share <= (1e6 if law == 'discrete_gaussian' else 3500)
  assert law == 'skellam' or design.local_variance >= 1


def test_solve_takes_no_larger_scale_than_is_useful():
  design = solve(bits=30)
  assert 1.0 < design.error_over_central(80) < 1.0011
  assert solve(bits=40).scaled_norm == design.scaled_norm
  assert solve(bits=13).error_over_central(80) > 1.001


def test_a_design_adds_at_most_a_thousandth_more_noise_than_asked():
  for bits in (13, 16, 20):
    assert solve(bits=bits).z_eff(80) < 1.0 * (1 + 1e-3)


@pytest.mark.parametrize('none', [0, 0.0, None])
def test_without_noise_the_bits_are_filled(none):
  design = solve(noise_multiplier=none, bits=20)
  assert design.mechanism is None
  assert design.local_variance == 0
  assert design.z_eff(80) == 0
  k = accounting.clip_stddevs(1e-4)
  assert 4 * k**2 * (design.scaled_norm**2 * 128**2 / 2**17) > 0.99 * 4**20
  assert accounting.epsilon(design.curve(80), 1e-6)[0] == math.inf
  assert solve(noise_multiplier=none, bits=62, dimension=10).scaled_norm <= 2.0**52
  with pytest.raises(ConfigurationError, match='smallest bit width'):
    solve(noise_multiplier=none, bits=4)


@pytest.mark.parametrize(('bits', 'clients'), [(62, 1000), (48, 1000), (20, 100), (12, 7)])
def test_without_a_rotation_the_largest_sum_fills_the_modulus_and_never_wraps(bits, clients):
  design = accounting.solve(
    noise_multiplier=None, cohort_maximum=clients, minimum_honest=1, bits=bits, dimension=50, rho=50
  )
  # One coordinate may be as large as the norm, and rounds up.
  largest = clients * (math.floor(design.scaled_norm) + 1)
  assert 0.98 * 2 ** (bits - 1) - 2 * clients < largest < 2 ** (bits - 1)
  assert design.rounds_to_nearest == (bits == 62)


def test_the_floor_of_the_bits_is_refused():
  arguments = {'cohort_maximum': 100, 'minimum_honest': 100, 'dimension': 2**20, 'bits': 12}
  supremum = accounting.noise_multiplier_supremum(
    clients=100, bits=12, dimension=2**20, modclip_prob=1e-4, beta=0.0
  )
  assert supremum == pytest.approx(0.514037409875, rel=1e-9)
  with pytest.raises(ConfigurationError, match='The smallest bit width that works is 13'):
    solve(beta=0.0, **arguments)
  assert solve(beta=0.0, noise_multiplier=0.99 * supremum, **arguments).z_eff(100) >= 0.5
  with pytest.raises(ConfigurationError):
    solve(beta=0.0, noise_multiplier=1.01 * supremum, **arguments)
  infeasible = accounting.joint_design(
    noise_multiplier=1.0, cohort_maximum=100, minimum_honest=100, bits=12, dimension=2**20, beta=0.0
  )
  assert infeasible == accounting.JointDesign(feasible=False)


def test_small_shares_of_the_discrete_gaussian_are_refused_or_warned_of():
  arguments = {'cohort_maximum': 1000, 'minimum_honest': 1000, 'dimension': 64}
  for bits in range(6, 16):
    try:
      solve(bits=bits, noise_multiplier=0.3, **arguments)
    except ConfigurationError as error:
      if 'Skellam' in str(error):
        break
  else:
    pytest.fail('no bit width gave a share below 1')
  assert solve(bits=bits, noise_multiplier=0.3, mechanism='skellam', **arguments).local_variance < 1
  arguments = arguments | {'dimension': 2**20, 'noise_multiplier': 0.07}
  bits = next(b for b in range(8, 20) if _works(bits=b, **arguments))
  with pytest.warns(UserWarning, match='discrete Gaussian'):
    accounting.solve(bits=bits, mechanism='discrete_gaussian', **arguments)


def _works(**arguments):
  try:
    solve(**arguments)
  except ConfigurationError:
    return False
  return True


def test_more_noise_than_the_samplers_draw_is_refused():
  with pytest.raises(ConfigurationError, match='samplers'):
    solve(noise_multiplier=1e5, mechanism='skellam', bits=40)


@pytest.mark.parametrize(
  'change',
  [
    {'mechanism': None},
    {'mechanism': 'gaussian'},
    {'noise_multiplier': -1.0},
    {'noise_multiplier': math.nan},
    {'minimum_honest': 129},
    {'minimum_honest': 0},
    {'bits': 0},
    {'bits': 63},
    {'bits': 16.0},
    {'dimension': 0},
    {'beta': 1.0},
    {'beta': -0.1},
    {'modclip_prob': 0.0},
    {'rho': 0.0},
  ],
)
def test_solve_checks_its_arguments(change):
  with pytest.raises(ConfigurationError):
    solve(**change)


def _upstream_z_eff(*, clip, honest=100, z=1.0, cap=math.inf, bits=20, beta=0.0):
  scale = accounting.scale_from_bits(
    clip=clip,
    noise_multiplier=z,
    expected_clients=100,
    bits=bits,
    dimension=2**20,
    modclip_prob=1e-4,
  )
  scale = min(scale, cap)
  bound, l1 = accounting.norm_bounds(clip * scale, 2**20, beta)
  variance = (z * clip * scale) ** 2 / 100
  return math.sqrt(honest * variance) / bound, bound, l1, variance


def test_the_nominal_noise_multiplier_is_not_the_effective_one():
  z_eff, bound, l1, variance = _upstream_z_eff(clip=0.1, bits=12)
  nominal = accounting.epsilon(accounting.gaussian(1.0), 1e-6)[0]
  true = accounting.epsilon(
    accounting.skellam(bound, l1, local_variance=variance, honest=100), 1e-6
  )[0]
  assert z_eff == pytest.approx(0.338450936686, rel=1e-9)
  assert nominal == pytest.approx(5.22, abs=0.01)
  assert true == pytest.approx(19.0478839527, rel=1e-9)
  design = solve(bits=16, cohort_maximum=100, minimum_honest=100, dimension=2**20)
  assert accounting.epsilon(design.curve(100), 1e-6)[0] <= nominal * (1 + 1e-6)


def test_the_scale_does_not_stop_growing_as_the_clip_falls():
  ours = [_upstream_z_eff(clip=clip)[0] for clip in (1.0, 1e-2, 1e-4)]
  capped = [_upstream_z_eff(clip=clip, cap=1e6)[0] for clip in (1.0, 1e-2, 1e-4)]
  assert max(ours) / min(ours) < 1 + 1e-9
  assert capped[-1] == pytest.approx(0.088, abs=1e-3)  # the faulty variant
  assert ours[-1] > 0.99


def test_replace_one_needs_twice_the_sensitivity():
  design = solve(cohort_maximum=200, minimum_honest=200, noise_multiplier=8.0)
  zero_out = accounting.epsilon(design.curve(200).scaled(20), 1e-6)[0]
  replace = accounting.epsilon(design.curve(200, adjacency='replace_one').scaled(20), 1e-6)[0]
  halved = accounting.epsilon(accounting.gaussian(4.0).scaled(20), 1e-6)[0]
  assert zero_out < 2.8
  assert replace == pytest.approx(halved, rel=1e-3)
  assert replace > 2 * zero_out


def test_actual_survivors_count_not_the_expected():
  design = solve(cohort_maximum=100, minimum_honest=100, noise_multiplier=5.0)
  planned = accounting.epsilon(design.curve(100).scaled(50), 1e-6)[0]
  actual = accounting.epsilon(design.curve(70).scaled(50), 1e-6)[0]
  true = accounting.gaussian(5.0 * math.sqrt(0.7)).scaled(50)
  assert actual == pytest.approx(accounting.epsilon(true, 1e-6)[0], rel=1e-3)
  assert planned < 0.85 * actual  # the faulty variant claims less
  assert design.z_eff(70) == pytest.approx(design.z_eff(100) * math.sqrt(0.7))


def test_colluders_shares_do_not_count():
  design = solve(cohort_maximum=100, minimum_honest=90, noise_multiplier=5.0)
  honest = accounting.honest_survivors(100, 0.1)
  assert design.z_eff(honest) == pytest.approx(5.0, rel=1e-3)
  assert design.z_eff(100) > 1.05 * design.z_eff(honest)
  assert design.error_over_central(100) > design.error_over_central(90)


@settings(max_examples=60, deadline=None)
@given(
  st.floats(0.1, 10.0), st.integers(1, 1000), st.integers(1, 2**20), st.sampled_from([0.0, BETA])
)
def test_smallest_bits_are_smallest(z, clients, dimension, beta):
  arguments = {
    'noise_multiplier': z,
    'cohort_maximum': clients,
    'minimum_honest': clients,
    'dimension': dimension,
    'beta': beta,
  }
  bits = accounting.smallest_bits(**arguments)
  assert accounting.joint_design(bits=bits, **arguments).feasible
  assert not accounting.joint_design(bits=bits - 1, **arguments).feasible
  good = accounting.smallest_bits(error_over_central=1.01, **arguments)
  assert accounting.joint_design(bits=good, **arguments).error_over_central <= 1.01
  assert good >= bits


@settings(max_examples=40, deadline=None)
@given(st.floats(1e-4, 1e3), st.integers(10, 24), st.floats(0.1, 5.0))
def test_design_does_not_depend_on_the_clip(clip, bits, z):
  def z_eff(norm):
    return _upstream_z_eff(clip=norm, bits=bits, z=z, beta=BETA)[0]

  assert z_eff(clip) == pytest.approx(z_eff(1.0), rel=1e-9)


def test_noise_is_split_between_vector_and_channels():
  z = accounting.split_noise_multiplier(1.0, [10.0])
  assert z == pytest.approx(1.00503781526, rel=1e-9)
  assert accounting.split_noise_multiplier(2.0, []) == 2.0
  with pytest.raises(ConfigurationError, match='Raise the noise of these channels'):
    accounting.split_noise_multiplier(1.0, [1.0])
  with pytest.raises(ConfigurationError):
    accounting.split_noise_multiplier(1.0, [0.0])


@pytest.mark.parametrize('law', ['discrete_gaussian', 'skellam'])
def test_found_noise_multiplier_meets_the_target(law):
  def curve(z):
    return solve(noise_multiplier=z, mechanism=law).curve(80).scaled(100)

  z = accounting.find_noise_multiplier(8.0, 1e-6, curve)
  assert 7.99 < accounting.epsilon(curve(z), 1e-6)[0] <= 8.0


def test_the_search_steps_over_designs_that_are_refused():
  def curve(z):  # one share has a variance below 1 until the noise grows
    return solve(
      noise_multiplier=z, bits=12, cohort_maximum=1000, minimum_honest=1000, dimension=64
    ).curve(1000)

  with pytest.raises(ConfigurationError, match='Skellam'):
    curve(0.05)
  z = accounting.find_noise_multiplier(1000.0, 1e-6, curve)
  assert accounting.epsilon(curve(z), 1e-6)[0] <= 1000.0
  with pytest.raises(ConfigurationError, match='smallest bit width'):
    accounting.find_noise_multiplier(1e-3, 1e-6, curve)


def test_an_unreachable_target_is_refused():
  def curve(z):  # nominal noise at 12 bits: the effective one has a supremum
    _, bound, l1, variance = _upstream_z_eff(clip=1.0, z=z, bits=12)
    return accounting.discrete_gaussian(bound, l1, variance, 100, 2**20)

  with pytest.raises(ConfigurationError, match='the best found is'):
    accounting.find_noise_multiplier(5.0, 1e-6, curve)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 40.0), st.integers(1, 1000))
def test_gaussian_noise_multiplier_is_exact(target, rounds):
  z = accounting.find_gaussian_noise_multiplier(target, 1e-6, rounds)
  reached = accounting.gaussian_epsilon(math.sqrt(rounds) / z, 1e-6)
  assert target * (1 - 1e-6) <= reached <= target


def test_old_names_of_arguments_warn_and_work():
  new = accounting.smallest_bits(
    noise_multiplier=1.0, cohort_maximum=10, minimum_honest=10, dimension=16
  )
  with pytest.warns(DeprecationWarning, match='is now') as caught:
    old = accounting.smallest_bits(target_z_eff=1.0, max_clients=10, min_honest=10, dimension=16)
  assert old == new
  assert sorted(str(one.message).partition(';')[0] for one in caught) == [
    '`max_clients` is now `cohort_maximum`',
    '`min_honest` is now `minimum_honest`',
    '`target_z_eff` is now `noise_multiplier`',
  ]
  with pytest.raises(TypeError, match='both were given'):
    accounting.smallest_bits(max_clients=1, cohort_maximum=1)
