"""Questions about the same clients in one ledger: added, charged before they are asked, budgeted."""

import dataclasses
import json
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from tff_privacy_agg import accounting, cli
from tff_privacy_agg.accounting import Budget
from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.analytics import (
  Count,
  Histogram,
  Mean,
  Quantiles,
  Statistic,
  private_statistic,
  statistic as statistic_module,
)
from tff_privacy_agg.errors import BudgetExceededError, ConfigurationError, LedgerError
from tff_privacy_agg.ledger import LedgerRecord, PrivacyLedger, verify

pytestmark = pytest.mark.integration

CLIENTS, DELTA = 40, 1e-3
FLAGS, NUMBERS = [True] * CLIENTS, list(np.linspace(0, 1, CLIENTS))


def asked(query, z, clients=CLIENTS, **more):
  return private_statistic(query, Cohort(expected=clients), noise_multiplier=z, **more)


COUNT = asked(Count(), 2.0)
MEAN = asked(Mean(lower=0.0, upper=1.0), 5.0)
TREE = asked(Quantiles(probabilities=(0.5,), lower=0.0, upper=1.0, levels=3), 3.0, bits=24)
# Steps so coarse that rounding alone makes the bound larger, and the noise's law is another.
COARSE = asked(Histogram(categories=tuple('abc')), 1.0, bits=13)
FACTS = COUNT.facts(population=CLIENTS, delta=DELTA, minimum_clients=CLIENTS)


def directly(statistics, delta=DELTA):
  """Epsilon of questions, all of whose clients answer: costs added, no ledger."""
  account = COUNT.binding.account
  costs = [account.row(one.binding.price, one.cohort.expected) for one in statistics]
  curve = accounting.compose([one.binding.curve(one.cohort.expected) for one in statistics])
  found, _ = account.epsilon(sum(costs), delta, 0.0)
  assert 0.85 < found / accounting.epsilon(curve, delta)[0] <= 1
  return found


def test_questions_of_several_kinds_cost_what_their_curves_add_up_to(simulation, tmp_path):
  path = tmp_path / 'ledger.jsonl'
  held = [(COUNT, FLAGS), (MEAN, NUMBERS), (TREE, NUMBERS), (COUNT, FLAGS)]
  held.append((COARSE, [np.array([True, False, False])] * CLIENTS))
  for number, (statistic, values) in enumerate(held, 1):
    with PrivacyLedger(path, FACTS if number == 1 else None) as ledger:  # one process each
      found = statistic.answer(values, ledger=ledger)
      assert found['survivors'] == CLIENTS
      expected = directly([one for one, _ in held[:number]])
      assert ledger.epsilon('server') == pytest.approx(expected, rel=1e-6)
      assert ledger.state.unsettled == 0
  record = LedgerRecord.read(path)
  assert verify(path).ok
  assert len(record.state.kinds) == 4  # the count was asked twice
  tasks = [one.facts.task for one in record.state.kinds.values()]
  assert tasks == [repr(one.query) for one in (COUNT, MEAN, TREE, COARSE)]
  # The faulty way, every question at the cost of the first, is another number.
  assert directly([COUNT] * 5) == pytest.approx(record.epsilon('server'), rel=0.5)
  assert abs(directly([COUNT] * 5) / record.epsilon('server') - 1) > 0.01


def test_an_answer_does_not_depend_on_the_ledger(simulation, tmp_path):
  quiet = dataclasses.replace(MEAN, noise_multiplier=1e-3)
  with PrivacyLedger(tmp_path / 'ledger.jsonl', FACTS) as ledger:
    found = quiet.answer(NUMBERS, ledger=ledger)
  assert found['mean'] == pytest.approx(0.5, abs=0.01)


