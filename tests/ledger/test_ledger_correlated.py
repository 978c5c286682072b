"""Ledgers of noise that is correlated over rounds: separation, participations, restarts."""

import dataclasses
import json
import math

import jsonschema
import numpy as np
import pytest
from ledger_forge import forge
from ledger_stacks import STRATEGY, facts

from tff_privacy_agg import accounting
from tff_privacy_agg.errors import BudgetExceededError, ConfigurationError, LedgerError
from tff_privacy_agg.learning import SeparatedCohorts
from tff_privacy_agg.ledger import (
  LedgerRecord,
  PrivacyLedger,
  Sampling,
  line_format as ledger_lines,
  verify,
)
from tff_privacy_agg.ledger.participation.register import register_path

CLIENTS = [f'client {number}' for number in range(40)]
LAW = 'correlated_discrete_gaussian'


def correlated(*, strategy=STRATEGY, **more):
  given = {'clients': 10, 'population': 40, 'delta': 1e-3, 'minimum_clients': None, **more}
  return facts(LAW, strategy=strategy, **given)


def run(ledger, number, cohort, *, settled=True):
  charge = ledger.charge(number, cohort=cohort)
  if settled:
    ledger.settle(charge, survivors=len(cohort), counted_by='runtime')
  return charge


def mu_of(participations, price):
  """What so many participations of one client cost, from the formula."""
  vector = price.vectors[0]
  norm = math.sqrt(sum(step**2 for step in vector.steps)) / 2**24
  rounding = math.sqrt((len(vector.steps) - 1) * vector.dimension)
  moved = (norm * math.sqrt(vector.l2_squared) + rounding) ** 2
  return math.sqrt(participations * moved / (vector.local_variance - vector.t_squared))


def groups():
  """Four cohorts that take turns, ten clients each."""
  return [CLIENTS[first : first + 10] for first in range(0, 40, 10)]


