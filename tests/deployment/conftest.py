"""What the tests of real parties share: keys, deployments, and the context put back."""

import pytest
from deployments import NAMES, Deployment

from tff_privacy_agg.deployment.keys.authority import make_keys


@pytest.fixture(autouse=True)
def _default_context(default_context):
  """Whatever a test here installs."""


@pytest.fixture(scope='module')
def keys(tmp_path_factory):
  """Keys of the clients in `NAMES` and of a server."""
  return make_keys(tmp_path_factory.mktemp('pki') / 'keys', NAMES)


@pytest.fixture
def deploy(keys, tmp_path):
  """Makes coordinators, closed at the end of the test."""
  made = []

  def make(**arguments):
    made.append(Deployment(keys, tmp_path, **arguments))
    return made[-1]

  yield make
  for deployment in made:
    deployment.close()
