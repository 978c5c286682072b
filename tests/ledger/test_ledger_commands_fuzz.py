"""Ledgers that were damaged or forged at random: each command ends in a sentence.

A command answers, finds something or refuses; none of them may raise. The forger reseals the chain, so
that what is read gets as far as it can.
"""

import contextlib
import io
import random

import pytest
from ledger_forge import forge, places
from ledger_stacks import facts

from tff_privacy_agg import cli
from tff_privacy_agg.accounting.budget import Budget
from tff_privacy_agg.ledger import line_format
from tff_privacy_agg.ledger.writer import PrivacyLedger

COMMANDS = (['verify'], ['epsilon', '--json'], ['statement', '--format', 'json'])
ODD = (None, 'x', '', [], {}, [1], {'a': 1}, -1, 0, 3, 0.5, 1e300, 10**400, True, False, 'inf')
ODD += ('nan', 1e-300, 2**63, '\ud800', 'é', 10**9, -0.0, [None], {'': {}}, 'secure', 1.5)


@pytest.fixture
def path(tmp_path):
  """A closed ledger with every event but a recovery."""
  file = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(file, facts(), budget=Budget(epsilon=30.0, delta=5e-4)) as ledger:
    charge = ledger.charge(0, cohort=[f'client {number}' for number in range(90)])
    ledger.settle(charge, survivors=90, counted_by='runtime')
    ledger.mark_unaccounted('example counts')
    ledger.note('example_level', {'local_epochs': 2, 'noise_multiplier': 1.0})
    ledger.note('empirical_audit', {'audits': ['canaries'], 'estimate': 1.0})
    ledger.charge(1)
    ledger.charge(2, facts=facts(z=4.0))
    ledger.settle_unopened(ledger.charge(3), mode='semi_honest')
  return file


def mutate(path, chance):
  """Changes a value, leaves one out, or changes a byte."""
  if chance.random() < 0.15:
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] = chance.randrange(256)
    path.write_bytes(data[: chance.randrange(1, len(data))] if chance.random() < 0.3 else data)
    return
  lines = path.read_bytes().count(b'\n')
  line = chance.choice([0, 0, 0, *range(lines)])

  def spoil(record):
    if record['seq'] != line:
      return
    where = chance.choice([at for at in places(record) if at and at[0] != 'seq'])
    inner = record
    for key in where[:-1]:
      inner = inner[key]
    if chance.random() < 0.2 and isinstance(inner, dict):
      del inner[where[-1]]
    else:
      inner[where[-1]] = chance.choice(ODD)

  forge(path, spoil)


@pytest.mark.parametrize('command', COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize(
  'mutations', [60, pytest.param(2000, marks=pytest.mark.slow)], ids=['some', 'many']
)
def test_no_command_raises_for_a_file(path, command, mutations):
  chance = random.Random(mutations)
  beside = [path, line_format.head_path(path)]
  whole = {one: one.read_bytes() for one in beside}
  for number in range(mutations):
    for one, content in whole.items():
      one.write_bytes(content)
    mutate(path, chance)
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
      found = cli.main([command[0], str(path), *command[1:]])
    assert found in (0, 1, 2), number
    told.getvalue().encode('utf-8')
    assert 'Traceback' not in told.getvalue()
