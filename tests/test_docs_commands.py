"""Every command that a document shows is run: here at a small setting, or by the test that is named."""

import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from tff_privacy_agg import cli
from tff_privacy_agg.accounting.printing import rounded_up
from tff_privacy_agg.audit import run_audit
from tff_privacy_agg.ledger import PrivacyLedger

pytestmark = pytest.mark.documents
ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/*.md'), *ROOT.glob('benchmarks/*.md')])
README = (ROOT / 'README.md').read_text(encoding='utf-8')
SMALL = ['--population', '20', '--clients-per-round', '10', '--rounds', '1']
HERE = pathlib.Path(__file__).name
# By command: the file that runs it, and what to find there.
CONSOLE = {
  'make demo': (HERE, 'test_the_demo'),
  'make test': ('../.ci/run', 'make test'),
  'python3.11 -m venv .venv && . .venv/bin/activate': (HERE, 'test_the_lines_without_make'),
  'pip install --no-deps --require-hashes -r requirements.lock': (HERE, 'test_the_lines_without'),
  'pip install --no-deps --no-build-isolation -e .': (HERE, 'test_the_lines_without_make'),
  'tff-privacy-agg doctor': ('runtime/test_doctor.py', "sys.argv = ['doctor'"),
  'make conformance ARGS=tests/accounting/dp-reference.json': (
    HERE,
    'test_the_command_for_the_reference_cases_passes_them',
  ),
  'pip install .': ('../Makefile', '--find-links dist --force-reinstall tff_privacy_agg'),
  'pip install numpy scipy cryptography grpcio dp-accounting shtab': (
    'core/test_without_tensorflow.py',
    "metadata.get_all('Requires-Dist')",
  ),
  'pip install --no-deps .': ('../Makefile', '--force-reinstall tff_privacy_agg'),
  'make conformance ARGS=tests/accounting/tight-reference.json': (
    'accounting/test_conformance.py',
    'test_a_tight_case_passes',
  ),
  'make wheel': ('test_release.py', 'test_a_wheel_builds_bit_for_bit_twice'),
  'make sbom': ('../.ci/run', 'make sbom'),
  'sha256sum dist/*.whl dist/sbom.cdx.json > dist/SHA256SUMS': ('test_release.py', 'sha256'),
  'tff-privacy-agg audit runs/digits-private': (
    'audit/test_audit_command.py',
    "cli.main(['audit', str(trained)",
  ),
  'tff-privacy-agg audit --fresh': (HERE, 'test_the_command_for_an_audit_measures_the_demo'),
  'tff-privacy-agg train --target-epsilon 9 --run-dir runs/private': (HERE, 'test_the_report'),
  'tff-privacy-agg train --no-privacy --run-dir runs/clear': (HERE, 'test_the_report'),
  'tff-privacy-agg report runs/private --beside runs/clear': (HERE, 'test_the_report'),
  'tff-privacy-agg analytics digits count --column digit --categories 7 --client client --json': (
    'analytics/test_analytics_command.py',
    'test_the_page_shows_what_the_command_prints',
  ),
  **{
    f'tff-privacy-agg analytics digits {question}': (
      'analytics/test_analytics_command.py',
      'test_the_page_shows_how_questions_add_up',
    )
    for question in (
      'count --column digit --categories 7 --client client --ledger digits.jsonl --target-epsilon 2',
      'mean --column ink --lower 0 --upper 1 --noise-multiplier 5 --client client '
      '--ledger digits.jsonl',
      'histogram --column digit --categories 0 1 2 --client client --ledger digits.jsonl',
    )
  },
  'tff-privacy-agg train --target-epsilon 8 --rounds 12': (
    'learning/test_training_plan.py',
    'test_train_makes_the_noise_for_the_target_once',
  ),
  'tff-privacy-agg plan --target-epsilon 8 --rounds 12 --clients-per-round 100 --population 200 '
  '--parameters 650 --write run.toml': (
    'learning/test_training_plan.py',
    'test_a_plan_is_a_file_that_train_takes',
  ),
  'tff-privacy-agg train --config run.toml': (
    'learning/test_training_plan.py',
    "cli.main(['train', '--config'",
  ),
  'tff-privacy-agg export runs/mine --format keras --output released': (
    'learning/test_export.py',
    "cli.main(['export', str(tmp_path / 'run'), '--format', 'keras'",
  ),
  'python examples/hospitals/run.py': ('deployment/test_processes.py', "'hospitals' / 'run.py'"),
  'tff-privacy-agg keys keys north south east --host server.example.org': (HERE, 'test_keys'),
  'tff-privacy-agg serve --config server.toml': ('../examples/hospitals/run.py', "'serve'"),
  'tff-privacy-agg client --config north.toml': ('../examples/hospitals/run.py', "'client'"),
}


def console_of(text):
  """Commands of the `console` blocks, in order, without their remarks."""
  blocks = re.findall(r'^```console\n(.*?)^```', text, re.DOTALL | re.MULTILINE)
  return [
    re.sub(r'\s+#.*', '', line[2:]).strip()
    for block in blocks
    for line in block.splitlines()
    if line.startswith('$ ')
  ]


def shown(command):
  """The lines that the README prints below a command."""
  start = README.index(f'$ {command}\n') + len(f'$ {command}\n')
  return re.split(r'\n\n|```', README[start:])[0].splitlines()


def test_every_command_of_a_console_is_run_somewhere():
  found = {command for path in DOCUMENTS for command in console_of(path.read_text('utf-8'))}
  assert found == {*CONSOLE}
  for file, needle in CONSOLE.values():
    assert needle in (pathlib.Path(__file__).parent / file).read_text('utf-8'), (file, needle)


def test_of_the_test_a_command_is_seen():
  text = 'a\n```console\n$ make demo   # now\nout\n$ tff-privacy-agg x\n```\n```text\n$ no\n```\n'
  assert console_of(text) == ['make demo', 'tff-privacy-agg x']


@pytest.fixture
def demo(trained, tmp_path):
  """A copy of a run of the demo, and what it printed."""
  folder, printed = trained
  shutil.copytree(folder / 'runs', tmp_path / 'runs')
  return tmp_path, printed


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """Two rounds of the demo in a folder, and what they print."""
  folder = tmp_path_factory.mktemp('demo')
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(folder)
    lines = []

    def keep(*texts, file=None, **_):
      if file is not sys.stderr:
        lines.extend(map(str, texts))

    patch.setattr('builtins.print', keep)
    assert cli.main(['train', '--rounds', '2']) == 0
  printed = '\n'.join(lines).splitlines()
  # A busy machine is also told how long the first round takes.
  return folder, [line for line in printed if not line.endswith('s so far')]


def test_the_demo_prints_what_the_readme_shows(demo):
  made = subprocess.run(
    ['make', '-n', 'demo'], cwd=ROOT, capture_output=True, text=True, check=True
  ).stdout.splitlines()
  assert '.venv/bin/tff-privacy-agg train' in [line.strip() for line in made]
  folder, printed = demo
  told = shown('make demo')
  assert told[0].replace('30 rounds', '2 rounds') == printed[0]
  assert told[1] == printed[1]
  for mine, theirs in zip(printed[2:4], told[2:4], strict=True):
    assert _stable(mine) == _stable(theirs.replace('/30', '/2').replace('round  ', 'round '))
  with PrivacyLedger(folder / 'runs/digits-private/ledger.jsonl') as ledger:
    for number in range(3, 31):
      ledger.settle(
        ledger.charge(number, planned_survivors=100), survivors=100, counted_by='runtime'
      )
    epsilon = ledger.epsilon('server')
  assert f'epsilon {rounded_up(epsilon, 4)}  survivors 100' in told[-4]
  # The last lines: accuracy, the promise in words, the files.
  assert re.fullmatch(r'accuracy [\d.]+ % on held-out examples', printed[-3])
  assert re.sub(r'epsilon [\d.]+', f'epsilon {rounded_up(epsilon, 4)}', printed[-2]) == told[-2]
  assert printed[-1] == told[-1]


def _stable(line):
  """Round, epsilon and survivors of a line of progress: the rest is noise, or a clock."""
  return re.findall(r'round +\d+/\d+|epsilon [\d.]+|survivors \d+', line)


@pytest.mark.parametrize('command', ['epsilon', 'verify', 'statement', 'report'])
def test_the_commands_for_a_run_print_what_the_pages_show(demo, command, capsys):
  run = demo[0] / 'runs/digits-private'
  assert f'`tff-privacy-agg {command} ' in (ROOT / 'docs/commands.md').read_text('utf-8')
  assert cli.main([command, str(run if command == 'report' else run / 'ledger.jsonl')]) == 0
  out = capsys.readouterr().out
  assert {
    'epsilon': 'server: epsilon 1.51257',
    'verify': 'verified: ',
    'statement': 'PRIVACY CARD',
    'report': 'report.html',
  }[command] in out


def test_the_command_for_a_report_of_two_runs_writes_it(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  text = (ROOT / 'docs/report.md').read_text('utf-8')
  private, clear, report = (shlex.split(line)[1:] for line in console_of(text))
  assert cli.main([*private, *SMALL]) == 0
  assert cli.main([*clear, *SMALL]) == 0
  capsys.readouterr()
  assert cli.main(report) == 0
  assert f'\n{capsys.readouterr().out}```' in text


def test_the_command_for_an_audit_measures_the_demo(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  main = cli.main

  def small(args):
    return main([*args, *SMALL] if args[0] == 'train' else args)

  monkeypatch.setattr(cli, 'main', small)
  monkeypatch.setattr(run_audit, 'GALLERY', {'quick': run_audit.GALLERY['inversion']})
  assert main(['audit', '--fresh', '--only', 'gallery']) == 0
  assert 'attack inversion (defended)' in capsys.readouterr().out
  assert (tmp_path / 'runs/audit-1/audit.json').exists()


def test_the_command_for_the_reference_cases_passes_them(monkeypatch, capsys):
  from tools import conformance

  monkeypatch.chdir(ROOT)
  assert conformance.main(['tests/accounting/dp-reference.json']) == 0
  assert ' cases pass.' in capsys.readouterr().out


def test_the_command_for_keys_makes_those_of_three_clients(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (line,) = (line for line in CONSOLE if 'tff-privacy-agg keys' in line)
  assert cli.main(shlex.split(line)[1:]) == 0
  assert {'ca.pem', 'roster.json'} <= {path.name for path in (tmp_path / 'keys').rglob('*')}


def test_the_lines_without_make_are_those_of_make():
  makefile = (ROOT / 'Makefile').read_text('utf-8').replace(' -q --disable-pip-version-check', '')
  for line in console_of(README):
    if line.startswith('pip install'):
      assert f'$(BIN)/{line}' in makefile
  assert '$(PYTHON) -m venv $(VENV)' in makefile
  assert re.search(r'^PYTHON \?= python3\.11\nVENV := \.venv$', makefile, re.MULTILINE)


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_options_that_are_named_exist(document, capsys):
  text = document.read_text('utf-8')
  makefile = (ROOT / 'Makefile').read_text('utf-8')
  for target in re.findall(r'`make ([a-z][a-z-]*)', text):
    assert re.search(rf'^{target}:', makefile, re.MULTILINE), target
  named = re.findall(r'(?:`|\$ )tff-privacy-agg ([a-z]+)([^`\n#]*)', text)
  for command, rest in named:
    assert command in cli.parser()._subparsers._group_actions[0].choices, command
    with pytest.raises(SystemExit) as ended:
      cli.main([command, '--help'])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert all(option in told for option in re.findall(r'--[a-z-]+', rest)), (command, rest)
  for script in re.findall(r'(?:`|    )python ([a-z_/]+\.py)', text):
    assert (ROOT / script).exists(), script
