"""What the TFF worker opens to others is said, once, on standard error, where commands start."""

import ast
import json
import pathlib
import subprocess
import sys

import pytest

import tff_privacy_agg
from tff_privacy_agg.runtime import tff_worker

ROOT = pathlib.Path(tff_privacy_agg.__file__).parent
TWO_CONTEXTS = """
import tff_privacy_agg as tpa
for _ in range(2):
  with tpa.runtime.simulation_context():
    pass
"""


def run(*arguments):
  done = subprocess.run(
    [sys.executable, *arguments], capture_output=True, text=True, timeout=300, check=True
  )
  return done.stdout, done.stderr


def test_a_process_says_it_once_however_many_contexts_it_has():
  out, err = run('-c', TWO_CONTEXTS)
  assert out == ''
  assert err.splitlines().count(tff_worker.exposure()) == 1


def test_doctor_says_it_beside_json_that_is_valid():
  out, err = run('-c', 'from tff_privacy_agg.cli import main; main()', 'doctor', '--json')
  assert {check['status'] for check in json.loads(out)} <= {'ok', 'warning'}
  assert err.count(tff_worker.exposure()) == 1


@pytest.mark.parametrize('file', ['cli/train.py', 'cli/serve.py', 'cli/client.py'])
def test_commands_that_run_computations_start_such_a_context(file):
  """All of them say it, as the function that starts their worker does."""
  called = {
    getattr(node.func, 'attr', getattr(node.func, 'id', ''))
    for node in ast.walk(ast.parse((ROOT / file).read_text()))
    if isinstance(node, ast.Call)
  }
  assert called & {'simulation_context'}


def test_it_is_one_line():
  assert '\n' not in tff_worker.exposure()
  for words in ('all network interfaces', 'without authentication', 'any computation'):
    assert words in tff_worker.exposure()


@pytest.mark.parametrize('page', ['PRIVACY.md', 'docs/threat-models.md', 'docs/runtime.md'])
def test_the_pages_on_threats_say_it_first(page):
  first = (ROOT.parent / page).read_text().split('\n\n')[1]
  assert 'all' in first
  assert 'network interfaces without authentication' in first.replace('> ', '').replace('\n', ' ')
