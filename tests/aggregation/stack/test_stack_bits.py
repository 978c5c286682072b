"""A width that cannot carry the noise is refused, and the width that is named works."""

import math
import re

import numpy as np
import pytest
import tensorflow_federated as tff

import tff_privacy_agg as tpa

HD, DFT = tpa.HadamardRotation, tpa.DFTRotation
GAUSS, SKELLAM = tpa.DiscreteGaussianNoise, tpa.SkellamNoise


def factory(bits, *, rotation=HD, noise=GAUSS, z=1.0, clients=100, minimum=None, beta=None):
  quantization = tpa.Quantization() if beta is None else tpa.Quantization(beta=beta)
  layers = [tpa.Clipping(norm=0.1), quantization, tpa.SecureModularSum(bits=bits)]
  if rotation:
    layers.insert(1, rotation())
  if z:
    layers.insert(-1, noise(noise_multiplier=z))
  return tpa.compose(layers, cohort=tpa.Cohort(expected=clients, minimum=minimum))


CASES = {
  'gauss': (2, 2**12, {}),
  'skellam': (2, 2**12, {'noise': SKELLAM}),
  'large': (10, 2**20, {}),
  'unconditional': (10, 2**20, {'beta': 0.0}),
  'dft': (2, 1001, {'rotation': DFT}),
  'not_rotated': (2, 1000, {'rotation': None}),
  'strong': (8, 2**12, {'z': 30.0}),
  'few_clients': (4, 2**14, {'clients': 3}),
  'drop_outs': (6, 2**12, {'minimum': 10}),
  'weak': (2, 10, {'z': 0.3}),
  'noiseless': (2, 100, {'z': 0.0, 'clients': 1000}),
}


@pytest.mark.filterwarnings('default:.* bits round .* coordinates:UserWarning')  # of few bits
@pytest.mark.parametrize(('bits', 'dim', 'settings'), CASES.values(), ids=CASES.keys())
def test_too_few_bits_are_refused_naming_the_fewest_that_work(bits, dim, settings):
  value_type = tff.TensorType(np.float32, [dim])
  with pytest.raises(tpa.ConfigurationError, match=r'smallest bit width that works is \d+') as info:
    factory(bits, **settings).bind(value_type)
  smallest = int(re.search(r'works is (\d+)', str(info.value)).group(1))
  assert smallest > bits
  bound = factory(smallest, **settings).bind(value_type)
  if bound.mechanism:
    least = bound.cohort.minimum
    assert bound.design.z_eff(least) >= settings.get('z', 1.0)
    assert bound.design.l2_bound > math.sqrt(bound.design.dimension) / 2  # the floor is in it
  with pytest.raises(tpa.ConfigurationError, match=f'works is {smallest}'):
    factory(smallest - 1, **settings).bind(value_type)


@pytest.mark.parametrize('dim', [1, 7, 300])
@pytest.mark.parametrize('rotation', [HD, DFT, None], ids=['hd', 'dft', 'none'])
def test_the_design_is_of_the_padded_dimension(dim, rotation):
  bound = factory(24, rotation=rotation).bind(tff.TensorType(np.float32, [dim]))
  padded = {HD: {1: 1, 7: 8, 300: 320}, DFT: {1: 2, 7: 8, 300: 300}}.get(rotation, {}).get(dim, dim)
  assert bound.design.dimension == bound.slots['quantization'].dim == padded


def test_a_noise_that_no_width_carries_says_so():
  value_type = tff.TensorType(np.float32, [2**20])
  with pytest.raises(tpa.ConfigurationError, match='no bit width can'):
    factory(40, noise=SKELLAM, z=200.0, clients=1).bind(value_type)


def test_shares_of_too_little_variance_are_refused_for_the_discrete_gaussian_only():
  """Many clients, little noise, few bits: Skellam sums have no lower limit."""
  value_type = tff.TensorType(np.float32, [64])
  settings = {'z': 0.2, 'clients': 10_000}
  with pytest.raises(tpa.ConfigurationError, match='not accounted for below 1'):
    factory(12, **settings).bind(value_type)
  bound = factory(12, noise=SKELLAM, **settings).bind(value_type)
  assert 0 < bound.design.local_variance < 1
