"""What all tests share: a way to end TFF's workers, and one worker for computations."""

import signal
import sys

import pytest

# TFF interrupts its workers and waits for their end. A shell's background jobs ignore interrupts,
# and so would the workers, for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
  signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
  """Lets trainings, servers and documents run where a library that they use warns.

  Elsewhere a warning is an error, but for those in pyproject.toml.
  """
  for item in items:
    if item.get_closest_marker('integration') or item.get_closest_marker('documents'):
      item.add_marker(pytest.mark.filterwarnings('default'))


def pytest_sessionfinish():
  """Ends the workers of TFF's own contexts, whose finalizers come too late and say so at length."""
  if 'tensorflow_federated' in sys.modules:
    from tff_privacy_agg._tff import worker_cleanup  # noqa: F401


@pytest.fixture(scope='session')
def simulation_worker():
  """One TFF worker for all tests that run computations; installed nowhere."""
  from tff_privacy_agg import runtime

  with runtime.simulation_context(install=False) as context:
    yield context


@pytest.fixture
def default_context():
  """Puts TFF's default context back, whatever a test makes the default."""
  import tensorflow_federated as tff

  stack = tff.framework.get_context_stack()
  # The default lies at the bottom; `current` may be what a fixture of the module has installed.
  before = stack._stack[0]
  yield
  tff.framework.set_default_context(before)


@pytest.fixture
def simulation(simulation_worker):
  """Runs a test's computations, secure sums simulated."""
  import tensorflow_federated as tff

  with tff.framework.get_context_stack().install(simulation_worker):
    yield simulation_worker