def test_a_question_that_could_pass_the_budget_is_put_to_nobody(simulation, tmp_path, monkeypatch):
  path = tmp_path / 'ledger.jsonl'
  budget = Budget(epsilon=directly([COUNT, COUNT]) * 1.01, delta=DELTA)
  with PrivacyLedger(path, FACTS, budget=budget) as ledger:
    COUNT.answer(FLAGS, ledger=ledger)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
      patch.setattr(Statistic, 'next', property(lambda self: pytest.fail('somebody was asked')))
      with pytest.raises(BudgetExceededError):
        dataclasses.replace(COUNT, noise_multiplier=0.5).answer(FLAGS, ledger=ledger)
    assert path.read_bytes() == before
    MEAN.answer(NUMBERS, ledger=ledger)  # what costs less still fits
    assert ledger.epsilon('server') <= budget.epsilon
    while not ledger.would_exceed():  # of the first kind, which costs more
      MEAN.answer(NUMBERS, ledger=ledger)
    assert 0.6 * budget.epsilon < ledger.epsilon('server') <= budget.epsilon


def test_a_question_without_an_answer_stays_charged(simulation, tmp_path, monkeypatch):
  path = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(path, FACTS) as ledger:
    COUNT.answer(FLAGS, ledger=ledger)
    with monkeypatch.context() as patch:
      patch.setattr(Statistic, 'next', property(lambda self: 1 / 0))
      with pytest.raises(ZeroDivisionError):
        MEAN.answer(NUMBERS, ledger=ledger)
    assert ledger.state.unsettled == 1
    assert ledger.epsilon('server') == pytest.approx(directly([COUNT, MEAN]), rel=1e-6)


def test_fewer_clients_than_the_ledgers_threshold_need_one_of_their_own(simulation, tmp_path):
  few = asked(Count(), 2.0, clients=10)
  with PrivacyLedger(tmp_path / 'ledger.jsonl', FACTS) as ledger:
    with pytest.raises(ConfigurationError, match='minimum_clients'):
      few.answer([True] * 10, ledger=ledger)
    facts = few.facts(population=CLIENTS, delta=DELTA, minimum_clients=10)
    few.answer([True] * 10, ledger=ledger, facts=facts)
    with pytest.raises(LedgerError, match='unit'):
      COUNT.answer(FLAGS, ledger=ledger, facts=dataclasses.replace(FACTS, unit='row'))
    assert ledger.epsilon('server') == pytest.approx(directly([few]), rel=1e-6)


def test_values_are_read_once(simulation, tmp_path, monkeypatch):
  read, client_values = [], statistic_module.client_values
  monkeypatch.setattr(
    statistic_module, 'client_values', lambda *given: read.append(1) or client_values(*given)
  )
  with PrivacyLedger(tmp_path / 'ledger.jsonl', FACTS) as ledger:
    COUNT.answer(FLAGS, ledger=ledger)
  assert read == [1]


@pytest.mark.parametrize(
  ('statistic', 'stated'),
  [
    (dataclasses.replace(COUNT, noise_multiplier=0.5), COUNT),
    (TREE, COUNT),
    (dataclasses.replace(COUNT, randomness='philox'), COUNT),
  ],
  ids=['noise', 'query', 'randomness'],
)
def test_no_question_is_charged_with_the_facts_of_another(tmp_path, statistic, stated):
  path = tmp_path / 'ledger.jsonl'
  facts = stated.facts(population=CLIENTS, delta=DELTA, minimum_clients=CLIENTS)
  with PrivacyLedger(path, facts) as ledger:
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match='belong to another question'):
      statistic.answer(FLAGS, ledger=ledger, facts=facts)
    if statistic.randomness != stated.randomness:
      with pytest.raises(LedgerError, match='randomness'):
        statistic.answer(FLAGS, ledger=ledger)
    assert path.read_bytes() == before


def test_clients_that_count_themselves_twice_are_no_more_noise(tmp_path, monkeypatch):
  told = {'survivors': 40, 'honest': 40, 'accepted': True}
  monkeypatch.setattr(Statistic, 'next', property(lambda self: lambda *_: (None, told)))
  monkeypatch.setattr(Statistic, 'initialize', property(lambda self: lambda: None))
  facts = COUNT.facts(population=CLIENTS, delta=DELTA, minimum_clients=20)
  with PrivacyLedger(tmp_path / 'ledger.jsonl', facts) as ledger:
    COUNT.answer(FLAGS[:30], ledger=ledger)
    assert [(one.survivors, one.honest) for one in ledger.state.settled] == [(30, 30)]


# Of the command.

