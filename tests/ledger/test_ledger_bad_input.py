"""Whatever is asked or found that cannot be: a named error, with the fix, and nothing written."""

import dataclasses
import json
import random

import pytest
from damaged_files import spoil
from ledger_forge import forge
from ledger_stacks import facts

from tff_privacy_agg.accounting.budget import Budget
from tff_privacy_agg.errors import BudgetExceededError, ConfigurationError, LedgerError
from tff_privacy_agg.ledger import line_format, line_reader
from tff_privacy_agg.ledger.participation import register
from tff_privacy_agg.ledger.participation.register import register_path
from tff_privacy_agg.ledger.reader import LedgerRecord, verify
from tff_privacy_agg.ledger.sampling_claims import Sampling
from tff_privacy_agg.ledger.writer import PrivacyLedger


@pytest.fixture
def path(tmp_path):
  """A closed ledger with every event but a recovery."""
  file = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(file, facts(), budget=Budget(epsilon=30.0, delta=5e-4)) as ledger:
    cohort = [f'client {number}' for number in range(90)]
    charge = ledger.charge(0, cohort=cohort, drawn=Sampling(text='all'))
    ledger.settle(charge, survivors=90, counted_by='runtime')
    ledger.mark_unaccounted('example counts')
    ledger.note('tuning_runs', 3)
    ledger.charge(1)
    ledger.charge(2, facts=facts(z=4.0))
  return file


@pytest.mark.parametrize('seed', range(8))
def test_lines_that_were_forged_at_random_are_read_or_named(path, seed):
  chance = random.Random(seed)
  whole = path.read_bytes()
  for _ in range(60):
    path.write_bytes(whole)
    line = chance.choice([0, 0, 1, 2, 3, 4, 5, 6, 6, 7])

    def edit(record, line=line):
      if record['seq'] == line:
        spoil(record, chance, kept=('seq', 'utc'))

    forge(path, edit)
    for use in (LedgerRecord.read, verify):
      try:
        found = use(path)
      except LedgerError:
        continue
      if use is LedgerRecord.read:
        json.loads(found.statement('json'))


@pytest.mark.parametrize(
  'content', [b'', b'\x00\xff\n', b'{}\n', b'{"salt":"zz"}\n{}\n', b'[]\n[]\n']
)
def test_a_corrupt_register_is_named(path, content):
  register_path(path).write_bytes(content)
  with pytest.raises(LedgerError, match=r'ledger\.jsonl\.participants'):
    PrivacyLedger(path)


@pytest.mark.parametrize(
  ('content', 'found'),
  [
    (b'', 'it is empty'),
    (b'\n', 'its first line is no header of one'),
    (b'{}\n', 'its first line is no header of one'),
    (b'Dear diary,\n', 'its first line is no header of one'),
    (b'round,loss\n1,0.5\n', 'its first line is no header of one'),
    (b'{"round": 1}\n', 'its first line is no header of one'),
    (b'\x00\xff' * 99, 'its first line is no header of one'),
  ],
  ids=['empty', 'line', 'object', 'text', 'csv', 'json', 'binary'],
)
def test_a_file_that_is_no_ledger_is_called_so(tmp_path, content, found):
  file = tmp_path / 'file'
  file.write_bytes(content)
  for use in (LedgerRecord.read, verify, lambda path: PrivacyLedger(path, facts())):
    with pytest.raises(LedgerError, match=f'not a ledger: {found}. A ledger has a JSON object'):
      use(file)
  assert file.read_bytes() == content


def test_a_directory_is_no_ledger_and_the_one_in_it_is_named(path, tmp_path):
  for use in (LedgerRecord.read, verify, PrivacyLedger):
    with pytest.raises(LedgerError, match=r'it is a directory\. .* Pass \S+/ledger\.jsonl\.$'):
      use(tmp_path)
    (tmp_path / 'other').mkdir(exist_ok=True)
    with pytest.raises(LedgerError, match=r'Pass the ledger\.jsonl of a run directory\.$'):
      use(tmp_path / 'other')


def test_a_ledger_that_lost_its_lines_is_still_called_one(path):
  """Its header was changed; its header is not to be read but other lines are; all were removed."""
  header, *rest = path.read_bytes().splitlines(keepends=True)
  changed = header.replace(b'"population":', b'"population":9', 1)
  cut = header[: header.index(b'"facts"')]
  for content in (changed, changed + b''.join(rest), cut, b'?\n' + b''.join(rest), b'?\n', b''):
    path.write_bytes(content)
    found = verify(path)
    assert not found.ok, content
    with pytest.raises(LedgerError, match='does not verify'):
      LedgerRecord.read(path)
  path.with_name(f'{path.name}.head').unlink()
  for content in (changed, cut, b'?\n' + b''.join(rest)):
    path.write_bytes(content)
    problem = verify(path).problems[0]
    assert problem.startswith('Line 1 was changed') or content == cut, problem


def test_a_budget_that_is_spent_is_refused_with_the_fix_and_costs_nothing(tmp_path):
  budget = Budget(epsilon=0.05, delta=5e-4)
  with PrivacyLedger(tmp_path / 'l.jsonl', facts(), budget=budget) as ledger:
    with pytest.raises(BudgetExceededError, match='more noise or fewer rounds'):
      ledger.charge(0)
    assert ledger.epsilon('server') == 0.0
  with pytest.raises(LedgerError, match='budget'):  # a larger one does not come by the back door
    PrivacyLedger(tmp_path / 'l.jsonl', facts(), budget=Budget(epsilon=5.0, delta=5e-4))


