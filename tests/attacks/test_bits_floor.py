"""Rounding eats the noise at few bits, whatever the nominal noise multiplier."""

import math

import pytest
from attack_runs import plain_layers, stack_of

from tff_privacy_agg import accounting
from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.layers import HadamardRotation
from tff_privacy_agg.errors import ConfigurationError

DIM, CLIENTS = 2**20, 100


def layers(bits, z=1.0):
  clipping, *rest = plain_layers(bits, z)
  return [clipping, HadamardRotation(), *rest]


@pytest.mark.parametrize(('nominal', 'at_most'), [(1.0, 0.34), (100.0, 0.52), (1e6, 0.52)])
def test_of_the_test_a_nominal_noise_multiplier_promises_what_is_not_there(nominal, at_most):
  """Twelve bits for 100 clients, the usual advice: the effective one cannot exceed 0.514."""
  scale = accounting.scale_from_bits(
    clip=1.0,
    noise_multiplier=nominal,
    expected_clients=CLIENTS,
    bits=12,
    dimension=DIM,
    modclip_prob=1e-4,
  )
  bound, _ = accounting.norm_bounds(scale, DIM, beta=0.0)
  assert nominal * scale / bound < at_most


@pytest.mark.parametrize(('bits', 'z'), [(11, 1.0), (12, 1.1), (14, 5.0)])
def test_widths_below_the_floor_are_refused(bits, z):
  supremum = accounting.noise_multiplier_supremum(
    clients=CLIENTS, bits=bits, dimension=DIM, modclip_prob=1e-4, beta=math.exp(-0.5)
  )
  assert z > supremum
  with pytest.raises(ConfigurationError, match='smallest bit width that works'):
    stack_of(layers(bits, z), DIM, Cohort(expected=CLIENTS))


@pytest.mark.parametrize(('bits', 'z'), [(12, 1.0), (14, 1.0), (18, 1.0), (15, 5.0), (20, 20.0)])
def test_widths_that_are_taken_carry_the_effective_noise_multiplier(bits, z):
  design = stack_of(layers(bits, z), DIM, Cohort(expected=CLIENTS)).binding.design
  assert z <= math.sqrt(CLIENTS * design.local_variance) / design.l2_bound < 1.001 * z
  rounding_alone, _ = accounting.norm_bounds(0.0, DIM, design.beta)
  assert design.l2_bound > rounding_alone