ROWS = [f'{number},{number % 7},client {number % CLIENTS}' for number in range(4 * CLIENTS)]
PER_CLIENT = ['--client', 'who']
QUESTIONS = [
  ['mean', '--column', 'size', '--lower', '0', '--upper', '200', '--noise-multiplier', '3'],
  ['count', '--column', 'kind', '--categories', '3'],
]


@pytest.fixture
def table(tmp_path):
  (tmp_path / 'table.csv').write_text('size,kind,who\n' + '\n'.join(ROWS) + '\n')
  return str(tmp_path / 'table.csv')


def command(table, question, *more):
  return ['analytics', table, *question, *PER_CLIENT, '--ledger', f'{table}.jsonl', *more]


def run(capsys, *arguments):
  code = cli.main([*arguments])
  told = capsys.readouterr()
  return code, told.out, told.err


def epsilon_of(question):
  z = 3.0 if question is QUESTIONS[0] else 2.0
  return asked(Mean(lower=0.0, upper=200.0) if z == 3.0 else Count(), z)


def test_the_command_adds_questions_up_and_stops_at_the_budget(table, capsys):
  delta = 0.1 / CLIENTS
  statistics = [epsilon_of(question) for question in QUESTIONS]
  target = str(1.1 * directly(statistics, delta))
  ledger = pathlib.Path(f'{table}.jsonl')
  code, out, _ = run(capsys, *command(table, QUESTIONS[0], '--json', '--target-epsilon', target))
  found = json.loads(out)
  assert (code, found['ledger']['questions'], found['delta']) == (0, 1, delta)
  assert found['ledger']['epsilon'] == pytest.approx(found['epsilon'], rel=5e-3)
  code, out, _ = run(capsys, *command(table, QUESTIONS[1], '--json'))
  found = json.loads(out)
  assert found['ledger']['questions'] == 2
  assert found['epsilon'] == pytest.approx(statistics[1].epsilon(delta))
  assert found['ledger']['epsilon'] == pytest.approx(directly(statistics, delta), rel=1e-6)
  assert found['ledger']['target_epsilon'] == float(target)
  before = ledger.read_bytes()
  code, out, err = run(capsys, *command(table, QUESTIONS[1]))
  assert (code, out) == (2, '')
  assert 'past the budget' in err
  assert ledger.read_bytes() == before
  for wrong, sentence in (
    (['--target-epsilon', '50'], 'Give --target-epsilon as before'),
    (['--delta', '1e-4'], 'Give --delta as before'),
    (['--client', 'kind'], 'Give --client as before'),
  ):
    code, _, err = run(capsys, *command(table, QUESTIONS[0], *wrong))
    assert code == 2
    assert sentence in err
  assert ledger.read_bytes() == before
  code, out, _ = run(capsys, 'epsilon', str(ledger), '--json')
  assert json.loads(out)['views']['server']['epsilon'] == found['ledger']['epsilon']
  assert json.loads(out)['unit'] == 'client (column who)'
  assert run(capsys, 'verify', str(ledger))[0] == 0
  code, out, _ = run(capsys, 'statement', str(ledger))
  assert code == 0
  assert 'mean of column size' in out
  assert 'count of column kind' in out
  more = pathlib.Path(table).with_name('more.csv')
  more.write_text('size,kind,who\n' + '\n'.join([*ROWS, '1,2,somebody else']) + '\n')
  arguments = [str(more), *QUESTIONS[1], *PER_CLIENT, '--ledger', str(ledger)]
  code, _, err = run(capsys, 'analytics', *arguments)
  assert code == 2
  assert f'The file has {CLIENTS + 1} clients' in err


def test_a_first_question_beyond_the_budget_begins_no_ledger(table, capsys):
  code, _, err = run(capsys, *command(table, QUESTIONS[1], '--target-epsilon', '0.5'))
  assert code == 2
  assert 'alone could exceed the budget' in err
  assert not pathlib.Path(f'{table}.jsonl').exists()


KILLED = """
import os, signal, sys
from tff_privacy_agg import cli
from tff_privacy_agg.analytics import Statistic
def dies(self, *values):  # the charge is written, the clients are asked now
  os.kill(os.getpid(), signal.SIGKILL)
def late(self, *values, **named):  # the faulty variant: charges after the answer
  dies(self)
Statistic._ask = dies
if {late}:
  Statistic.answer = late
cli.main(sys.argv[1:])
"""