def test_epsilon_is_that_of_the_participations_that_were_seen(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  given = correlated()
  with PrivacyLedger(path, given) as ledger:
    for number in range(10):
      run(ledger, number, groups()[number % 4])
      seen = number // 4 + 1
      expected = accounting.gaussian_epsilon(mu_of(seen, given.price), given.delta)
      assert ledger.epsilon('release') == pytest.approx(expected, rel=1e-6)
      assert ledger.epsilon('server') == math.inf
      assert ledger.state.exposures == seen
  assert verify(path).ok
  record = LedgerRecord.read(path)
  assert record.epsilon('release') == ledger.epsilon('release')
  for text in path.read_bytes().splitlines():
    jsonschema.validate(json.loads(text), ledger_lines.schema())


def test_a_client_who_returns_too_soon_is_refused_before_the_charge(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(path, correlated()) as ledger:
    for number in range(3):
      run(ledger, number, groups()[number])
    before = path.read_bytes(), register_path(path).read_bytes()
    for early in range(3):
      with pytest.raises(LedgerError, match='at least 4 apart; 1 of this cohort of 10 took part'):
        ledger.charge(3, cohort=[*groups()[3][:9], groups()[early][5]])
    assert (path.read_bytes(), register_path(path).read_bytes()) == before
    assert ledger.eligible(CLIENTS) == groups()[3]
    run(ledger, 3, groups()[3])
    assert ledger.eligible(CLIENTS) == groups()[0]
    run(ledger, 4, groups()[0])
  with PrivacyLedger(path) as ledger:  # a resumed training knows who rested
    assert ledger.eligible(CLIENTS) == groups()[1]
    assert ledger.eligible(CLIENTS).taken == [1] * 10
    with pytest.raises(LedgerError, match='at least 4 apart'):
      ledger.charge(5, cohort=groups()[0])
    run(ledger, 5, groups()[1])
  assert verify(path).ok


def test_the_smaller_of_two_caps_counts(tmp_path):
  for cap, most in ((None, 5), (2, 2), (9, 5)):
    path = tmp_path / f'{cap}.jsonl'
    with PrivacyLedger(path, correlated(participation_cap=cap)) as ledger:
      for number in range(4 * most):
        run(ledger, number, groups()[number % 4])
      assert ledger.eligible(CLIENTS) == []
      with pytest.raises(LedgerError, match=f'at most {most} rounds'):
        ledger.charge(4 * most, cohort=groups()[0])


def test_a_round_is_charged_with_its_cohort(tmp_path):
  free = dataclasses.replace(STRATEGY, participations=None)
  for strategy, promised in ((STRATEGY, 'at most 5 rounds a client and rounds'), (free, 'rounds')):
    path = tmp_path / f'{promised}.jsonl'
    with PrivacyLedger(path, correlated(strategy=strategy)) as ledger:
      with pytest.raises(
        ConfigurationError, match=f'counts on {promised} of one client at least 4'
      ):
        ledger.charge(1)
      assert ledger.state.rounds == 0


@pytest.mark.parametrize(
  'claim',
  [
    {'sampling': Sampling(kind='without_replacement', population=40, cohort=10)},
    {'sampling': Sampling(kind='poisson', population=40, rate=0.25)},
  ],
)
def test_sampling_is_not_claimed_of_correlated_noise(claim):
  with pytest.raises(ConfigurationError, match='correlated over rounds'):
    correlated(**claim)


def test_lost_rounds_need_a_restart_and_count_as_participations(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  given = correlated()
  with PrivacyLedger(path, given) as ledger:
    for number in range(1, 4):
      run(ledger, number, groups()[number])
    assert not ledger.must_restart(4)
    run(ledger, 4, groups()[0], settled=False)
    for number in (4, 5):
      assert ledger.must_restart(number)
      with pytest.raises(LedgerError, match='Call `process'):
        ledger.charge(number, cohort=groups()[1])
    ledger.restart_noise()
    assert not ledger.must_restart(4)
    # Nobody of these had rested, and three of the four groups now took part twice.
    assert ledger.eligible(CLIENTS) == CLIENTS
    run(ledger, 4, groups()[0])
    assert ledger.eligible(CLIENTS) == CLIENTS[10:]
    for number in (5, 6):
      run(ledger, number, groups()[number - 4])
    expected = accounting.gaussian_epsilon(mu_of(2, given.price), given.delta)
    assert ledger.epsilon('release') == pytest.approx(expected, rel=1e-6)
    with pytest.raises(LedgerError, match='at least 4 apart'):
      ledger.charge(7, cohort=groups()[0])
    assert ledger.must_restart(6)  # a round that was settled runs again
  assert verify(path).ok
  with PrivacyLedger(path) as ledger:
    assert (ledger.state.chain.restarts, ledger.must_restart(7)) == (1, False)
    run(ledger, 7, groups()[3])
  assert verify(path).ok
  for text in path.read_bytes().splitlines():
    jsonschema.validate(json.loads(text), ledger_lines.schema())


def test_a_charge_that_was_cut_off_needs_a_restart(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(path, correlated()) as ledger:
    run(ledger, 1, groups()[0])
    run(ledger, 2, groups()[1], settled=False)
  path.write_bytes(path.read_bytes()[:-40])
  with PrivacyLedger(path) as ledger:
    assert ledger.must_restart(2)
    ledger.restart_noise()
    run(ledger, 2, groups()[1])
    # The line that was cut off may be of any client.
    assert ledger.state.exposures == 3
  assert verify(path).ok


def test_a_writer_that_stopped_before_the_charge_goes_on_without_a_restart(tmp_path):
  """The register has the cohort, the ledger no charge: the round drew no noise."""
  path = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(path, correlated()) as ledger:
    run(ledger, 1, groups()[0])
    whole = path.read_bytes(), ledger_lines.head_path(path).read_bytes()
    run(ledger, 2, groups()[1], settled=False)
  path.write_bytes(whole[0])
  ledger_lines.head_path(path).write_bytes(whole[1])
  with PrivacyLedger(path) as ledger:
    assert ledger.eligible(CLIENTS) == CLIENTS[10:]
    for number in (2, 3, 4, 5):
      run(ledger, number, groups()[(number - 1) % 4])
  assert verify(path).ok


def test_a_session_that_showed_nothing_runs_again_with_the_same_clients(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(path, correlated()) as ledger:
    run(ledger, 1, groups()[0])
    for _ in range(2):
      charge = run(ledger, 2, groups()[1], settled=False)
      assert ledger.settle_unopened(charge, mode='semi_honest')
    run(ledger, 2, groups()[1])
    run(ledger, 3, groups()[2])
    run(ledger, 4, groups()[3])
    with pytest.raises(LedgerError, match='at least 4 apart'):
      ledger.charge(5, cohort=groups()[1])
    run(ledger, 5, groups()[0])
  assert verify(path).ok


def test_a_budget_ends_where_one_client_would_pay_once_more(tmp_path):
  planned = accounting.plan_correlated(
    rounds=12, target_epsilon=3.0, clients_per_round=10, population=40, delta=1e-3
  )
  given = correlated(strategy=planned.strategy, z=planned.noise_multiplier)
  with PrivacyLedger(tmp_path / 'ledger.jsonl', given, budget=planned.budget) as ledger:
    for number in range(12):
      run(ledger, number, groups()[number % 4])
    assert ledger.epsilon('release') <= 3.0
    with pytest.raises(LedgerError, match='at most 3 rounds'):
      ledger.charge(12, cohort=groups()[0])
  generous = dataclasses.replace(planned.strategy, participations=4)
  given = correlated(strategy=generous, z=planned.noise_multiplier)
  with PrivacyLedger(tmp_path / 'other.jsonl', given, budget=planned.budget) as ledger:
    for number in range(12):
      run(ledger, number, groups()[number % 4])
    with pytest.raises(BudgetExceededError, match='the release view past the budget'):
      ledger.charge(12, cohort=groups()[0])


@pytest.mark.parametrize('seed', [None, 3])
def test_separated_cohorts_go_on_after_a_restart_of_the_program(tmp_path, seed):
  path = tmp_path / 'ledger.jsonl'
  given = correlated(clients=9, strategy=dataclasses.replace(STRATEGY, participations=6))
  for first in range(1, 26, 5):  # five programs, one after the other
    cohorts = SeparatedCohorts(client_ids=CLIENTS, size=9, separation=4, seed=seed)
    with PrivacyLedger(path, given if first == 1 else None) as ledger:
      for number in range(first, first + 5):
        run(ledger, number, cohorts.cohort(number, ledger.eligible(CLIENTS)))
      most = ledger.state.most
  assert most == cohorts.participation_cap(rounds=25) == 6
  assert verify(path).ok


def reseal_register(path, edit):
  """Rewrites the register, line by line."""
  register = register_path(path)
  lines = [json.loads(line) for line in register.read_bytes().splitlines()]
  edit(lines)
  register.write_bytes(b''.join(json.dumps(line).encode() + b'\n' for line in lines))


def closer(lines):
  lines[2]['cohort'], lines[2]['digest'] = lines[1]['cohort'], lines[1]['digest']


def moved(lines):
  for line in lines[2:]:
    line['position'] += 3


def placeless(lines):
  del lines[2]['position']


def backwards(lines):
  lines[3]['position'] = 1


@pytest.mark.parametrize('edit', [closer, moved, placeless, backwards])
def test_a_register_that_breaks_the_separation_does_not_verify(tmp_path, edit):
  path = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(path, correlated()) as ledger:
    for number in range(4):
      run(ledger, number, groups()[number])
  assert verify(path).ok
  reseal_register(path, edit)
  found = verify(path)
  assert not found.ok
  if edit is not moved:  # which the lines of the ledger contradict, nothing else
    with pytest.raises(LedgerError):
      PrivacyLedger(path)


def test_two_rounds_of_one_client_too_near_do_not_verify(tmp_path, monkeypatch):
  """As a writer that does not check would leave them."""
  path = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(path, correlated()) as ledger:
    monkeypatch.setattr(type(ledger._register.counts), '_check_apart', lambda *_: None)
    for number in range(4):
      run(ledger, number, groups()[number % 3])
  monkeypatch.undo()
  problems = verify(path).problems
  assert any('at least 4 apart' in problem for problem in problems)


@pytest.mark.parametrize('cap', [None, 2])
def test_more_rounds_of_one_client_than_are_claimed_do_not_verify(tmp_path, monkeypatch, cap):
  path = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(path, correlated(participation_cap=cap)) as ledger:
    monkeypatch.setattr(ledger._register.counts, 'cap', 99)
    for number in range(24):
      run(ledger, number, groups()[number % 4])
  problems = verify(path).problems
  assert any(f'rounds; the cap is {cap or 5}' in problem for problem in problems)


def test_a_restart_that_was_taken_out_is_noticed(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(path, correlated()) as ledger:
    run(ledger, 1, groups()[0])
    run(ledger, 2, groups()[1], settled=False)
    ledger.restart_noise()
    run(ledger, 2, groups()[1])
  assert verify(path).ok

  def edit(record):
    if record['event'] == 'restarted':
      record.update(event='note', name='tuning_runs', value=3)

  forge(path, edit)
  assert any('without a restart of the noise' in problem for problem in verify(path).problems)


def test_noise_that_is_independent_is_not_restarted(tmp_path):
  with PrivacyLedger(tmp_path / 'ledger.jsonl', facts()) as ledger:
    assert not ledger.must_restart(1)
    with pytest.raises(LedgerError, match='independent'):
      ledger.restart_noise()


def test_rounds_of_other_facts_cannot_stand_in_it(tmp_path):
  with PrivacyLedger(tmp_path / 'ledger.jsonl', correlated()) as ledger:
    other = correlated(strategy=dataclasses.replace(STRATEGY, separation=5), task='others')
    with pytest.raises(LedgerError, match='a separation'):
      ledger.charge(1, cohort=groups()[0], facts=other)


def test_the_card_says_what_is_claimed_and_that_the_server_is_promised_nothing(tmp_path):
  with PrivacyLedger(tmp_path / 'ledger.jsonl', correlated()) as ledger:
    for number in range(5):
      run(ledger, number, groups()[number % 4])
    ledger.restart_noise()
    text = ' '.join(ledger.statement().split())
    card = json.loads(ledger.statement('json'))
  assert 'server view): epsilon is infinite, nothing is promised' in text
  found = {field['name']: field for field in card['fields']}
  assert found['separation']['value'] == {
    'separation': 4,
    'participations': 5,
    'bands': 3,
    'most_so_far': 2,
    'restarts': 1,
  }
  assert 'checked before each round' in found['separation']['text']
  assert any('is a secret' in sentence for sentence in card['assumptions'])


def test_dp_accounting_counts_the_same_participations(tmp_path):
  dp_accounting = pytest.importorskip('dp_accounting')
  given = correlated()
  with PrivacyLedger(tmp_path / 'ledger.jsonl', given) as ledger:
    for number in range(9):
      run(ledger, number, groups()[number % 4], settled=number < 8)
    event = ledger.dp_events('release').event
    orders = np.linspace(1.1, 40, 200)
    accountant = dp_accounting.rdp.RdpAccountant(orders)
    accountant.compose(event)
    renyi = accounting.epsilon(given.price.curve(1).scaled(3), given.delta, orders)[0]
    assert accountant.get_epsilon(given.delta) == pytest.approx(renyi, rel=1e-4)
