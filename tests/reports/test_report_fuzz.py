"""Run directories that were damaged or edited at random: `report` ends in a page or a sentence."""

import functools
import random

import pytest
from damaged_files import answer, answer_of_process, edit_one, mutations, restored
from report_runs import AUDIT, make_run

from tff_privacy_agg.accounting import Budget


@pytest.fixture
def run(tmp_path):
  make_run(tmp_path / 'whole', audit=AUDIT, budget=Budget(epsilon=30.0, delta=1e-3))
  return functools.partial(restored, tmp_path / 'whole', tmp_path / 'run')


@mutations(60)
def test_report_never_raises(run, tmp_path, mutations):
  chance = random.Random(mutations)
  for _ in range(mutations):
    edit_one(run(), chance)
    found, _ = answer(['report', tmp_path / 'run', '--output', tmp_path / 'page.html'])
    if found == 0:
      assert '</html>' in (tmp_path / 'page.html').read_text(encoding='utf-8')


@pytest.mark.slow
def test_report_never_raises_as_a_process(run, tmp_path):
  chance = random.Random(20)
  for _ in range(20):
    edit_one(run(), chance)
    answer_of_process(['report', tmp_path / 'run'])
