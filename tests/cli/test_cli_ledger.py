"""`epsilon` and `verify` for machines: the numbers of the ledger, and an exit code."""

import json

import pytest

from tff_privacy_agg import accounting, cli
from tff_privacy_agg.ledger import LedgerFacts, PrivacyLedger
from tff_privacy_agg.ledger.costs.rounds import price_of


def ledger_at(path, *, mechanism='discrete_gaussian', unaccounted=()):
  design = accounting.solve(
    noise_multiplier=2.0,
    cohort_maximum=10,
    minimum_honest=10,
    bits=18,
    dimension=64,
    mechanism=mechanism,
  )
  stack = {
    'mechanism': mechanism,
    'adjacency': 'zero_out',
    'holds_against_server': True,
    'noise_multiplier': 0.0,
    'cohort': {'expected': 10, 'maximum': 10, 'minimum': 10, 'colluding_fraction': 0.0},
    'integer_design': {name: getattr(design, name) for name in design.__dataclass_fields__},
    'channels': [],
    'public': ['number of survivors'],
    'sampler_distance_per_round': 0.0,
    'layers': ['Clipping()'],
  }
  stack['noise_multiplier'] = price_of(stack).noise_multiplier(10)
  facts = LedgerFacts(
    stack=stack, delta=1e-3, population=100, minimum_clients=10, unaccounted=unaccounted
  )
  with PrivacyLedger(path, facts) as ledger:
    for round_number in (1, 2):
      ledger.settle(ledger.charge(round_number), survivors=10, counted_by='runtime')
    ledger.charge(3)
    return ledger.epsilon('server'), ledger.hash


@pytest.mark.parametrize('mechanism', ['discrete_gaussian', 'skellam'])
def test_epsilon_as_json_is_the_ledgers(tmp_path, capsys, mechanism):
  path = tmp_path / 'ledger.jsonl'
  epsilon, _ = ledger_at(path, mechanism=mechanism, unaccounted=('training metrics',))
  assert cli.main(['epsilon', str(path), '--json']) == 0
  found = json.loads(capsys.readouterr().out)
  server = found['views']['server']
  assert server['epsilon'] == pytest.approx(epsilon)
  assert (server['rounds'], server['unsettled'], server['delta']) == (3, 1, 1e-3)
  assert found['unaccounted'] == ['training metrics']
  assert not found['complete']
  assert cli.main(['epsilon', str(path), '--json', '--delta', '1e-6']) == 0
  assert json.loads(capsys.readouterr().out)['views']['server']['epsilon'] > epsilon


def test_verify_as_json_says_what_it_found(tmp_path, capsys):
  path = tmp_path / 'ledger.jsonl'
  _, last = ledger_at(path)
  assert cli.main(['verify', str(path), '--json']) == 0
  found = json.loads(capsys.readouterr().out)
  assert (found['ok'], found['hash'], found['lines']) == (True, last, 6)
  path.write_bytes(path.read_bytes().replace(b'"survivors":10', b'"survivors":11', 1))
  assert cli.main(['verify', str(path), '--json']) == 1
  found = json.loads(capsys.readouterr().out)
  assert not found['ok']
  assert found['problems']


@pytest.mark.parametrize('command', ['epsilon', 'verify', 'statement'])
def test_what_is_no_ledger_is_called_so(tmp_path, capsys, command):
  (tmp_path / 'metrics.csv').write_text('round,loss\n1,0.5\n')
  assert cli.main([command, str(tmp_path / 'metrics.csv')]) == 2
  error = capsys.readouterr().err
  assert 'metrics.csv is not a ledger: its first line is no header of one.' in error
  assert 'changed' not in error
  ledger_at(tmp_path / 'ledger.jsonl')
  assert cli.main([command, str(tmp_path)]) == 2
  assert f'Pass {tmp_path}/ledger.jsonl.' in capsys.readouterr().err


def test_a_ledger_whose_first_line_was_changed_is_not_taken_for_another_file(tmp_path, capsys):
  path = tmp_path / 'ledger.jsonl'
  ledger_at(path)
  path.write_bytes(path.read_bytes().replace(b'"population":100', b'"population":900', 1))
  assert cli.main(['verify', str(path)]) == 1
  assert 'PROBLEM: Line 1 was changed: it does not match its own hash.' in capsys.readouterr().out
  assert cli.main(['epsilon', str(path)]) == 2
  assert 'does not verify: Line 1 was changed' in capsys.readouterr().err


def test_what_cannot_be_read_is_refused_in_one_sentence(tmp_path, capsys):
  assert cli.main(['epsilon', str(tmp_path / 'none.jsonl')]) == 2
  assert 'tff-privacy-agg: ' in capsys.readouterr().err
