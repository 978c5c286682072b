"""The chain of a ledger's lines, and what an open charge costs: close to the code."""

import json

import numpy as np
import pytest
from ledger_stacks import facts

from tff_privacy_agg import accounting
from tff_privacy_agg.ledger import LedgerRecord, PrivacyLedger, line_format as ledger_lines, verify


def written(path, rounds=3, **given):
  with PrivacyLedger(path, facts(**given)) as ledger:
    for number in range(rounds):
      charge = ledger.charge(number, planned_survivors=95)
      ledger.settle(charge, survivors=90, counted_by='runtime')
  return path.read_bytes().splitlines()


def sealed_again(line, **changes):
  """A line with changes whose own hash is right again."""
  record = {**json.loads(line), **changes}
  del record['sha256']
  return ledger_lines.seal(record)


@pytest.mark.parametrize('position', range(7))
def test_a_line_that_was_sealed_anew_is_found_by_the_link_of_the_next(tmp_path, position):
  """Its own hash is right and its number too: only `previous` of the next line, or the head, tells."""
  path = tmp_path / 'ledger.jsonl'
  lines = written(path)
  assert len(lines) == 7
  assert verify(path).ok
  lines[position] = sealed_again(lines[position], time='2001-01-01T00:00:00Z')
  path.write_bytes(b'\n'.join(lines) + b'\n')
  assert not verify(path).ok


@pytest.mark.parametrize('position', range(1, 7))
def test_a_link_to_another_line_is_found(tmp_path, position):
  path = tmp_path / 'ledger.jsonl'
  lines = written(path)
  lines[position] = sealed_again(lines[position], previous='0' * 64)
  for later in range(position + 1, 7):  # the rest of the chain is right again, and the head
    lines[later] = sealed_again(lines[later], previous=ledger_lines.sha256(lines[later - 1]))
  path.write_bytes(b'\n'.join(lines) + b'\n')
  ledger_lines.head_path(path).unlink()
  found = verify(path)
  assert not found.ok
  assert any(f'Line {position + 1} does not follow' in problem for problem in found.problems)


@pytest.mark.parametrize('law', ['discrete_gaussian', 'skellam'])
def test_an_open_charge_counts_the_noise_of_honest_clients_alone(tmp_path, law):
  """Of the 80 survivors that the runtime lets be seen, a quarter tells its noise."""
  path = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(path, facts(law, colluding=0.25, minimum=60)) as ledger:
    ledger.charge(1, planned_survivors=95)
    costs = ledger.state.costs
    np.testing.assert_array_equal(costs.worst, costs.at_least(60))
    assert costs.worst[0] > 1.3 * costs.at_least(80)[0]
    account = accounting.account_of(ledger.facts.price)
    fewest = account.epsilon(account.worst(ledger.facts.price, 60), ledger.facts.delta, 0.0)[0]
    assert ledger.epsilon('server') == pytest.approx(fewest, rel=1e-6)
  assert LedgerRecord.read(path).epsilon('server') == pytest.approx(fewest, rel=1e-6)