@pytest.mark.parametrize('mechanism', ['discrete_gaussian', 'skellam'])
def test_a_larger_budget_never_admits_fewer_rounds(tmp_path, mechanism):
  """Also where the samplers are far from their law, and epsilon is more than they carry."""
  stack = {**facts(mechanism).stack, 'sampler_distance_per_round': 1e-17}
  given = dataclasses.replace(facts(mechanism), stack=stack)
  with PrivacyLedger(tmp_path / 'l.jsonl', given) as ledger:
    rounds = [
      ledger.remaining(Budget(epsilon=epsilon, delta=5e-4)) for epsilon in (5, 10, 20, 35, 60, 900)
    ]
  assert rounds == sorted(rounds)
  assert rounds[0] > 5


@pytest.mark.parametrize('delta', [0.005, 0.5])
def test_the_delta_of_a_budget_stays_below_one_over_the_population(tmp_path, delta):
  with pytest.raises(ConfigurationError, match='1/population'):
    PrivacyLedger(tmp_path / 'l.jsonl', facts(), budget=Budget(epsilon=5.0, delta=delta))
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ('wrong', 'named'),
  [
    ({'round_number': -1}, 'round_number'),
    ({'round_number': 1.5}, 'round_number'),
    ({'planned_survivors': 0}, 'planned_survivors'),
    ({'cohort': []}, 'cohort_size'),
    ({'cohort': [1, 2]}, 'client_id'),
    ({'drawn': 'uniform'}, 'drawn'),
    ({'facts': {}}, 'facts'),
    ({'drawn': Sampling(text='amplified by sampling')}, 'amplified'),
  ],
  ids=str,
)
def test_charges_of_nonsense_are_refused(path, wrong, named):
  before = path.read_bytes()
  with PrivacyLedger(path) as ledger, pytest.raises(ConfigurationError, match=named):
    ledger.charge(**{'round_number': 2, **wrong})
  assert path.read_bytes() == before


@pytest.mark.parametrize('changed', [{'sampling': Sampling(text='otherwise')}, {}])
def test_other_words_for_the_cohorts_do_not_stop_a_resumption(path, changed):
  with PrivacyLedger(path, facts(**changed), budget=Budget(epsilon=30.0, delta=5e-4)) as ledger:
    assert ledger.spent('server').rounds == 3


def test_another_claim_than_the_ledger_s_is_refused(path):
  claim = Sampling(kind='without_replacement', population=200, cohort=100)
  with pytest.raises(LedgerError, match='differ: sampling'):
    PrivacyLedger(path, facts(sampling=claim), budget=Budget(epsilon=30.0, delta=5e-4))


@pytest.mark.parametrize('use', [LedgerRecord.read, verify])
def test_what_never_ends_is_no_ledger(use):
  with pytest.raises(LedgerError, match='/dev/zero is not a ledger'):
    use('/dev/zero')


@pytest.mark.parametrize('line', [b'x', b'x\n'], ids=['one line', 'lines'])
def test_a_ledger_is_read_no_further_than_its_lines(line, path, monkeypatch):
  monkeypatch.setattr(line_reader, 'LONGEST_LINE', 2**13)
  assert verify(path).ok
  with path.open('ab') as file:
    file.write(line * 2**20)
  found = verify(path)
  assert not found.ok
  assert 'too many bytes that are no line' in found.problems[0]
  reader = line_reader.LineReader(path)
  assert sum(1 for _ in reader) == 8
  assert reader.size < 2**17
  with pytest.raises(LedgerError, match='From line 9 on'):
    LedgerRecord.read(path)


def test_the_longest_line_is_written_and_read_and_a_longer_one_not(path, monkeypatch):
  for module in (line_format, line_reader):
    monkeypatch.setattr(module, 'LONGEST_LINE', 2**13)
  before = path.read_bytes()
  with PrivacyLedger(path) as ledger:
    state = ledger.state.rounds, ledger.epsilon('server'), [*ledger.state.kinds]
    for write in (
      lambda: ledger.note('empirical_audit', {'audits': ['x' * 2**12]}),
      lambda: ledger.mark_unaccounted('x' * 2**12),
      lambda: ledger.charge(3, facts=facts(z=3.0, task='x' * 2**12)),
    ):
      with pytest.raises(LedgerError, match='A line of a ledger has at most 4096 bytes'):
        write()
    assert path.read_bytes() == before
    assert state == (ledger.state.rounds, ledger.epsilon('server'), [*ledger.state.kinds])
    ledger.mark_unaccounted('x' * 3_900)
    ledger.charge(3, facts=facts(z=3.0))
  assert verify(path).ok
  with pytest.raises(LedgerError, match='A line of a ledger'):
    PrivacyLedger(path.with_name('other.jsonl'), facts(task='x' * 2**12))
  assert not path.with_name('other.jsonl').exists()


def test_a_cohort_that_is_too_long_is_not_charged(path, monkeypatch):
  with PrivacyLedger(path) as ledger:
    rounds = ledger.state.rounds
    with monkeypatch.context() as patch:
      patch.setattr(register, '_LONGEST_LINE', 2**11)
      with pytest.raises(LedgerError, match='Draw smaller cohorts; the round was not charged'):
        ledger.charge(3, cohort=[f'client {number}' for number in range(90)])
    assert ledger.state.rounds == rounds
    ledger.charge(3, cohort=['client 1'])
  assert verify(path).ok


def test_a_device_is_not_written():
  with pytest.raises(LedgerError, match='it is no regular file'):
    PrivacyLedger('/dev/zero')
