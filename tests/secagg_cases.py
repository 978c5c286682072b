"""What the tests of the secure runtime share: small computations with secure sums."""

from collections import OrderedDict

import numpy as np
import tensorflow_federated as tff

STATE = tff.FederatedType(np.int32, tff.SERVER)
# Declared in an order that sorting would change.
VALUES = tff.to_type(
  OrderedDict(
    q=tff.TensorType(np.int32, [3]),
    below=np.int64,
    one=np.int32,
    empty=tff.TensorType(np.int32, [0]),
  )
)
DATA = tff.FederatedType(VALUES, tff.CLIENTS)
INTEGERS = tff.FederatedType(np.int32, tff.CLIENTS)


def with_state(body, data=INTEGERS):
  """The computation (state, data) -> (state + 1, body(data))."""
  add_one = tff.tensorflow.computation(lambda x: x + 1, STATE.member)
  return tff.federated_computation(
    lambda state, values: (tff.federated_map(add_one, state), body(values)), STATE, data
  )


def modular(values):
  moduli = OrderedDict(
    q=np.int32(2**20), below=np.int64(2**40), one=np.int32(2**8), empty=np.int32(2**4)
  )
  return tff.backends.mapreduce.federated_secure_modular_sum(values, moduli)


def each_kind(values):
  return tff.federated_zip(
    (
      tff.federated_secure_sum(values, np.int32(100)),
      tff.backends.mapreduce.federated_secure_modular_sum(values, np.int32(8)),
      tff.federated_secure_sum_bitwidth(values, 7),
    )
  )


def values(clients):
  """One value of type VALUES for each client, of a fixed seed."""
  random = np.random.default_rng(7)
  return [
    OrderedDict(
      q=random.integers(-(2**19), 2**19, 3).astype(np.int32),
      below=np.int64(random.integers(0, 2**40)),
      one=np.int32(1),
      empty=np.zeros([0], np.int32),
    )
    for _ in range(clients)
  ]


def assert_same(left, right):
  """Same containers, same names in the same order, same dtypes, same numbers."""
  tff_like = (left, right)
  if isinstance(left, dict | tuple | list):
    assert type(left) is type(right), tff_like
    assert len(left) == len(right)
    if isinstance(left, dict):
      assert list(left) == list(right)
      left, right = left.values(), right.values()
    for one, other in zip(left, right, strict=True):
      assert_same(one, other)
  else:
    assert np.asarray(left).dtype == np.asarray(right).dtype, tff_like
    np.testing.assert_array_equal(left, right)
