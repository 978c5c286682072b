import pytest
import tensorflow_federated as tff


@pytest.fixture(autouse=True)
def _default_context():
  """Puts the default context back, whatever a test installs."""
  before = tff.framework.get_context_stack().current
  yield
  tff.framework.set_default_context(before)
