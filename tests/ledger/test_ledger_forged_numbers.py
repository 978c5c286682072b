"""What a ledger states and its own facts do not give is refused, whatever its hashes say."""

import json
import random

import pytest
from ledger_forge import forge
from ledger_stacks import facts, stack

from tff_privacy_agg.accounting.budget import Budget
from tff_privacy_agg.errors import ConfigurationError, LedgerError
from tff_privacy_agg.ledger.costs.rounds import price_of
from tff_privacy_agg.ledger.facts import LedgerFacts
from tff_privacy_agg.ledger.participation.register import register_path
from tff_privacy_agg.ledger.reader import LedgerRecord, verify
from tff_privacy_agg.ledger.sampling_claims import Sampling
from tff_privacy_agg.ledger.writer import PrivacyLedger

MECHANISMS = ('discrete_gaussian', 'skellam', 'gaussian', 'central_discrete_gaussian')


def with_price(stack_facts, **changes):
  """Facts whose `noise_multiplier` is that of the whole round."""
  merged = {**stack_facts, **changes}
  merged.pop('price', None)
  return {
    **merged,
    'noise_multiplier': price_of(merged).noise_multiplier(merged['cohort']['minimum']),
  }


def write(path, given_facts, *, budget=None, cohort=None, drawn=None):
  """Three settled rounds and an open one."""
  with PrivacyLedger(path, given_facts, budget=budget) as ledger:
    for number in range(4):
      names = None if cohort is None else cohort[number]
      charge = ledger.charge(number, cohort=names, drawn=drawn)
      if number < 3:
        ledger.settle(
          charge, survivors=90 + number if names is None else len(names), counted_by='runtime'
        )
  return path


@pytest.fixture
def path(tmp_path):
  return write(tmp_path / 'ledger.jsonl', facts(), budget=Budget(epsilon=30.0, delta=5e-4))


def set_at(record, keys, change):
  """Changes a value deep in a record."""
  *where, last = keys.split('/')
  for key in where:
    record = record[int(key) if isinstance(record, list) else key]
  last = int(last) if isinstance(record, list) else last
  record[last] = change(record[last])


def forged_header(path, *changes):
  def edit(record):
    if record['event'] == 'header':
      for keys, change in changes:
        set_at(record['facts']['stack'], keys, change)

  forge(path, edit)


def hundredth(value):
  return value / 100


