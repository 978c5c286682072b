"""Values of any structure come back in their containers, each leaf in its place."""

import collections
from collections import OrderedDict

import attrs
import cases
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

import tff_privacy_agg as tpa

BFLOAT16 = tf.bfloat16.as_numpy_dtype


class Pair(collections.namedtuple('Pair', ['second', 'first'])):
  __slots__ = ()


@attrs.define(eq=False)
class Weights:
  kernel: object
  bias: object


def leaf(*shape, dtype=np.float32):
  return lambda constant: np.full(shape, constant, dtype)


# Functions of the leaves' constants; keys are declared in an order that sorting changes.
STRUCTURES = {
  'tensor': leaf(3),
  'scalar': leaf(),
  'unsorted keys': OrderedDict(b=leaf(2), a=leaf(3), c=leaf()),
  'nested': OrderedDict(z=OrderedDict(y=leaf(2), x=leaf(1, 2)), m=[leaf(2), leaf()], a=leaf(1)),
  'tuple': (leaf(2), leaf(3)),
  'list': [leaf(2), leaf(), leaf(2, 2)],
  'named tuple': Pair(second=leaf(2), first=leaf(3)),
  'attrs': Weights(kernel=leaf(2, 2), bias=leaf(2)),
  'attrs in a list': [Weights(kernel=leaf(2), bias=leaf()), leaf(1)],
  'dtypes': OrderedDict(
    d=leaf(2, dtype=np.float64),
    h=leaf(2, dtype=np.float16),
    b=leaf(2, dtype=BFLOAT16),
    f=leaf(2, dtype=np.float32),
  ),
  'empty leaves': OrderedDict(z=leaf(0), y=leaf(2), x=leaf(3, 0), w=leaf()),
}


def fill(structure, constants):
  """`structure` with each leaf filled with the next constant."""
  if callable(structure):
    return structure(next(constants))
  if isinstance(structure, Weights):
    return Weights(*(fill(part, constants) for part in (structure.kernel, structure.bias)))
  if isinstance(structure, dict):
    return type(structure)((name, fill(part, constants)) for name, part in structure.items())
  parts = [fill(part, constants) for part in structure]
  return Pair(*parts) if isinstance(structure, Pair) else type(structure)(parts)


def value_of(structure, client):
  """A client's value: the leaves hold client + 1, client + 2, ..."""
  return fill(structure, iter(np.arange(client + 1.0, client + 99.0)))


def type_of(value):
  if isinstance(value, np.ndarray | np.generic):
    return tff.TensorType(value.dtype.type, value.shape)
  if isinstance(value, Weights):
    parts = [('kernel', type_of(value.kernel)), ('bias', type_of(value.bias))]
    return tff.types.StructWithPythonType(parts, Weights)
  if isinstance(value, dict):
    return tff.types.StructWithPythonType(
      [(name, type_of(part)) for name, part in value.items()], type(value)
    )
  names = value._fields if isinstance(value, Pair) else [None] * len(value)
  parts = [(name, type_of(part)) for name, part in zip(names, value, strict=True)]
  return tff.types.StructWithPythonType(parts, type(value))


def assert_same(found, want, tolerance):
  if isinstance(want, np.ndarray | np.generic):
    found = np.asarray(found)
    assert found.dtype == want.dtype
    assert found.shape == want.shape
    # Half precision holds these small numbers to 2**-8 of their size.
    rtol = 2.0**-8 if want.dtype.itemsize == 2 else 1e-6
    np.testing.assert_allclose(
      found.astype(np.float64), want.astype(np.float64), rtol=rtol, atol=tolerance
    )
    return
  assert type(found) is type(want)
  if isinstance(want, Weights):
    found, want = attrs.asdict(found, recurse=False), attrs.asdict(want, recurse=False)
  if isinstance(want, dict):
    assert list(found) == list(want)
    found, want = found.values(), want.values()
  for one, other in zip(found, want, strict=True):
    assert_same(one, other, tolerance)


@pytest.mark.parametrize(
  ('name', 'layers'),
  [
    *((name, ()) for name in STRUCTURES),
    ('nested', (tpa.HadamardRotation(),)),
    ('dtypes', (tpa.DFTRotation(),)),
  ],
)
def test_mean_is_in_the_same_containers_and_places(name, layers):
  structure = STRUCTURES[name]
  factory = tpa.compose(
    [
      tpa.Mean(),
      tpa.Clipping(norm=100.0),
      *layers,
      tpa.Quantization(),
      tpa.SecureModularSum(bits=44),
    ],
    cohort=tpa.Cohort(expected=3),
  )
  value_type = type_of(value_of(structure, 0))
  process = factory.create(value_type)
  assert process.next.type_signature.result.result == tff.FederatedType(value_type, tff.SERVER)
  # The mean of the clients 0, 1, 2 is client 1's value.
  output = process.next(process.initialize(), [value_of(structure, client) for client in range(3)])
  tolerance = 10 * cases.quantization_step(factory, value_type)
  assert tolerance < 1e-4
  assert_same(output.result, value_of(structure, 1), tolerance)
