import numpy as np
import pytest
import tensorflow_federated as tff


@pytest.fixture(autouse=True)
def _default_context():
  """Puts the default context back, whatever a test installs."""
  before = tff.framework.get_context_stack().current
  yield
  tff.framework.set_default_context(before)


@pytest.fixture(scope='session')
def modular_sum():
  """The sum of the clients' integers modulo 8."""
  clients = tff.FederatedType(np.int32, tff.CLIENTS)
  return tff.federated_computation(
    lambda x: tff.backends.mapreduce.federated_secure_modular_sum(x, 8), clients
  )
