"""The environment of a notebook's cells: made once, found again, and what is said where it fails."""

import pathlib
import platform
import shutil
import stat
import sys

import pytest

from tff_privacy_agg.notebook import environment

# Notes each call; its `venv` makes the interpreter, as far as anybody looks.
_UV = """#!/bin/sh
echo "$1 index=$UV_DEFAULT_INDEX" >> "$CALLS"
if [ "$1" = "$FAIL" ]; then echo "no network" >&2; exit 1; fi
for last; do :; done
if [ "$1" = venv ]; then mkdir -p "$last/bin" && touch "$last/bin/python"; fi
"""


@pytest.fixture
def calls(tmp_path, monkeypatch):
  """A uv of the test's own, and its calls."""
  programs = tmp_path / 'programs'
  programs.mkdir()
  (programs / 'uv').write_text(_UV)
  (programs / 'uv').chmod(stat.S_IRWXU)
  calls = tmp_path / 'calls'
  calls.touch()
  monkeypatch.setenv('PATH', f'{programs}:/usr/bin:/bin')
  monkeypatch.setenv('CALLS', str(calls))
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  for name in ('UV_INDEX_URL', 'UV_DEFAULT_INDEX', 'PIP_INDEX_URL'):
    monkeypatch.delenv(name, raising=False)
  return lambda: [line.split() for line in calls.read_text().splitlines()]


def prepare():
  told = []
  return *environment.prepare(told.append), told


def test_it_is_made_once_and_found_again(calls):
  python, code, told = prepare()
  assert python.exists()
  assert (code / 'tff_privacy_agg' / '__init__.py').exists()
  assert [call[0] for call in calls()] == ['venv', 'pip']
  assert '470 MB' in told[0]
  assert prepare() == (python, code, [])
  assert len(calls()) == 2


@pytest.mark.parametrize('step', ['venv', 'pip'])
def test_a_failure_says_which_step_and_how_to_do_it_by_hand(calls, monkeypatch, step):
  monkeypatch.setenv('FAIL', step)
  with pytest.raises(environment.EnvironmentFailed) as failed:
    prepare()
  said = str(failed.value)
  name = {'venv': 'making a virtual environment with Python 3.11', 'pip': 'requirements.lock'}[step]
  assert name in said.splitlines()[0]
  assert 'no network' in said
  by_hand = said.partition('By hand, in a terminal:\n')[2].splitlines()
  assert by_hand[0].startswith('  uv venv --quiet --python 3.11 /')
  assert '--no-deps --require-hashes -r ' in by_hand[1]
  assert by_hand[-1] == 'then run this cell again.'
  # What was left half done is made anew.
  monkeypatch.delenv('FAIL')
  assert prepare()[0].exists()
  # And by hand it is found as well: the last command says that it is complete.
  complete = pathlib.Path(by_hand[2].split()[-1])
  assert complete.exists()


def test_the_package_index_is_the_environments(calls, monkeypatch):
  monkeypatch.setenv('PIP_INDEX_URL', 'https://index.example/simple')
  prepare()
  assert {call[1] for call in calls()} == {'index=https://index.example/simple'}
  shutil.rmtree(environment._cache())
  monkeypatch.setenv('UV_DEFAULT_INDEX', 'https://uv.example/simple')
  prepare()
  assert calls()[-1][1] == 'index=https://uv.example/simple'


@pytest.mark.parametrize(('system', 'machine'), [('darwin', 'arm64'), ('linux', 'aarch64')])
def test_a_machine_that_cannot_have_it_is_refused(calls, monkeypatch, system, machine):
  monkeypatch.setattr(sys, 'platform', system)
  monkeypatch.setattr(platform, 'machine', lambda: machine)
  with pytest.raises(environment.EnvironmentFailed, match=f'Linux x86-64 only; this is {system}'):
    prepare()
  assert calls() == []


def test_an_installed_package_is_copied_for_the_other_python(calls, monkeypatch, tmp_path):
  installed = tmp_path / 'site-packages' / 'tff_privacy_agg'
  shutil.copytree(environment._PACKAGE, installed)
  shutil.copy(environment._PACKAGE.parent / 'requirements.lock', installed)
  (installed.parent / 'numpy').mkdir()  # made for another Python
  monkeypatch.setattr(environment, '_PACKAGE', installed)
  _, code, _ = prepare()
  assert [path.name for path in code.iterdir()] == ['tff_privacy_agg']
  assert prepare()[1] == code
  (installed / 'errors.py').write_text('# another version\n')
  assert prepare()[1] != code
