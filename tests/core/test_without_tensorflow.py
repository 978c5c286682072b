"""The core: what works without TensorFlow, and how everything else is refused.

Run by `make test-core` from a wheel, where neither TensorFlow nor TFF is installed.
"""

import importlib
import importlib.metadata
import importlib.util
import pathlib
import subprocess
import sys
import traceback

import pytest

import tff_privacy_agg
from tff_privacy_agg import _lazy, cli, deployment, learning, runtime
from tff_privacy_agg.errors import RuntimeUnavailableError

pytestmark = pytest.mark.skipif(
  importlib.util.find_spec('tensorflow') is not None, reason='TensorFlow is installed here'
)
WORK = {
  'BandedToeplitz',
  'Budget',
  'BudgetExceededError',
  'Channel',
  'Cohort',
  'CompositionError',
  'ConfigurationError',
  'IntegerVectors',
  'LedgerError',
  'ModularVectors',
  'PrivacyAggError',
  'PrivacyLedger',
  'RealVectors',
  'RuntimeUnavailableError',
  'Accounting',
  'PoissonCohorts',
  'SeparatedCohorts',
  'UniformCohorts',
  '__version__',
  'accounting',
  'deployment',
  'plan',
  'plan_correlated',
  'learning',  # and `runtime`: their names load when they are used
  'ledger',
  'runtime',
  'secagg',
}
REFUSED_COMMANDS = (
  ['train'],
  ['audit', '--fresh'],
  ['bench', '--profile'],
  ['analytics', 'rows.csv', 'count', '--column', 'x', '--noise-multiplier', '3'],
)


def check_refusal(message):
  assert message.startswith('This needs TensorFlow Federated 0.87, which is not installed here')
  assert '`make env`' in message
  assert '%load_ext tff_privacy_agg.notebook' in message
  assert 'No module named' not in message


@pytest.mark.parametrize('name', tff_privacy_agg.__all__)
def test_a_public_name_works_or_says_what_it_needs(name):
  if name in WORK:
    getattr(tff_privacy_agg, name)
    return
  with pytest.raises(RuntimeUnavailableError) as refused:
    getattr(tff_privacy_agg, name)
  check_refusal(str(refused.value))
  shown = ''.join(traceback.format_exception(refused.value))
  assert 'ModuleNotFoundError' not in shown


@pytest.mark.parametrize('face', [runtime, learning, deployment], ids=lambda face: face.__name__)
def test_a_name_of_a_part_works_or_says_what_it_needs(face):
  for name in face.__all__:
    try:
      getattr(face, name)
    except RuntimeUnavailableError as refused:
      check_refusal(str(refused))
      assert face is not deployment or name in ('serve', 'take_part')


@pytest.mark.parametrize('part', ['analytics', 'audit', 'learning.data', 'aggregation.layers'])
def test_a_part_says_what_it_needs_when_it_is_imported(part):
  with pytest.raises(RuntimeUnavailableError) as refused:
    importlib.import_module(f'tff_privacy_agg.{part}')
  check_refusal(str(refused.value))


@pytest.mark.parametrize('arguments', REFUSED_COMMANDS, ids=lambda one: one[0])
def test_a_command_says_what_it_needs(arguments, capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'rows.csv').write_text('x\n1\n0\n1\n')
  assert cli.main(arguments) == 2
  said = capsys.readouterr().err.splitlines()[-1]
  check_refusal(said.removeprefix('tff-privacy-agg: '))


def test_a_missing_module_of_somebody_elses_is_named(monkeypatch):
  monkeypatch.setattr(importlib, 'import_module', lambda name: None)  # as if TFF were installed
  with pytest.raises(ModuleNotFoundError, match='no_such_module'), _lazy.tff_named():
    import no_such_module  # noqa: F401


def test_commands_of_the_core_work(capsys, tmp_path):
  plan = ['plan', '--target-epsilon', '4', '--rounds', '3', '--clients-per-round', '100']
  assert cli.main([*plan, '--population', '9000', '--parameters', '100', '--json']) == 0
  assert cli.main(['keys', str(tmp_path / 'keys'), 'north', 'south']) == 0
  assert cli.main(['completion', 'bash']) == 0
  assert cli.main(['doctor']) == 0
  assert 'TensorFlow Federated is not installed' in capsys.readouterr().out


def test_the_wheel_has_all_that_the_package_reads():
  """From a wheel, not from the folder of a clone."""
  package = pathlib.Path(tff_privacy_agg.__file__).parent
  assert package.parent != pathlib.Path(__file__).parents[2]
  assert (package / 'requirements.lock').stat().st_size > 100_000
  assert (package / 'ledger' / 'schema.json').exists()
  metadata = importlib.metadata.metadata('tff_privacy_agg')
  needed = metadata.get_all('Requires-Dist')
  for name in (
    'tensorflow-federated==0.87.0',
    'tensorflow-cpu==2.14.1',
    'tensorflow-privacy==0.9.0',
  ):
    (one,) = (line for line in needed if line.startswith(name))
    assert 'python_version == "3.11"' in one
    assert 'sys_platform == "linux"' in one
    assert 'platform_machine == "x86_64"' in one
  assert any(line.startswith('dp-accounting') and ';' not in line for line in needed)


def test_the_command_is_installed():
  command = pathlib.Path(sys.executable).with_name('tff-privacy-agg')
  done = subprocess.run([command, '--version'], capture_output=True, text=True, timeout=60)
  assert done.stdout == f'tff-privacy-agg {tff_privacy_agg.__version__}\n'
