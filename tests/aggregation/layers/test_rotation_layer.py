"""Rotations: isometries that spread every vector, and their inverses."""

import math

import numpy as np
import pytest
import tensorflow as tf
from layer_cases import COHORT

from tff_privacy_agg.aggregation.layers import DFTRotation, HadamardRotation, Slot
from tff_privacy_agg.numerics import dft, hadamard

both = pytest.mark.parametrize('layer', [HadamardRotation(), DFTRotation()], ids=['hd', 'dft'])
DIMS = (1, 2, 3, 5, 64, 100, 1000, 1001)


def adversarial(dim):
  """Vectors of norm 1 that quantize badly unless they are spread."""
  rng = np.random.default_rng(dim)
  spike = np.zeros(dim)
  spike[dim // 2] = 1
  sparse = np.zeros(dim)
  sparse[rng.choice(dim, min(3, dim), replace=False)] = 1
  alternating = (-1.0) ** np.arange(dim)
  ramp = np.arange(1, dim + 1)
  rows = (spike, sparse, np.ones(dim), alternating, ramp, rng.normal(size=dim))
  return [row / np.linalg.norm(row) for row in rows]


def slot_of(dim, dtype=tf.float32):
  return Slot(dim=dim, cohort=COHORT, dtype=dtype)


def rotate(layer, x, round_number=0, dtype=tf.float32):
  params = {'seed': tf.constant([12345, round_number], tf.int64)}
  return layer.encode(slot_of(len(x), dtype), params, tf.constant(x, dtype))[0].numpy()


@both
@pytest.mark.parametrize('dim', DIMS)
@pytest.mark.parametrize(('dtype', 'tolerance'), [(tf.float32, 2e-6), (tf.float64, 1e-12)])
def test_rotation_keeps_norms_and_is_undone(layer, dim, dtype, tolerance):
  params = {'seed': tf.constant([-7, 3], tf.int64)}
  for x in adversarial(dim):
    y, _ = layer.encode(slot_of(dim, dtype), params, tf.constant(x, dtype))
    assert abs(np.linalg.norm(y.numpy().astype(np.float64)) - 1) < tolerance
    back = layer.decode(slot_of(dim, dtype), params, y, {})
    np.testing.assert_allclose(back, x, atol=tolerance)


@both
def test_rotation_is_linear(layer):
  x, y = adversarial(100)[4:]
  both_rotated = rotate(layer, x, dtype=tf.float64) + rotate(layer, y, dtype=tf.float64)
  np.testing.assert_allclose(rotate(layer, x + y, dtype=tf.float64), both_rotated, atol=1e-12)


def largest(layer, dim, rounds=5):
  """Largest coordinate of any adversarial vector in units of 1 / sqrt(D), over some rounds."""
  found = [rotate(layer, x, r) for x in adversarial(dim) for r in range(rounds)]
  return max(np.abs(y).max() for y in found) * math.sqrt(len(found[0]))


@both
@pytest.mark.parametrize('dim', [1000, 5000])
def test_rotation_spreads_every_vector(layer, dim):
  """Coordinates are sub-Gaussian: P(|y| > t / sqrt(D)) <= 4 exp(-t^2 / 2) for each of them.

  (A DFT's real and imaginary parts have half the variance each on average, up to all of
  it.) At t = 7.5 and 3 * 10^5 coordinates: false alarm 1e-6.
  """
  assert largest(layer, dim) < 7.5


@pytest.mark.parametrize(
  ('layer', 'module', 'name', 'constant'),
  [
    (HadamardRotation(), hadamard, 'flip', lambda vector, seed: vector),
    (DFTRotation(), dft, '_phases', lambda seed, n: tf.ones([n], tf.complex128)),
  ],
  ids=['hd', 'dft'],
)
def test_of_the_test_without_random_signs_some_vector_stays_a_spike(
  monkeypatch, layer, module, name, constant
):
  monkeypatch.setattr(module, name, constant)
  assert largest(layer, 1000, rounds=1) > 15


def test_hadamard_rotation_of_a_spike_is_perfectly_flat():
  y = rotate(HadamardRotation(), adversarial(1000)[0], dtype=tf.float64)
  np.testing.assert_allclose(np.abs(y), 1 / math.sqrt(len(y)), rtol=1e-12)


@both
def test_seed_moves_every_round_and_differs_between_processes(layer):
  slot = slot_of(64)
  states = [layer.init(slot) for _ in range(4)]
  assert len({int(state['seed'][0]) for state in states}) == 4
  state, x = states[0], adversarial(64)[5]
  rotated = []
  for _ in range(3):
    params = layer.prepare(slot, state)
    rotated.append(layer.encode(slot, params, tf.constant(x, tf.float32))[0].numpy())
    state, _ = layer.update(slot, state, params, {})
  for i in range(3):
    for j in range(i):
      # Independent rotations of one vector: correlation 0 with deviation 1/8.
      assert abs(np.dot(rotated[i], rotated[j])) < 0.7


@both
def test_no_seed_is_used_twice(layer):
  slot = slot_of(4)
  state, seen = layer.init(slot), set()
  for _ in range(50):
    seen.add(tuple(state['seed'].numpy()))
    state, _ = layer.update(slot, state, {}, {})
  assert len(seen) == 50
