import pytest


@pytest.fixture(autouse=True)
def _default_context(default_context):
  """Whatever a test here installs."""
