"""What a round costs: charged at its worst, settled with what happened, never taken back."""

import itertools
import math

import pytest
from hypothesis import given, settings, strategies as st
from ledger_stacks import facts

from tff_privacy_agg import accounting
from tff_privacy_agg.errors import ConfigurationError, LedgerError
from tff_privacy_agg.ledger.costs.rounds import PlainCosts
from tff_privacy_agg.ledger.reader import LedgerRecord, verify
from tff_privacy_agg.ledger.replay import LedgerState
from tff_privacy_agg.ledger.writer import PrivacyLedger


def state_of(given_facts, settled, unsettled=0):
  """A ledger in memory: a round for each number of survivors, and open ones."""
  state = LedgerState({'event': 'header', 'schema': 1, 'facts': given_facts.as_dict()})
  for number, survivors in enumerate([*settled, *[None] * unsettled]):
    charge = {'event': 'charge', 'seq': 2 * number + 1, 'round': number, 'planned_survivors': None}
    state.apply({**charge, 'participants': None, 'most_participations': None})
    if survivors is not None:
      honest = given_facts.honest(survivors)
      happened = {'of': 2 * number + 1, 'survivors': survivors, 'honest': honest, 'updated': True}
      state.apply({'event': 'settle', 'seq': 2 * number + 2, **happened})
  return state


@pytest.fixture
def ledger(tmp_path):
  with PrivacyLedger(tmp_path / 'ledger.jsonl', facts()) as opened:
    yield opened


def test_nothing_is_spent_before_the_first_round(ledger):
  assert ledger.epsilon('server') == ledger.epsilon('release') == 0.0


def test_a_round_is_charged_before_it_runs_and_lowered_once_it_has_settled(ledger):
  charge = ledger.charge(1, planned_survivors=100)
  charged = ledger.epsilon('server')
  ledger.settle(charge, survivors=90, counted_by='runtime')
  assert 0 < ledger.epsilon('server') < charged
  with pytest.raises(LedgerError, match='not open'):
    ledger.settle(charge, survivors=100, counted_by='runtime')


def test_the_total_is_that_of_the_composed_gaussians(ledger):
  survivors = [100, 90, 81, 100, 85]
  for number, count in enumerate(survivors):
    ledger.settle(ledger.charge(number), survivors=count, counted_by='runtime')
  costs = ledger.state.costs
  mu, c1, c2 = accounting.as_numbers(sum(costs.row(count) for count in survivors))
  expected = accounting.composed_epsilon(mu, 5e-4, c1=c1, c2=c2)
  assert ledger.spent('server').epsilon == pytest.approx(expected, rel=1e-9)
  assert math.isnan(ledger.spent('server').order)
  by_order = accounting.compose([costs.price.curve(count) for count in survivors])
  assert 0.85 < expected / accounting.epsilon(by_order, 5e-4)[0] < 0.96
  assert ledger.epsilon('server', 1e-6) > ledger.epsilon('server')


def test_survivors_count_not_the_plan(ledger):
  ledger.settle(ledger.charge(1, planned_survivors=100), survivors=80, counted_by='runtime')
  costs = ledger.state.costs
  at_plan = costs.account.epsilon(costs.row(100), 5e-4, 0.0)[0]
  assert ledger.epsilon('server') > 1.05 * at_plan


def test_shares_of_colluders_do_not_count(tmp_path):
  spent = []
  for fraction in (0.0, 0.29):
    given_facts = facts(colluding=fraction, minimum=50)
    with PrivacyLedger(tmp_path / f'{fraction}.jsonl', given_facts) as ledger:
      line = ledger.settle(ledger.charge(1), survivors=100, counted_by='runtime')
      assert line['honest'] == {0.0: 100, 0.29: 71}[fraction]
      spent.append(ledger.epsilon('server'))
  assert spent[1] > 1.1 * spent[0]


def test_fewer_honest_clients_than_the_fraction_leaves_may_be_stated_never_more(ledger):
  with pytest.raises(LedgerError, match='Round 1 had 60 honest clients'):
    ledger.settle(ledger.charge(1), survivors=100, counted_by='runtime', honest=60)
  assert ledger.state.honest_at_worst(ledger.state.kind_of(ledger.charge(3))) == 1
  assert (
    ledger.settle(ledger.charge(2), survivors=90, counted_by='runtime', honest=100)['honest'] == 90
  )


