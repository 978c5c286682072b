"""Ledgers that were damaged or forged at random: each command ends in a sentence.

A command answers, finds something or refuses; none of them may raise. The forger reseals the chain, so
that what is read gets as far as it can.
"""

import random

import pytest
from damaged_files import answer, answer_of_process, damage, edit, mutations, spoil
from ledger_forge import forge
from ledger_stacks import facts

from tff_privacy_agg.accounting.budget import Budget
from tff_privacy_agg.ledger import line_format
from tff_privacy_agg.ledger.participation.register import register_path
from tff_privacy_agg.ledger.writer import PrivacyLedger

COMMANDS = (['verify'], ['epsilon', '--json'], ['statement', '--format', 'json'])


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
  """Edits a line and reseals the chain, or damages the ledger, its head or its register."""
  how = chance.random()
  if how < 0.15:
    damage(path, chance)
    return
  if how < 0.3:
    edit(chance.choice([line_format.head_path(path), register_path(path)]), chance)
    return
  lines = path.read_bytes().count(b'\n')
  line = chance.choice([0, 0, 0, *range(lines)])
  forge(path, lambda record: spoil(record, chance, ['seq']) if record['seq'] == line else None)


def refill(whole):
  for one, content in whole.items():
    one.write_bytes(content)


@pytest.fixture
def whole(path):
  """The contents of the ledger and of what belongs to it."""
  return {one: one.read_bytes() for one in path.parent.glob(f'{path.name}*')}


@pytest.mark.parametrize('command', COMMANDS, ids=lambda command: command[0])
@mutations(60)
def test_no_command_raises_for_a_file(path, whole, command, mutations):
  chance = random.Random(mutations)
  for _ in range(mutations):
    refill(whole)
    mutate(path, chance)
    answer([command[0], path, *command[1:]])


@pytest.mark.slow
@pytest.mark.parametrize('command', COMMANDS, ids=lambda command: command[0])
def test_no_process_raises_for_a_file(path, whole, command):
  chance = random.Random(command[0])
  for _ in range(20):
    refill(whole)
    mutate(path, chance)
    answer_of_process([command[0], path, *command[1:]])
