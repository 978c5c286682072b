"""The paragraph of the card for readers without mathematics: true in every case, and without symbols."""

import json
import re

import pytest
from ledger_stacks import facts

from tff_privacy_agg.ledger.card import risk, summary as card_summary
from tff_privacy_agg.ledger.writer import PrivacyLedger


def summary(tmp_path, *, rounds=3, unaccounted=(), **given):
  with PrivacyLedger(tmp_path / 'l.jsonl', facts(unaccounted=unaccounted, **given)) as ledger:
    for number in range(rounds):
      charge = ledger.charge(number, planned_survivors=95)
      ledger.settle(charge, survivors=90, counted_by='runtime', accepted=True)
    card = json.loads(ledger.statement('json'))
    flat = re.sub(r'\s+', ' ', ledger.statement('text'))
    assert card['summary'] in flat
    assert flat.index(card['summary']) < flat.index('(server view)')
    assert '<p id="summary">In short: ' in ledger.statement('html')
  assert not re.search(r'epsilon|delta|adjacency|zero_out|\bmu\b', card['summary'])
  return card['summary'], {field['name']: field['value'] for field in card['fields']}


def recognised(text):
  """Percentages of those whose data were used."""
  return [float(one) / 100 for one in re.findall(r'recognise at most ([\d.]+)%', text)]


def test_its_limit_is_the_attackers(tmp_path):
  text, fields = summary(tmp_path)
  power = fields['risk_release']['0.01']
  (stated,) = recognised(text)
  assert power <= stated <= 1.01 * power
  assert text.startswith('In short: 3 rounds of computation drew on the data of 200 clients.')
  assert 'follows the protocol, the same limit holds' in text
  assert 'excludes almost nothing' not in text


def test_views_with_different_limits_have_both(tmp_path, monkeypatch):
  bounds = {'release': {0.01: 0.25}, 'server': {0.01: 0.95}}
  monkeypatch.setattr(risk, 'attack_bounds', lambda record, view: bounds[view])
  with PrivacyLedger(tmp_path / 'l.jsonl', facts()) as ledger:
    text = card_summary.summary(ledger)
  assert 'they recognise at most 25% of those whose data were.' in text
  assert 'they recognise at most 95% (which excludes almost nothing) by the same measure.' in text
  assert 'same limit' not in text


@pytest.mark.parametrize('mechanism', ['central_discrete_gaussian', 'gaussian'])
def test_a_server_that_adds_the_noise_has_no_limit(tmp_path, mechanism):
  text, _ = summary(tmp_path, mechanism=mechanism)
  assert 'Nothing limits what whoever runs the server can learn.' in text
  assert len(recognised(text)) == 1


def test_without_noise_there_is_no_limit_at_all(tmp_path):
  text, _ = summary(tmp_path, mechanism='none')
  assert 'Nothing limits what can be learned from what was released.' in text
  assert 'Nothing limits what whoever runs the server can learn.' in text
  assert not recognised(text)
  assert 'The limit is' not in text


def test_a_limit_that_excludes_nothing_says_so(tmp_path):
  text, fields = summary(tmp_path, rounds=110)
  assert fields['risk_release']['0.01'] >= 0.9
  assert '% (which excludes almost nothing) of those' in text


def test_what_is_left_out_comes_before_the_limits(tmp_path):
  text, _ = summary(tmp_path, rounds=1, unaccounted=('training metrics',))
  assert 'In short: 1 round of' in text
  left_out = 'NOT COMPLETE: the record leaves out training metrics, so no limit below covers all'
  assert text.index(left_out) < text.index('recognise')