@pytest.mark.parametrize('late', [False, True], ids=['charged first', 'faulty: charged late'])
def test_a_kill_between_charge_and_answer_leaves_a_ledger_that_counts(table, late):
  arguments = command(table, QUESTIONS[1])
  done = subprocess.run(
    [sys.executable, '-c', KILLED.format(late=late), *arguments],
    capture_output=True,
    timeout=300,
    check=False,
  )
  assert done.returncode == -signal.SIGKILL
  assert done.stdout == b''
  record = LedgerRecord.read(f'{table}.jsonl')
  assert verify(f'{table}.jsonl').ok
  if late:
    assert record.epsilon('server') == 0.0  # this is what understates
    return
  assert record.state.unsettled == 1
  expected = directly([epsilon_of(QUESTIONS[1])], 0.1 / CLIENTS)
  assert record.epsilon('server') == pytest.approx(expected, rel=1e-6)


def test_a_histogram_says_what_its_contributions_do_and_nothing_of_the_data(table, capsys):
  question = ['analytics', table, 'histogram', '--column', 'kind', '--categories', '1', '2', '3']
  notes = []
  for more in (PER_CLIENT, [*PER_CLIENT, '--contributions', '2'], []):
    code, out, _ = run(capsys, *question, *more, '--json')
    assert code == 0
    notes.append(json.loads(out)['note'])
  assert 'sqrt(1/m)' in notes[0]
  assert 'm above 2, counts sqrt(2/m)' in notes[1]
  assert notes[2] is None  # a row has one category
  others = pathlib.Path(table)
  others.write_text('size,kind,who\n1,1,a\n1,1,b\n')
  question += ['--delta', '0.01']
  code, out, _ = run(capsys, *question, *PER_CLIENT, '--json')
  assert json.loads(out)['note'] == notes[0]
  code, out, _ = run(capsys, *question, *PER_CLIENT)
  assert notes[0] in out


def test_the_rule_of_the_note_is_what_the_encoder_does(simulation):
  query = Histogram(categories=tuple('abcd'), contributions=2)
  quiet = private_statistic(query, Cohort(expected=1), noise_multiplier=1e-4)
  found = quiet.answer([np.array([True, True, True, False])])
  np.testing.assert_allclose(found['counts'], np.sqrt(2 / 3) * np.array([1, 1, 1, 0]), atol=0.01)


def test_answers_end_where_the_truth_must_and_what_was_cut_is_kept(simulation):
  loud = asked(Histogram(categories=tuple(map(str, range(400)))), 20.0, clients=5)
  found = loud.answer([np.zeros(400, bool)] * 5)
  assert np.min(found['uncut']['counts']) < 0
  np.testing.assert_array_equal(found['counts'], np.clip(found['uncut']['counts'], 0, 5))
  # The mean of the errors before the cut: 5 standard errors, false alarm 6e-7; after it, never.
  error = found['stddev'] / np.sqrt(400)
  assert abs(np.mean(found['uncut']['counts'])) < 5 * error
  assert np.mean(found['counts']) > 0.5
  intervals = loud.intervals(found)['counts']
  assert np.all((intervals[:, 0] <= found['counts']) & (found['counts'] <= intervals[:, 1]))
  half = loud.precision()['counts']
  expected = np.clip(found['uncut']['counts'] + half, 0, 5)
  np.testing.assert_array_equal(intervals[:, 1], expected)


def test_bits_are_the_fewest_that_cost_no_precision():
  for clients, query in ((3, Count()), (300, Count()), (10_000, TREE.query)):
    chosen = asked(query, 2.0, clients=clients)
    bits = chosen.binding.design.bits
    widest = asked(query, 2.0, clients=clients, bits=62)
    assert chosen.binding.design.scaled_norm == widest.binding.design.scaled_norm
    fewer = asked(query, 2.0, clients=clients, bits=bits - 1)
    assert fewer.binding.design.scaled_norm < widest.binding.design.scaled_norm
