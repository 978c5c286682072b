import numpy as np
import pytest
import tensorflow_federated as tff


@pytest.fixture(autouse=True)
def _default_context(default_context):
  """Whatever a test here installs."""


@pytest.fixture(scope='session')
def modular_sum():
  """The sum of the clients' integers modulo 8."""
  clients = tff.FederatedType(np.int32, tff.CLIENTS)
  return tff.federated_computation(
    lambda x: tff.backends.mapreduce.federated_secure_modular_sum(x, 8), clients
  )