DESIGN, VECTORS = 'integer_design', 'price/vectors'
# What is stated, what becomes of it, and what the refusal names.
HEADERS = [
  ([(f'{DESIGN}/l2_bound', hundredth)], 'l2_bound'),
  ([(f'{DESIGN}/l1_bound', hundredth)], 'l1_bound'),
  ([(f'{VECTORS}/0/l2_squared', lambda value: value // 10**4)], r'price\.update\.l2_squared'),
  ([(f'{VECTORS}/0/l1', hundredth)], r'price\.update\.l1'),
  # All places of the norm bound at once, and of the scale that it follows from.
  (
    [
      (f'{DESIGN}/l2_bound', hundredth),
      (f'{DESIGN}/l1_bound', hundredth),
      (f'{VECTORS}/0/l2_squared', lambda value: value // 10**4),
      (f'{VECTORS}/0/l1', hundredth),
    ],
    'l2_bound',
  ),
  ([(f'{DESIGN}/scaled_norm', hundredth)], 'l2_bound'),
  ([(f'{DESIGN}/dimension', lambda value: 1)], 'l2_bound'),
  ([(f'{DESIGN}/modulus', lambda value: 2 * value)], 'modulus'),
  ([(f'{DESIGN}/bits', lambda value: value - 1)], 'modulus'),
  ([(f'{DESIGN}/noise_multiplier', lambda value: 10 * value)], 'local_variance'),
  ([(f'{DESIGN}/local_variance', lambda value: 100 * value)], 'local_variance'),
  ([(f'{DESIGN}/local_variance', lambda value: value + 0.01)], 'local_variance'),
  ([(f'{DESIGN}/mechanism', lambda value: None)], 'mechanism'),
  ([(f'{VECTORS}/0/local_variance', lambda value: 100 * value)], 'local_variance'),
  ([(f'{VECTORS}/0/dimension', lambda value: 1)], 'distance of the samplers'),
  ([(f'{VECTORS}/1/l2_squared', lambda value: 1)], r'zeroing\.above\.l2_squared'),
  ([(VECTORS, lambda value: value[:1])], 'number of vectors'),
  ([('channels', lambda value: value[:1])], 'number of vectors'),
  ([('channels/0/local_variance', lambda value: 100 * value)], 'local_variance'),
  ([('channels/0/local_variance', lambda value: value + 0.01)], 'multiple of 1/16'),
  ([('channels/0/local_variance', lambda value: 0.0)], 'local_variance'),
  ([('channels/0/central_stddev', lambda value: 5.0)], 'of the server'),
  ([('channels/0/resolution', lambda value: 1)], 'l2_squared'),
  ([('noise_multiplier', lambda value: 10 * value)], 'noise_multiplier'),
  ([('price/central_multiplier', lambda value: 3.0)], 'central_multiplier'),
  ([('price/minimum', lambda value: 1)], 'minimum'),
  ([('cohort/minimum', lambda value: 1)], 'local_variance'),
  ([('cohort/maximum', lambda value: 10**9)], 'largest cohort'),
  ([('cohort/maximum', lambda value: 10**9), ('price/maximum', lambda value: 10**9)], 'samplers'),
  ([('cohort/expected', lambda value: 10**6)], 'maximum'),
  ([('layers', lambda value: [*value, 7])], 'layers'),
  ([('public', lambda value: 'number of survivors')], 'public'),
]


@pytest.mark.parametrize(('changes', 'named'), HEADERS, ids=range(len(HEADERS)))
def test_a_header_that_contradicts_itself_is_refused(path, changes, named):
  forged_header(path, *changes)
  problems = verify(path).problems
  assert problems
  for use in (LedgerRecord.read, PrivacyLedger):
    with pytest.raises(LedgerError, match=named):
      use(path)


def test_a_scale_of_the_server_s_noise_follows_from_its_clients(tmp_path):
  path = write(tmp_path / 'ledger.jsonl', facts('central_discrete_gaussian'))
  assert verify(path).ok
  forged_header(path, (f'{DESIGN}/noise_multiplier', hundredth))
  assert 'integer_design' in verify(path).problems[0]


@pytest.mark.parametrize('mechanism', MECHANISMS)
def test_a_share_that_no_sampler_draws_is_refused(tmp_path, mechanism):
  """Whatever else agrees with it."""
  path = write(tmp_path / 'ledger.jsonl', facts(mechanism))
  if mechanism == 'gaussian':
    changes = [('channels/0/local_variance', lambda value: 8.0)]
  elif mechanism == 'central_discrete_gaussian':
    changes = [
      (f'{DESIGN}/local_variance', lambda value: 1.001 * value),
      (f'{VECTORS}/0/local_variance', lambda value: 1.001 * value),
    ]
  else:
    changes = [
      ('channels/0/local_variance', lambda value: 4956.2),
      (f'{VECTORS}/1/local_variance', lambda value: 4956.2),
    ]
  forged_header(path, *changes)
  assert not verify(path).ok


def test_a_cohort_that_no_machine_looks_up_is_refused(tmp_path):
  def huge(record):
    if record['event'] == 'header':
      stack = record['facts']['stack']
      stack['cohort']['maximum'] = stack['price']['maximum'] = 10**12

  path = write(tmp_path / 'ledger.jsonl', facts('gaussian'))
  forge(path, huge)
  assert 'at most 10000000 clients' in verify(path).problems[0]


@pytest.mark.parametrize('mechanism', MECHANISMS)
def test_less_noise_beside_a_stack_is_found(tmp_path, mechanism):
  own, other = facts(mechanism, z=3.0).stack, facts(mechanism).stack
  if mechanism == 'gaussian':
    both = {**own, 'beside': [other]}
    both['noise_multiplier'] = (own['noise_multiplier'] ** -2 + 2.75**-2) ** -0.5
    both.pop('price', None)
  else:
    both = with_price(own, beside=[other])
  given_facts = facts(mechanism)
  given_facts = LedgerFacts(**{**given_facts.as_dict(), 'stack': both})
  path = write(tmp_path / 'ledger.jsonl', given_facts)
  assert verify(path).ok
  forged_header(path, ('beside', lambda value: []))
  if mechanism != 'gaussian':  # a central multiplier is of the whole round and stated once
    assert not verify(path).ok


LINES = [
  (2, {'survivors': 100}, None),  # fewer honest ones than survivors may be true
  (2, {'survivors': 100, 'honest': 100}, 'z_eff'),
  (2, {'survivors': 81, 'honest': 81}, 'z_eff'),
  (2, {'z_eff': 100.0}, 'z_eff'),
  (2, {'z_eff': None}, 'z_eff'),
  (2, {'z_eff': '2.7'}, 'z_eff'),
  (2, {'rdp': None}, 'rdp'),
  (2, {'rdp': {'server': [0.0] * 6, 'release': [0.0] * 6}}, 'rdp'),
  (2, {'rdp': 5}, 'rdp'),
  (2, {'round': 9}, 'round'),
  (2, {'updated': 1}, 'updated'),
  (2, {'top_up': 3}, 'top-up'),
  (1, {'honest_at_worst': 100}, 'honest_at_worst'),
  (1, {'planned_survivors': 95}, 'planned_survivors'),
  (1, {'most_participations': 1}, 'most_participations'),
  (1, {'participants': 'somebody', 'most_participations': 1}, 'no SHA-256'),
  (1, {'most_survivors': 10}, 'at most 10'),
  (1, {'utc': 'yesterday'}, 'yesterday'),
  (1, {'total': {'server': 0.01, 'release': 0.01}}, 'epsilon 0.01'),
  (2, {'total': {'server': 0.01, 'release': 'inf'}}, 'epsilon inf'),
  (2, {'total': {'server': 'inf', 'release': 'inf'}}, 'epsilon inf'),
  (2, {'total': {}}, 'no total'),
  (2, {'total': 3}, 'no total'),
]


@pytest.mark.parametrize(('seq', 'changes', 'named'), LINES, ids=range(len(LINES)))
def test_a_line_that_its_facts_do_not_give_is_refused(path, seq, changes, named):
  forge(path, lambda record: record.update(changes) if record['seq'] == seq else None)
  problems = verify(path).problems
  if named is None:
    assert not problems
  else:
    assert any(named in problem for problem in problems), problems


@pytest.mark.parametrize(
  ('seq', 'name'),
  [
    *((1, name) for name in ('round', 'planned_survivors', 'most_survivors', 'honest_at_worst')),
    *((1, name) for name in ('participants', 'most_participations', 'total', 'version', 'utc')),
    *((2, name) for name in ('of', 'round', 'survivors', 'survivors_counted_by', 'honest')),
    *((2, name) for name in ('updated', 'z_eff', 'rdp', 'total', 'version', 'utc')),
    *((0, name) for name in ('facts', 'order', 'accounts', 'limits', 'schema', 'utc')),
  ],
)
def test_what_a_line_leaves_out_is_missed(path, seq, name):
  forge(path, lambda record: record.pop(name) if record['seq'] == seq else None)
  if (seq, name) == (0, 'schema'):
    assert 'schema None' in verify(path).problems[0]
  assert not verify(path).ok


@pytest.mark.parametrize('name', sorted(facts().as_dict()))
def test_what_the_facts_leave_out_is_missed(path, name):
  forge(path, lambda record: record['facts'].pop(name) if record['seq'] == 0 else None)
  assert name in verify(path).problems[0]


def test_fewer_rounds_of_a_client_than_its_cohorts_give_are_found(tmp_path):
  """Under a cap they lower the total of everybody."""
  cohort = [f'client {number}' for number in range(90)]
  path = write(tmp_path / 'ledger.jsonl', facts(participation_cap=6), cohort=[cohort] * 4)
  assert verify(path).ok

  def once(record):
    if record['event'] == 'charge':
      record['most_participations'] = 1

  forge(path, once)
  assert any('ledger.jsonl.participants gives 4' in one for one in verify(path).problems)
  register_path(path).unlink()
  assert not verify(path).ok  # the totals are still those of four rounds


def test_a_crash_before_a_charge_leaves_a_cohort_that_explains_one_round_more(tmp_path):
  """All take part in every round, so that no digest tells one cohort from the other."""
  cohort = [f'client {number}' for number in range(90)]
  given = facts(participation_cap=9)
  path = write(tmp_path / 'ledger.jsonl', given, cohort=[cohort] * 4)
  lines = register_path(path).read_bytes().splitlines(keepends=True)
  register_path(path).write_bytes(b''.join([*lines, lines[-1]]))
  write(path, given, cohort=[cohort] * 4)
  assert b'"most_participations":9' in path.read_bytes()
  assert verify(path).ok
  register_path(path).write_bytes(b''.join([*lines, *lines[-1:] * 4]))
  assert any('is 6, 1 above what' in one for one in verify(path).problems)


def test_a_cohort_of_another_size_than_the_register_s_is_found(tmp_path):
  cohort = [f'client {number}' for number in range(90)]
  path = write(tmp_path / 'ledger.jsonl', facts(), cohort=[cohort] * 4)
  forge(
    path, lambda record: record.update(most_survivors=99) if record['event'] == 'charge' else None
  )
  assert any('names 90 clients' in problem for problem in verify(path).problems)


def test_a_round_that_was_not_drawn_as_claimed_is_found(tmp_path):
  claim = Sampling(kind='without_replacement', population=200, cohort=90)
  chance = random.Random(0)
  cohorts = [[f'client {one}' for one in chance.sample(range(200), 90)] for _ in range(4)]
  path = write(tmp_path / 'ledger.jsonl', facts(sampling=claim), cohort=cohorts, drawn=claim)
  assert verify(path).ok
  for change in (
    {'sampling': None},
    {'sampling': {**claim.as_dict(), 'cohort': 50}},
    {'sampling': 7},
    {'most_survivors': 95},
    {'participants': None, 'most_participations': None},
  ):
    whole = path.read_bytes()
    forge(path, lambda record, change=change: record.update(change) if record['seq'] == 1 else None)
    assert not verify(path).ok, change
    path.write_bytes(whole)


def test_a_charge_beyond_the_budget_is_found(tmp_path):
  """Two ledgers of the same rounds; the header of the one with a budget that they exceed."""
  small = tmp_path / 'small.jsonl'
  with PrivacyLedger(small, facts(), budget=Budget(epsilon=1.5, delta=5e-4)) as ledger:
    assert ledger.remaining() < 4
  header = json.loads(small.read_bytes().splitlines()[0])
  path = write(tmp_path / 'ledger.jsonl', facts())

  def limited(record):
    if record['event'] == 'header':
      record.update({name: header[name] for name in ('budget', 'order', 'limits')})

  forge(path, limited)
  assert any('passes the budget' in problem for problem in verify(path).problems)


@pytest.mark.parametrize('versions', [1, None, [], {'numpy': 1}])
def test_versions_that_are_no_words_are_refused(path, versions):
  forge(path, lambda record: record.update(versions=versions) if record['seq'] == 0 else None)
  assert 'states versions by name' in verify(path).problems[0]
  with pytest.raises(LedgerError, match='states versions by name'):
    LedgerRecord.read(path)


@pytest.mark.parametrize('name', ['mu_squared', 'epsilon', 'delta'])
def test_a_budget_and_its_limits_agree(path, name):
  def edit(record):
    if record['event'] == 'header':
      record['budget'][name] = (record['budget'][name] or 1.0) / 2

  forge(path, edit)
  assert 'limits' in verify(path).problems[0]


@pytest.mark.parametrize('mechanism', MECHANISMS)
def test_what_a_ledger_would_refuse_to_read_it_refuses_to_write(tmp_path, mechanism):
  path = tmp_path / 'ledger.jsonl'
  wrong = {**stack(mechanism), 'layers': [1]}
  with pytest.raises(ConfigurationError, match='layers'):
    PrivacyLedger(path, LedgerFacts(stack=wrong, delta=5e-4, population=200))
  with PrivacyLedger(path, facts(mechanism)) as ledger:
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match='layers'):
      ledger.charge(0, facts=LedgerFacts(**{**facts(mechanism).as_dict(), 'stack': wrong}))
    for name, value in (
      ('tuning_runs', -1),
      ('tuning_runs', 'many'),
      ('empirical_audit', 5),
      ('empirical_audit', {'audits': 5}),
      ('example_level', {'local_epochs': 0, 'noise_multiplier': 1.0}),
      ('example_level', {'noise_multiplier': 1.0}),
      ('else', 1),
    ):
      with pytest.raises(ConfigurationError):
        ledger.note(name, value)
    assert path.read_bytes() == before


@pytest.mark.parametrize('half', ['\ud800', '\ud83d x'])
def test_half_a_pair_of_utf_16_is_no_text(path, half):
  """No terminal could print it."""
  forge(path, lambda record: record.update(extra={half: 1}) if record['seq'] == 1 else None)
  assert 'Line 2 was changed' in verify(path).problems[0]


def test_a_whole_pair_of_utf_16_is_text(path):
  forge(path, lambda record: record.update(extra='\U0001f600') if record['seq'] == 1 else None)
  assert not any('was changed' in problem for problem in verify(path).problems)