def test_no_noise_is_infinite_and_nobody_is_refused(tmp_path, ledger):
  with PrivacyLedger(tmp_path / 'clear.jsonl', facts('none')) as clear:
    assert clear.epsilon('server') == math.inf
    clear.settle(clear.charge(1), survivors=100, counted_by='runtime')
    assert clear.epsilon('server') == clear.epsilon('release') == math.inf
  charge = ledger.charge(1)
  before = ledger.epsilon('server')
  for wrong in ({'survivors': 0}, {'survivors': 100, 'honest': 0}, {'survivors': 101}):
    with pytest.raises(LedgerError, match='stays charged'):
      ledger.settle(charge, counted_by='runtime', **wrong)
  assert ledger.epsilon('server') == before > 0
  assert ledger.state.costs.row(0)[0] == accounting.INFINITE


def test_noise_of_the_server_counts_for_nothing_against_it(tmp_path):
  with PrivacyLedger(tmp_path / 'central.jsonl', facts('gaussian')) as ledger:
    ledger.settle(ledger.charge(1), survivors=100, counted_by='runtime')
    assert ledger.epsilon('server') == math.inf
    expected = accounting.gaussian_epsilon(1 / 2.75, 5e-4)
    assert ledger.epsilon('release') == pytest.approx(expected)
  assert verify(tmp_path / 'central.jsonl').ok


