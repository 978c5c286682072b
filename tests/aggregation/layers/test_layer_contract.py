"""What every layer promises, whatever it does. New layers join `ALL_LAYERS`."""

import dataclasses
import inspect

import numpy as np
import pytest
import tensorflow as tf
from layer_cases import (
  ALL_LAYERS,
  DIM,
  HOSTILE,
  domain_before,
  params_for,
  slot_for,
  sums_for,
  value_for,
)

from tff_privacy_agg.aggregation import layers
from tff_privacy_agg.aggregation.domains import IntegerVectors, ModularVectors, RealVectors
from tff_privacy_agg.aggregation.layers import Layer
from tff_privacy_agg.numerics import modular

each_layer = pytest.mark.parametrize('layer', ALL_LAYERS, ids=lambda layer: layer.name)
each_dtype = pytest.mark.parametrize('dtype', [tf.float32, tf.float64], ids=['f32', 'f64'])


def assert_same(first, second):
  assert list(first) == list(second)
  for key in first:
    np.testing.assert_array_equal(first[key], second[key])


def test_every_public_layer_is_tried():
  public = {
    value
    for value in (getattr(layers, name) for name in layers.__all__)
    if inspect.isclass(value) and issubclass(value, Layer) and not inspect.isabstract(value)
  } - {layers.Terminal, layers.GaussianNoise}  # an old name
  assert {type(layer) for layer in ALL_LAYERS} == public


@each_layer
def test_configuration_is_frozen_keyword_only_and_shown(layer):
  fields = dataclasses.fields(layer)
  with pytest.raises(dataclasses.FrozenInstanceError):
    layer.name = 'other'
  with pytest.raises(TypeError, match='positional'):
    type(layer)(layer.name)
  for field in fields:
    assert f'{field.name}={getattr(layer, field.name)!r}' in repr(layer)
  assert repr(layer).startswith(f'{type(layer).__name__}(')
  assert dataclasses.replace(layer) == layer
  assert hash(dataclasses.replace(layer)) == hash(layer)


@each_layer
def test_docstring_states_domain_sensitivity_channels_state_and_reference(layer):
  text = type(layer).__doc__
  for word in ('Domain:', 'Sensitivity:', 'Channels:', 'State:'):
    assert word in text
  if not isinstance(layer, layers.PlainSum):  # a sum has no paper
    assert 'Reference:' in text


@each_layer
def test_output_domain_is_static(layer):
  before = domain_before(layer)
  after = layer.output_domain(before)
  assert isinstance(after, RealVectors | IntegerVectors | ModularVectors)
  assert after.dim >= DIM
  unknown = layer.output_domain(dataclasses.replace(before, dim=None))
  assert unknown == dataclasses.replace(after, dim=None)


@each_layer
def test_prepare_is_pure(layer):
  slot = slot_for(layer)
  state = layer.init(slot)
  assert_same(layer.prepare(slot, state), layer.prepare(slot, state))


@each_layer
@each_dtype
def test_encode_gives_the_declared_domain(layer, dtype):
  slot = slot_for(layer, dtype=dtype)
  value, _ = layer.encode(slot, params_for(layer, slot), value_for(layer, slot))
  after = layer.output_domain(domain_before(layer))
  assert value.shape == [after.dim]
  if isinstance(after, RealVectors) or after == ModularVectors(modulus=None, dim=DIM):
    assert value.dtype == dtype
  else:
    assert value.dtype == modular.dtype_for(slot.design.bits)
  if getattr(after, 'l2_bounded', False):
    assert np.linalg.norm(value) <= 1 + 1e-5
  if getattr(after, 'modulus', None):
    assert np.all((value >= 0) & (value < after.modulus))


@each_layer
@each_dtype
def test_decode_gives_back_the_domain_before(layer, dtype):
  slot = slot_for(layer, dtype=dtype)
  params = params_for(layer, slot)
  encoded, _ = layer.encode(slot, params, value_for(layer, slot))
  decoded = layer.decode(slot, params, encoded, sums_for(layer))
  assert decoded.shape == [DIM]
  real = isinstance(domain_before(layer), RealVectors)
  assert decoded.dtype == (dtype if real else modular.dtype_for(slot.design.bits))
  assert np.all(np.isfinite(decoded))


@each_layer
@each_dtype
def test_contributions_are_the_declared_channels(layer, dtype):
  slot = slot_for(layer, dtype=dtype)
  _, contributions = layer.encode(slot, params_for(layer, slot), value_for(layer, slot))
  assert set(contributions) == set(layer.channels)
  for number in contributions.values():
    assert number.shape == []


@each_layer
@pytest.mark.parametrize('poison', HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize('everywhere', [False, True], ids=['one', 'all'])
def test_contributions_stay_within_one_whatever_the_client_holds(layer, poison, everywhere):
  slot = slot_for(layer)
  params = params_for(layer, slot)
  if layer.uses_weight:
    params['client_weight'] = tf.constant(poison, tf.float32)
  value = value_for(layer, slot)
  if value.dtype.is_floating:
    spoilt = value.numpy()
    spoilt[slice(None) if everywhere else 0] = poison
    value = tf.constant(spoilt)
  encoded, contributions = layer.encode(slot, params, value)
  for number in contributions.values():
    assert -1 <= number <= 1
  if isinstance(layer, layers.Zeroing | layers.Clipping | layers.PlainSum):
    assert np.all(np.isfinite(encoded))


@each_layer
def test_state_keeps_its_keys_and_types(layer):
  slot = slot_for(layer)
  state = layer.init(slot)
  params = layer.prepare(slot, state)
  for _ in range(2):
    new, measured = layer.update(slot, state, params, sums_for(layer))
    assert list(new) == list(state)
    for key in state:
      assert (new[key].dtype, new[key].shape) == (state[key].dtype, state[key].shape)
    for value in measured.values():
      assert tf.convert_to_tensor(value).dtype.is_floating
    state = new


@each_layer
@each_dtype
def test_graph_mode_gives_what_eager_mode_gives(layer, dtype):
  slot = slot_for(layer, dtype=dtype)
  state = layer.init(slot)
  value = value_for(layer, slot)

  def one_round(value):
    params = params_for(layer, slot, state)
    encoded, contributions = layer.encode(slot, params, value)
    decoded = layer.decode(slot, params, encoded, sums_for(layer))
    prepared = layer.prepare(slot, state)
    return encoded, contributions, decoded, layer.update(slot, state, prepared, sums_for(layer))

  eager = tf.nest.flatten(one_round(value))
  graph = tf.nest.flatten(tf.function(one_round, autograph=False)(value))
  assert len(eager) == len(graph)
  for first, second in zip(eager, graph, strict=True):
    np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-5)
