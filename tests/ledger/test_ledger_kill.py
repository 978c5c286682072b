"""Killed at any instant, a ledger reads back and never states less than was spent."""

import json
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration

HARNESS = pathlib.Path(__file__).with_name('ledger_kill_harness.py')


def killed(tmp_path, kills, *more):
  log = tmp_path / 'log'
  with log.open('w') as output:
    ended = subprocess.run(
      [sys.executable, str(HARNESS), str(tmp_path), str(kills), '7', *more],
      stdin=subprocess.DEVNULL,
      stdout=output,
      stderr=subprocess.STDOUT,
      timeout=120,
      check=False,
    )
  assert ended.returncode == 0, log.read_text()
  return json.loads(log.read_text().splitlines()[-1])


def test_no_kill_loses_a_charge_or_leaves_an_unreadable_ledger(tmp_path):
  found = killed(tmp_path, 200)
  assert found['kills'] == 200
  assert found['rounds'] >= 100
  assert not found['ended otherwise']
  assert not found['unreadable']
  assert not found['understated']
  assert not found['tensorflow']


def test_the_test_sees_a_ledger_that_charges_too_late(tmp_path):
  assert killed(tmp_path, 40, 'late')['understated'] > 0