def test_a_round_that_runs_again_costs_again(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(path, facts()) as ledger:
    ledger.settle(ledger.charge(1), survivors=100, counted_by='runtime')
    ledger.charge(2)  # the program crashes after the sum
    crashed = ledger.epsilon('server')
  with PrivacyLedger(path, facts()) as ledger:  # and goes on from the checkpoint of round 1
    assert ledger.epsilon('server') == crashed
    ledger.settle(ledger.charge(2), survivors=100, counted_by='runtime')
    assert ledger.epsilon('server') > crashed
    assert ledger.spent('server').rounds == 3
    assert ledger.spent('server').unsettled == 1


def test_a_discarded_round_costs_the_same(tmp_path):
  spent = []
  for accepted in (True, False):
    with PrivacyLedger(tmp_path / f'{accepted}.jsonl', facts()) as ledger:
      ledger.settle(ledger.charge(1), survivors=85, counted_by='runtime', accepted=accepted)
      spent.append(ledger.epsilon('server'))
  assert spent[0] == spent[1]


def test_without_a_threshold_an_open_round_counts_one_honest_survivor(tmp_path):
  with PrivacyLedger(tmp_path / 'ledger.jsonl', facts(minimum_clients=None)) as ledger:
    ledger.charge(1)
    costs = ledger.state.costs
    one = costs.account.epsilon(costs.row(1), 5e-4, 0.0)[0]
    assert ledger.epsilon('server') == pytest.approx(one)
    ledger.settle(1, survivors=1, counted_by='runtime')
    assert ledger.epsilon('server') == pytest.approx(one)


def test_a_broken_threshold_is_recorded_then_refused_and_open_rounds_lose_it(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(path, facts()) as ledger:
    ledger.charge(1)
    charge = ledger.charge(2)
    before = ledger.epsilon('server')
    with pytest.raises(LedgerError, match='assumes at least 80'):
      ledger.settle(charge, survivors=20, counted_by='runtime')
    assert ledger.epsilon('server') > 10 * before
    spent = ledger.epsilon('server')
  record = LedgerRecord.read(path)
  assert record.epsilon('server') == spent
  assert record.state.threshold_broken
  assert 'BROKEN' in record.statement()
  assert verify(path).ok


def test_where_more_narrow_shares_cost_more_the_dearest_is_charged():
  vector = accounting.NoisyVector(
    name='update', dimension=10**8, l2_squared=1, l1=1.0, local_variance=1.0
  )
  price = accounting.RoundPrice(
    mechanism='discrete_gaussian', minimum=1, maximum=40, vectors=(vector,)
  )
  costs = PlainCosts(price, accounting.account_of(price), worst_honest=1)
  rows = [costs.row(honest) for honest in range(1, 41)]
  assert any((later > earlier).any() for earlier, later in itertools.pairwise(rows))
  assert all((costs.worst >= row).all() for row in rows)


def test_what_leaves_outside_the_sum_makes_the_ledger_incomplete(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(path, facts(unaccounted=('example counts',))) as ledger:
    assert not ledger.complete
    ledger.mark_unaccounted('training metrics')
    ledger.mark_unaccounted('training metrics')
  spent = LedgerRecord.read(path).spent('server')
  assert spent.unaccounted == ('example counts', 'training metrics')
  assert not spent.complete


@pytest.mark.parametrize('delta', [0.005, 0.9, 0.0, 1.0, math.nan])
def test_delta_stays_below_one_over_the_population(delta):
  with pytest.raises(ConfigurationError, match='delta'):
    facts(delta=delta)


@pytest.mark.parametrize(
  ('wrong', 'named'),
  [
    ({'adjacency': 'add_or_remove_one'}, 'share'),
    ({'adjacency': 'neighbours'}, 'adjacency'),
    ({'mechanism': 'laplace'}, 'mechanism'),
    ({'integer_design': None}, 'integer design'),
  ],
)
def test_stacks_without_a_proof_are_refused(wrong, named):
  good = facts()
  with pytest.raises(ConfigurationError, match=named):
    type(good)(**{**good.as_dict(), 'stack': {**good.stack, **wrong}})


_SURVIVORS = st.lists(st.integers(80, 100), min_size=1, max_size=12)
_FACTS = {name: facts(name) for name in ('discrete_gaussian', 'skellam')}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(_FACTS)), _SURVIVORS, st.integers(0, 3), st.data())
def test_epsilon_rises_with_rounds_and_falls_with_survivors(name, survivors, waiting, data):
  given_facts = _FACTS[name]
  before = state_of(given_facts, survivors, waiting).epsilon('server')[0]
  assert state_of(given_facts, [*survivors, 100], waiting).epsilon('server')[0] > before
  assert state_of(given_facts, survivors, waiting + 1).epsilon('server')[0] > before
  fewer = [data.draw(st.integers(80, count)) for count in survivors]
  assert state_of(given_facts, fewer, waiting).epsilon('server')[0] >= before
  # An open round costs at least what any settlement of it may say.
  settled = [*survivors, *[data.draw(st.integers(80, 100)) for _ in range(waiting)]]
  assert state_of(given_facts, settled).epsilon('server')[0] <= before


@settings(max_examples=25, deadline=None)
@given(_SURVIVORS, st.floats(0.0, 0.4), st.floats(0.0, 0.4))
def test_epsilon_rises_with_collusion(survivors, one, other):
  low, high = sorted((one, other))
  spent = [
    state_of(facts(colluding=fraction, minimum=40), survivors).epsilon('server')[0]
    for fraction in (low, high)
  ]
  assert spent[0] <= spent[1] * (1 + 1e-12)


@settings(max_examples=25, deadline=None)
@given(_SURVIVORS)
def test_the_stated_epsilon_is_never_below_the_exact_gaussian(survivors):
  state = state_of(_FACTS['discrete_gaussian'], survivors)
  mu = math.sqrt(sum(1 / state.facts.price.noise_multiplier(count) ** 2 for count in survivors))
  assert state.epsilon('server')[0] >= accounting.gaussian_epsilon(mu, 5e-4)


def test_the_distance_of_the_samplers_is_taken_from_delta():
  exact = facts()
  for distance, same in ((7e-21, True), (1e-6, False), (1e-3, None)):
    stack = {**exact.stack, 'sampler_distance_per_round': distance}
    spent = state_of(type(exact)(**{**exact.as_dict(), 'stack': stack}), [100] * 5)
    epsilon = spent.epsilon('server')[0]
    if same is None:
      assert math.isinf(epsilon)
      continue
    plain = state_of(exact, [100] * 5).epsilon('server')[0]
    assert (epsilon == pytest.approx(plain, rel=1e-9)) == same
    assert epsilon >= plain
    left = 5e-4 - 5 * distance * (1 + math.exp(epsilon))
    assert epsilon >= spent.accounts['server'].epsilon(spent.cost('server'), left, 0.0)[0]
