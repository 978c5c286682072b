"""Charts of the noise: whose it is, and what is left of it in a model where it is correlated."""

import math
import re

import numpy as np
import pytest
from report_runs import CONFIG, metrics, write_json
from small_facts import server_stack

from tff_privacy_agg import accounting, reports
from tff_privacy_agg.accounting import IntegerDesign
from tff_privacy_agg.ledger import LedgerFacts, PrivacyLedger
from tff_privacy_agg.reports import noise
from tff_privacy_agg.reports.run_files import RunFiles

CLIENTS, ROUNDS = 10, 12
COLUMN = [1.0, 0.55, 0.45, 0.4]


def make(path, column=None, restarts=(), separation=4):
  """A run of twelve rounds whose server adds the noise, over cohorts that take turns."""
  strategy = None
  if column is not None:
    strategy = accounting.BandedToeplitz.from_floats(column, separation=separation)
  path.mkdir()
  write_json(path / 'config.json', CONFIG)
  write_json(path / 'privacy.json', {'private': True})
  facts = LedgerFacts(
    stack=server_stack(CLIENTS, 2.0, strategy), delta=1e-3, population=60, task='digits'
  )
  groups = [[f'client {10 * group + k}' for k in range(CLIENTS)] for group in range(6)]
  with PrivacyLedger(path / 'ledger.jsonl', facts) as ledger:
    for number in range(1, ROUNDS + 1):
      if number in restarts:
        ledger.restart_noise()
      named = {'planned_survivors': CLIENTS} if strategy is None else {'cohort': groups[number % 6]}
      charge = ledger.charge(number, **named)
      ledger.settle(charge, survivors=CLIENTS, counted_by='runtime')
  metrics(path)
  return RunFiles.read(path)


def ends(text, key):
  """Where the lines of a chart end, by name."""
  figure = text[text.index(f'<figure id="{key}"') :].partition('</figure>')[0]
  return {
    name.strip(): float(at) for name, at in re.findall(r'([\w ,-]+?) ends at ([\d.e+-]+)', figure)
  }


def drawn(column, restarts, seeds=4000):
  """Noise of each round in deviations of a fresh draw, `[seeds, rounds]`, by its definition."""
  rng, history, found = np.random.default_rng(0), [], []
  for number in range(1, ROUNDS + 1):
    history = [] if number in restarts else history
    past = sum((c * n for c, n in zip(column[1:], history, strict=False)), np.zeros(seeds))
    history = [rng.normal(size=seeds) - past, *history]
    found.append(history[0])
  return np.stack(found, axis=1)


@pytest.mark.parametrize('restarts', [(), (6,), (3, 4)])
def test_the_chart_of_correlated_noise_is_what_its_definition_draws(tmp_path, restarts):
  """Standard deviations of 4,000 draws: 5 standard errors each, false alarm 6e-7."""
  run = make(tmp_path / 'run', COLUMN, restarts)
  design = IntegerDesign(**run.ledger.facts.stack['integer_design'])
  unit = math.sqrt(design.local_variance)
  rounds = drawn(COLUMN, restarts)
  found = ends(reports.render_report(tmp_path / 'run'), 'chart-accumulated')
  error = 5 / math.sqrt(2 * len(rounds))
  sums = float(np.std(rounds.sum(axis=1))) * unit / design.scaled_norm
  assert found['correlated'] == pytest.approx(sums, rel=error)
  norm = math.sqrt(sum(c * c for c in COLUMN))
  independent = math.sqrt(ROUNDS) * unit / norm / design.scaled_norm
  assert found['independent, same epsilon'] == pytest.approx(independent, rel=1e-3)
  strategy = accounting.BandedToeplitz.from_floats(COLUMN, separation=4)
  of_rounds = noise._variances(design, strategy, run.totals)
  np.testing.assert_allclose(
    [math.sqrt(one) / unit for one in of_rounds.values()], rounds.std(axis=0), rtol=error
  )
  # Draws without the restarts are told from it, and draws that restart once too often.
  for other in {(), (6,), (3, 4)} - {restarts}:
    other_sums = float(np.std(drawn(COLUMN, other).sum(axis=1))) * unit / design.scaled_norm
    assert found['correlated'] != pytest.approx(other_sums, rel=error / 2)


def test_the_page_says_what_correlated_noise_was_worth(tmp_path):
  make(tmp_path / 'run', COLUMN, (6,))
  text = reports.render_report(tmp_path / 'run')
  found = ends(text, 'chart-accumulated')
  gain = found['independent, same epsilon'] / found['correlated']
  assert f'has {gain:.1f} times less noise than independent noise' in text
  assert 'Restarts of the noise: 1;' in text
  make(tmp_path / 'no gain', [1.0], separation=1)
  text = reports.render_report(tmp_path / 'no gain')
  assert 'Independent noise of the same epsilon would have left as little' in text
  assert 'Restarts' not in text.partition('id="layers"')[2].partition('</section>')[0]


def test_noise_of_the_server_is_drawn_once_and_not_by_each_client(tmp_path):
  run = make(tmp_path / 'run')
  design = IntegerDesign(**run.ledger.facts.stack['integer_design'])
  text = reports.render_report(tmp_path / 'run')
  assert 'chart-accumulated' not in text
  of_mean = math.sqrt(design.local_variance) / design.scaled_norm / CLIENTS
  assert ends(text, 'chart-noise')['noise'] == pytest.approx(of_mean, rel=1e-3)
  found = ends(text, 'chart-signal')['all in one direction']
  error = math.sqrt(design.dimension * (design.local_variance + 0.25 * CLIENTS))
  assert found == pytest.approx(CLIENTS * design.scaled_norm / error, rel=1e-3)
