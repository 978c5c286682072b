"""The notebooks run unchanged in kernels of newer Pythons that have no TensorFlow.

`make test-core` makes those kernels' environments, `.venv/python3.12` and `.venv/python3.13`, with the
package from a wheel. The environment with Python 3.11 is made from the lock, once for all tests.
"""

import pytest
from notebook_runs import ROOT, build, code_of, committed, manager_of, stable_text, text_of

pytestmark = pytest.mark.integration

HOSTS = ('python3.12', 'python3.13')
# In CI: the quickest that trains nothing.
QUICK = '02'


@pytest.fixture(scope='session')
def cache(tmp_path_factory):
  return tmp_path_factory.mktemp('cache')


@pytest.mark.parametrize('host', HOSTS)
@pytest.mark.parametrize(
  'twin',
  [
    pytest.param(t, marks=[] if t.name.startswith(QUICK) else pytest.mark.slow)
    for t in build.twins()
  ],
  ids=lambda twin: twin.stem,
)
def test_a_notebook_runs_in_a_kernel_without_tensorflow(twin, host, cache, tmp_path):
  python = ROOT / '.venv' / host / 'bin' / 'python'
  if not python.exists():
    pytest.skip(f'{python} is made by `make test-core` where there is a {host}')
  manager = manager_of(python, tmp_path / 'kernels', {'XDG_CACHE_HOME': str(cache)})
  folder = tmp_path / 'run'
  folder.mkdir()
  notebook = build.execute(twin, folder, manager)
  assert 'From here on the cells run with Python 3.11' in text_of(code_of(notebook)[0])
  assert stable_text(notebook) == stable_text(committed(twin))
