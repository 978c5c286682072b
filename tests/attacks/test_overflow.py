"""Norms that overflow, integers that float32 cannot hold, bounds passed by a hair."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from attack_runs import plain_layers, run, stack_of, stream

from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.layers import DFTRotation, HadamardRotation, Quantization
from tff_privacy_agg.numerics import rounding

SEED = tf.constant([1, 2], tf.int64)
ONE = Cohort(expected=1)


# Norms in int32.


def test_of_the_test_norms_in_int32_overflow_to_zero():
  vector = tf.fill([2**20], tf.constant(4096))
  assert tf.reduce_sum(tf.abs(vector)) == 0  # the true L1 norm is 2^32
  assert tf.reduce_sum(vector * vector) == 0  # and 2^44 the square of the L2 norm


@pytest.mark.parametrize('dtype', [tf.float32, tf.float64], ids=['f32', 'f64'])
def test_our_norm_does_not_overflow(dtype):
  vector = tf.fill([2**20], tf.constant(4096.0, dtype))
  for bound, kept in ((1e3, False), (2.0**22 - 1, False), (2.0**22, True), (2.0**25, True)):
    result = rounding.conditional_round(vector, bound, SEED, tf.int32)
    assert np.abs(result - (vector.numpy() if kept else 0)).max() <= (bound > 2.0**22)
    assert np.sum(result.numpy().astype(np.int64) ** 2) <= bound**2


# Integers in float32.


def sent_back(stack, integers):
  """Integers, as multiples of the clip over K, through the whole stack."""
  design = stack.binding.design
  assert np.linalg.norm(integers) < design.scaled_norm
  _, decoded, _ = run(stack, [integers / design.scaled_norm])
  return decoded.numpy() * design.scaled_norm


@pytest.mark.parametrize('bits', range(24, 41))
def test_integers_of_many_bits_come_back_exactly(bits):
  """A multiple of 1/K is rounded without chance, up to 1e-10."""
  stack = stack_of(plain_layers(bits, z=0.0), 8, ONE)
  assert stack.binding.dtype == tf.float64
  largest = int(stack.binding.design.scaled_norm / 3)
  integers = np.random.default_rng(bits).integers(-largest, largest, 8)
  back = sent_back(stack, integers)
  np.testing.assert_array_equal(np.round(back), integers)
  np.testing.assert_allclose(back, integers, rtol=1e-14)


@pytest.mark.parametrize('bits', [24, 28, 32, 40])
def test_of_the_test_float32_loses_them(bits):
  """The same layer in float32: coins are lost in the coordinate, so integers move."""
  stack = stack_of(plain_layers(bits, z=0.0), 2000, ONE)
  slot = dataclasses.replace(stack.binding.slots['quantization'], dtype=tf.float32)
  scale = slot.design.scaled_norm
  integers = np.random.default_rng(bits).integers(-scale / 40, scale / 40, 2000)
  rounded, _ = Quantization().encode(
    slot, {'randomness': stream(0)}, tf.constant(integers / scale, tf.float32)
  )
  assert np.any(rounded.numpy() != integers)
  in_double = dataclasses.replace(slot, dtype=tf.float64)
  rounded, _ = Quantization().encode(
    in_double, {'randomness': stream(0)}, tf.constant(integers / scale, tf.float64)
  )
  np.testing.assert_array_equal(rounded, integers)


def test_few_bits_stay_in_float32():
  assert stack_of(plain_layers(16, z=0.0), 8, ONE).binding.dtype == tf.float32


# Norms a hair above the bound.


def clipped_and_rotated(rotation, seed, dim):
  """A vector at the clip after float32 clipping and rotation, and a stack that takes it."""
  clipping, *rest = plain_layers(bits=14, z=1.0)
  stack = stack_of([clipping, rotation, *rest], dim, ONE)
  x = np.random.default_rng(seed).normal(size=dim).astype(np.float32) * 50
  value, params = tf.constant(x), stack.prepare(stack.init())
  for layer in (clipping, rotation):
    slot = stack.binding.slots[layer.name]
    value, _ = layer.encode(slot, params.get(layer.name, {}), value)
  return stack, value


@pytest.mark.parametrize('rotation', [HadamardRotation(), DFTRotation()], ids=['hd', 'dft'])
def test_float_errors_at_the_clip_do_not_pass_the_integer_bound(rotation):
  """Some of 60 float norms exceed the clip by a hair; no integer norm exceeds B."""
  above = 0
  for seed in range(60):
    stack, value = clipped_and_rotated(rotation, seed, dim=3 + 5 * seed)
    above += np.linalg.norm(value.numpy().astype(np.float64)) > 1
    design = stack.binding.design
    slot = stack.binding.slots['quantization']
    for i in range(3):
      integers, _ = Quantization().encode(slot, {'randomness': stream(seed, i)}, value)
      assert sum(int(x) ** 2 for x in integers) <= int(design.l2_bound**2)
  assert above > 5
