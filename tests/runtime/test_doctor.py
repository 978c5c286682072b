import json
import pathlib
import platform
import subprocess
import sys

import pytest

import tff_privacy_agg
from tff_privacy_agg import runtime
from tff_privacy_agg.errors import RuntimeUnavailableError
from tff_privacy_agg.runtime import doctor, requirements


def status(name):
  (check,) = (check for check in doctor.diagnose() if check.name == name)
  assert bool(check.fix) == (check.status != 'ok')
  return check.status, check.fix


@pytest.fixture
def no_runtime(monkeypatch):
  """Leaves the slow checks out of tests that are not about them."""
  monkeypatch.setattr(doctor, '_check_runtime', lambda progress: [])


@pytest.fixture
def versions(monkeypatch, no_runtime):
  """Pretends that other versions are installed."""
  pretended = {}
  real = requirements.version
  monkeypatch.setattr(
    requirements, 'version', lambda name: pretended[name] if name in pretended else real(name)
  )
  return pretended


def test_every_check_passes_here(capsys):
  parts = []
  assert (
    doctor.show(doctor.diagnose(lambda done, whole: parts.append(done / whole)), as_json=True) == 0
  )
  assert parts == sorted(parts)
  assert 0 < parts[0] < parts[-1] < 1
  found = {check['name']: check for check in json.loads(capsys.readouterr().out)}
  assert {check['status'] for check in found.values()} == {'ok'}
  assert found['secure sum']['found'] == '1 + 2 + 9 modulo 8 gives 4'
  assert found['protobuf implementation']['found'] == 'upb'


@pytest.mark.parametrize(
  ('name', 'version', 'want', 'fix'),
  [
    ('tensorflow-federated', None, 'failed', 'TFF 0.87'),
    ('tensorflow-federated', '0.86.0', 'failed', 'requirements.lock'),
    ('tensorflow-privacy', '0.8.12', 'failed', 'fails without'),
    ('dp-accounting', '0.4.3', 'failed', '0.6 and later'),
    ('jax', '0.4.13', 'failed', 'much newer'),
    ('protobuf', '5.29.1', 'failed', '4.x'),
    ('numpy', '2.0.0rc1', 'failed', 'NumPy 1'),
    ('typing-extensions', '4.16.0', 'failed', '_DictWrapper'),
    ('typing-extensions', '4.5.0', 'ok', ''),
    ('cryptography', None, 'warning', 'secure aggregation'),
    ('setuptools', '81.0', 'warning', 'pkg_resources'),
  ],
)
def test_other_versions_are_named_with_their_fix(versions, name, version, want, fix):
  versions[name] = version
  found, said = status(name)
  assert found == want
  assert fix in said


@pytest.mark.parametrize(
  ('plain', 'cpu', 'want'),
  [
    (None, '2.14.1', 'ok'),
    ('2.14.0', None, 'ok'),
    ('2.14.0', '2.14.1', 'warning'),
    (None, '2.16.2', 'failed'),
    (None, None, 'failed'),
  ],
)
def test_tensorflow_under_either_name(versions, plain, cpu, want):
  versions.update({'tensorflow': plain, 'tensorflow-cpu': cpu})
  assert status('tensorflow')[0] == want


def test_exit_code_tells_failures_from_warnings(versions, capsys):
  versions['setuptools'] = '82.0'
  assert doctor.main() == 0
  versions['numpy'] = '2.1.0'
  assert doctor.main() == 1
  out = capsys.readouterr().out
  assert 'warning  setuptools: 82.0\n         TensorBoard' in out
  assert 'failed   numpy: 2.1.0\n         TensorFlow' in out


def test_another_platform_is_a_failure(no_runtime, monkeypatch):
  monkeypatch.setattr(platform, 'machine', lambda: 'aarch64')
  found, fix = status('Python')
  assert found == 'failed'
  assert 'x86_64 only' in fix


def test_entropy_that_cannot_be_read_is_a_failure(no_runtime, monkeypatch, tmp_path):
  monkeypatch.setattr(doctor, '_ENTROPY', tmp_path / 'uuid')
  found, fix = status('entropy of noise keys')
  assert found == 'failed'
  assert 'mount' in fix


def test_protobuf_in_python_is_a_warning(no_runtime, monkeypatch):
  from google.protobuf.internal import api_implementation

  monkeypatch.setattr(api_implementation, 'Type', lambda: 'python')
  assert status('protobuf implementation')[0] == 'warning'


def test_a_runtime_that_does_not_start_is_a_failure(monkeypatch):
  def fail():
    raise RuntimeUnavailableError('no worker')

  monkeypatch.setattr(runtime, 'simulation_context', fail)
  checks = doctor._check_runtime(lambda done, whole: None)
  assert [(check.name, check.status) for check in checks] == [
    ('TFF import', 'ok'),
    ('TFF runtime', 'failed'),
  ]
  assert 'no worker' in checks[-1].found


def test_a_wrong_sum_is_a_failure(monkeypatch):
  monkeypatch.setattr(doctor, '_sum_of_three', lambda compat: 12)
  assert status('secure sum') == ('failed', f'TFF sums wrongly. {doctor.REINSTALL}')


def test_a_tff_that_cannot_be_imported_is_a_failure(monkeypatch):
  # None in sys.modules makes the import fail.
  monkeypatch.setitem(sys.modules, 'tensorflow_federated', None)
  (check,) = doctor._check_runtime(lambda done, whole: None)
  assert (check.name, check.status) == ('TFF import', 'failed')
  assert 'tensorflow_federated' in check.found


def test_needs_nothing_but_the_standard_library(tmp_path):
  program = f"""
import runpy, sys
sys.path.insert(0, {str(pathlib.Path(tff_privacy_agg.__file__).parents[1])!r})
sys.argv = ['doctor', '--json']
runpy.run_module('tff_privacy_agg.runtime.doctor', run_name='__main__')
"""
  with (tmp_path / 'out').open('w') as out:
    code = subprocess.run(
      [sys.executable, '-I', '-S', '-c', program], stdin=subprocess.DEVNULL, stdout=out, timeout=60
    ).returncode
  found = {check['name']: check for check in json.loads((tmp_path / 'out').read_text())}
  assert code == 1
  assert found['TFF import']['status'] == 'warning'
  assert found['numpy']['status'] == 'failed'
  assert found['numpy']['found'] == 'not installed'


def test_without_tensorflow_it_checks_the_core(versions, capsys):
  for name in ('tensorflow-federated', 'tensorflow', 'tensorflow-cpu'):
    versions[name] = None
  versions['numpy'] = '2.5.5'  # too new for TensorFlow 2.14 only
  assert doctor.main() == 0
  out = capsys.readouterr().out
  assert 'warning  TFF import: TensorFlow Federated is not installed' in out
  assert '`make env`' in out
  versions['numpy'] = '1.24.0'
  assert doctor.main() == 1
