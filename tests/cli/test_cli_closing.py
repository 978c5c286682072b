"""The last words of `serve`: what `train` ends with, on one line."""

import pytest

from tff_privacy_agg.cli._training import closing

FOUND = {
  'accuracy': 0.9312,
  'loss': 0.2,
  'metrics': {'loss': 0.2, 'accuracy': 0.9312},
  'epsilon': 1.23456,
  'release_epsilon': 1.2,
  'delta': 0.01,
  'rounds': 3,
  'rounds_planned': 3,
  'stopped': None,
  'complete': True,
}


@pytest.mark.parametrize(
  ('changed', 'words'),
  [
    ({}, 'epsilon 1.235, also against the server, at delta 0.01; '),
    ({'epsilon': None}, 'release epsilon 1.2 (the server sees the updates), at delta 0.01; '),
    ({'complete': False}, 'at delta 0.01, NOT COVERING training metrics in the clear; '),
    ({'delta': None}, 'also against the server; '),
    (
      {'epsilon': None, 'release_epsilon': None, 'delta': None, 'complete': False},
      '; no privacy: epsilon is infinite; ',
    ),
    ({'stopped': 'budget'}, 'stopped after 3 of 3 rounds: the privacy budget is spent; accuracy'),
  ],
)
def test_the_line_says_what_was_reached_at_what_price_and_where(tmp_path, changed, words):
  for name in ('metrics.csv', 'ledger.jsonl', 'other'):
    (tmp_path / name).touch()
  line = closing.last_words({**FOUND, **changed}, tmp_path)
  assert words in line
  assert 'accuracy 93.1 % on held-out examples' in line
  assert line.endswith(f'; {tmp_path}: metrics.csv, ledger.jsonl')
  assert changed.get('stopped') or line.startswith('trained 3 rounds; ')
  assert '\n' not in line


@pytest.mark.parametrize(
  ('measured', 'words'),
  [
    ({}, ''),
    ({'loss': 0.25}, 'loss 0.25 on held-out examples'),
    ({'loss': 0.25, 'auc': 0.91, 'mae': 2.0}, 'auc 0.91, mae 2 on held-out examples'),
  ],
)
def test_what_was_measured_is_named_whatever_it_is(measured, words):
  assert closing.utility({**FOUND, 'metrics': measured}) == words
