"""Claims about cohorts: granted where they are proved, refused where practice does not meet them."""

import functools
import json
import math

import jsonschema
import numpy as np
import pytest
from ledger_stacks import facts, stack

from tff_privacy_agg import accounting, cli
from tff_privacy_agg.accounting.budget import Budget
from tff_privacy_agg.errors import BudgetExceededError, ConfigurationError, LedgerError
from tff_privacy_agg.ledger import line_format as ledger_lines
from tff_privacy_agg.ledger.facts import LedgerFacts
from tff_privacy_agg.ledger.reader import LedgerRecord, verify
from tff_privacy_agg.ledger.sampling_claims import Sampling
from tff_privacy_agg.ledger.writer import PrivacyLedger

POPULATION = 2000
CLIENTS = [f'client {number}' for number in range(POPULATION)]
FIXED = Sampling(kind='without_replacement', population=POPULATION, cohort=100)
COINS = Sampling(kind='poisson', population=POPULATION, rate=0.02)


def claimed(sampling, mechanism='discrete_gaussian', *, stack_has=(), **given):
  threshold = 80 if sampling != COINS else 10
  more = {'delta': 1e-5, 'population': POPULATION, 'minimum_clients': threshold, **given}
  return LedgerFacts(stack={**stack(mechanism), **dict(stack_has)}, sampling=sampling, **more)


def hidden(top_up=None):
  """A stack whose release does not tell the count, with its noise topped up."""
  return {'public': [], **({} if top_up is None else {'top_up': top_up})}


def draw(sampling, seed):
  rng = np.random.default_rng(seed)
  if sampling.cohort:
    return [CLIENTS[i] for i in rng.choice(sampling.population, sampling.cohort, replace=False)]
  return [CLIENTS[i] for i in np.flatnonzero(rng.random(sampling.population) < sampling.rate)]


def run(ledger, rounds, *, top_up=None, dropouts=0):
  claim = ledger.facts.sampling
  for number in range(rounds):
    cohort = draw(claim, number)
    charge = ledger.charge(number, cohort=cohort, drawn=claim)
    survivors = len(cohort) - dropouts
    added = 0 if top_up is None else top_up - survivors
    ledger.settle(charge, survivors=survivors, counted_by='runtime', top_up=added)


def sampled_epsilon(curve, rounds, delta=1e-5):
  return accounting.epsilon(curve.scaled(rounds), delta)[0]


@pytest.mark.parametrize('mechanism', ['discrete_gaussian', 'skellam', 'gaussian'])
def test_cohorts_of_fixed_size_gain_in_the_release_view_alone(tmp_path, mechanism):
  path = tmp_path / 'l.jsonl'
  with PrivacyLedger(path, claimed(FIXED, mechanism)) as ledger:
    run(ledger, 10)
    plain, costs = ledger.facts.price, ledger.state.costs
    base = plain.curve(100, adjacency='replace_one')
    curve = accounting.without_replacement(base, population=POPULATION, cohort=100)
    assert ledger.epsilon('release') == pytest.approx(sampled_epsilon(curve, 10))
    assert ledger.spent('release').adjacency == 'replace_one'
    server = math.inf
    if mechanism != 'gaussian':
      server = costs.account.epsilon(10 * costs.row(100), 1e-5, 0.0)[0]
    assert ledger.epsilon('server') == pytest.approx(server)
    assert ledger.spent('server').adjacency == 'zero_out'
    assert ledger.epsilon('release') < 0.6 * min(server, sampled_epsilon(plain.curve(100), 10))
  assert verify(path).ok
  for line in path.read_bytes().splitlines():
    jsonschema.validate(json.loads(line), ledger_lines.schema())


def test_the_poisson_bound_is_not_used_for_cohorts_of_fixed_size(tmp_path):
  with PrivacyLedger(tmp_path / 'l.jsonl', claimed(FIXED)) as ledger:
    run(ledger, 10)
    price = ledger.facts.price
    poisson = accounting.poisson(
      price.curve(100), 0.05, adjacency='zero_out', total_noise_fixed=True
    )
    assert ledger.epsilon('release') > 1.2 * sampled_epsilon(poisson, 10)
    halved = accounting.without_replacement(
      accounting.gaussian(2 * 2.75, adjacency='replace_one'), population=POPULATION, cohort=100
    )  # the faulty variant: the sensitivity of zero_out
    assert ledger.epsilon('release') > 1.2 * sampled_epsilon(halved, 10)


def test_poisson_gains_where_the_noise_is_topped_up_and_the_count_is_hidden(tmp_path):
  path = tmp_path / 'l.jsonl'
  with PrivacyLedger(path, claimed(COINS, stack_has=hidden(100))) as ledger:
    run(ledger, 10, top_up=100, dropouts=5)
    price = ledger.facts.price
    curve = accounting.poisson_round(price, 100, 0.02)
    general = accounting.poisson(
      price.curve(100), 0.02, adjacency='zero_out', total_noise_fixed=True
    )
    assert ledger.epsilon('release') < 0.8 * sampled_epsilon(general, 10)
    # A little more, as cohorts of more than 100 clients could not run.
    exact = sampled_epsilon(curve, 10)
    assert exact <= ledger.epsilon('release') <= 1.01 * exact
    assert ledger.spent('release').adjacency == 'zero_out'
    assert ledger.epsilon('server') > 3 * ledger.epsilon('release')
  assert verify(path).ok


def test_rounds_that_were_fixed_beforehand_cost_what_their_composed_loss_proves(tmp_path, capsys):
  path = tmp_path / 'l.jsonl'
  with PrivacyLedger(path, claimed(COINS, stack_has=hidden(100))) as ledger:
    assert ledger.fixed_rounds_epsilon() is None
    run(ledger, 10, top_up=100)
    fixed = ledger.fixed_rounds_epsilon()
    distance = ledger.state.distance('release')
    ours = accounting.fixed_rounds_epsilon(ledger.facts.price, {100: 10}, 0.02, 1e-5, distance)
    assert fixed == ours < 0.8 * ledger.epsilon('release')
    assert f'{fixed:.4f}'[:5] in ledger.statement('text')
    assert 'if the number of rounds was fixed before' in ledger.statement('text')
    ledger.charge(10, cohort=draw(COINS, 10), drawn=COINS)
    assert ledger.fixed_rounds_epsilon() is None  # what it will cost is not known
  assert cli.main(['epsilon', str(path)]) == 0
  assert 'fixed before the first' not in capsys.readouterr().out
  with PrivacyLedger(tmp_path / 'fixed.jsonl', claimed(FIXED)) as ledger:
    run(ledger, 2)
    assert ledger.fixed_rounds_epsilon() is None
  with PrivacyLedger(tmp_path / 'settled.jsonl', claimed(COINS, stack_has=hidden(100))) as ledger:
    run(ledger, 2, top_up=100)
  assert cli.main(['epsilon', str(tmp_path / 'settled.jsonl')]) == 0
  assert 'if the number of rounds was fixed before the first' in capsys.readouterr().out


@pytest.mark.parametrize('law', ['gaussian', 'central_discrete_gaussian'])
def test_poisson_of_central_noise_uses_the_bound_of_the_gaussian(tmp_path, law):
  with PrivacyLedger(tmp_path / 'l', claimed(COINS, law, stack_has=hidden())) as ledger:
    run(ledger, 10)
    z = ledger.facts.price.noise_multiplier(1)
    assert z == pytest.approx(2.75, rel=1e-5)
    curve = accounting.poisson(accounting.gaussian(z), 0.02, adjacency='zero_out', tight=True)
    exact = sampled_epsilon(curve, 10) * (1 - 1e-12)
    assert exact <= ledger.epsilon('release') <= 1.01 * exact
    assert ledger.epsilon('server') == math.inf


def test_cohorts_that_cannot_run_take_their_part_of_delta(tmp_path):
  often = Sampling(kind='poisson', population=POPULATION, rate=0.04)  # 80 of at most 100
  ledger = PrivacyLedger(tmp_path / 'l', claimed(often, 'gaussian', stack_has=hidden()))
  with ledger:
    ledger.charge(0, cohort=CLIENTS[:80], drawn=often)
    assert ledger.epsilon('release') == math.inf  # 1.2 % of the rounds are larger
  assert often.distance(100) == pytest.approx(0.0113, rel=0.05)
  assert COINS.distance(100) < 1e-13
  assert Sampling(kind='poisson', population=10, rate=0.5).distance(10) == pytest.approx(2**-10)


@pytest.mark.parametrize(
  ('sampling', 'given', 'named'),
  [
    (COINS, {}, 'top it up'),
    (COINS, {'stack_has': {'top_up': 100}}, 'number of survivors public'),
    (COINS, {'stack_has': {'public': []}}, 'top it up'),
    (COINS, {'mechanism': 'gaussian'}, 'number of survivors public'),
    (COINS, {'mechanism': 'none', 'stack_has': hidden()}, 'no noise'),
    (COINS, {'stack_has': {**hidden(100), 'adjacency': 'replace_one'}}, 'replace_one'),
    (COINS, {'stack_has': {**hidden(100), 'adjacency': 'add_or_remove_one'}}, 'share'),
    (FIXED, {'participation_cap': 4}, 'depend on one another'),
    (FIXED, {'population': 1000}, 'there are 1000'),
    (Sampling(kind='without_replacement', population=2000, cohort=101), {}, 'at most 100'),
    ('poisson', {'participation_cap': 4, 'stack_has': {'top_up': 99}}, 'at least the 100'),
    (None, {'mechanism': 'gaussian', 'stack_has': {'top_up': 100}}, 'with gaussian noise'),
    (0.5, {}, 'must be a Sampling'),
  ],
)
def test_what_is_not_proved_is_refused(sampling, given, named):
  with pytest.raises(ConfigurationError, match=named):
    claimed(Sampling() if sampling is None else sampling, **given)


@pytest.mark.parametrize(
  'wrong',
  [
    {'kind': 'shuffled', 'population': 100, 'cohort': 10},
    {'kind': 'check_in'},
    {'kind': 'lottery'},
    {'kind': 'poisson', 'rate': 0.1},
    {'kind': 'poisson', 'population': 100, 'rate': 1.0},
    {'kind': 'poisson', 'population': 100, 'cohort': 10},
    {'kind': 'without_replacement', 'population': 9, 'cohort': 10},
    {'kind': 'none', 'population': 10},
  ],
)
def test_claims_that_say_nothing_provable_are_refused(wrong):
  with pytest.raises(ConfigurationError):
    Sampling(**wrong)


def test_rounds_that_were_not_drawn_as_claimed_are_not_charged(tmp_path):
  path = tmp_path / 'l.jsonl'
  with PrivacyLedger(path, claimed(FIXED)) as ledger:
    before = path.read_bytes()
    cohort = draw(FIXED, 1)
    with pytest.raises(ConfigurationError, match='without its cohort'):
      ledger.charge(1)
    fewer = Sampling(kind='without_replacement', population=1900, cohort=100)
    for drawn in (None, Sampling(text='by the day of the week'), COINS, fewer):
      with pytest.raises(LedgerError, match='claims that cohorts are drawn so'):
        ledger.charge(1, cohort=cohort, drawn=drawn)
    with pytest.raises(LedgerError, match='has 99'):
      ledger.charge(1, cohort=cohort[1:], drawn=FIXED)
    assert path.read_bytes() == before
    ledger.charge(1, cohort=cohort, drawn=FIXED)


def test_a_ledger_without_a_claim_takes_note_of_what_samplers_do(tmp_path):
  with PrivacyLedger(tmp_path / 'l.jsonl', facts(sampling='as they come')) as ledger:
    ledger.settle(
      ledger.charge(1, drawn=Sampling(text='as they come')), survivors=100, counted_by='runtime'
    )
    ledger.settle(
      ledger.charge(2, cohort=CLIENTS[:100], drawn=FIXED), survivors=100, counted_by='runtime'
    )
    assert ledger.epsilon('release') == ledger.epsilon('server')
    assert ledger.state.drawn == 2
    text = ledger.statement()
  assert 'claimed: none; , actual: as they come' not in text
  assert 'claimed: none' in text


def test_drop_outs_break_a_claim_that_counts_on_everyone(tmp_path):
  path = tmp_path / 'l.jsonl'
  with PrivacyLedger(path, claimed(FIXED)) as ledger:
    run(ledger, 5)
    gained = ledger.epsilon('release')
    open_round = ledger.charge(5, cohort=draw(FIXED, 5), drawn=FIXED)
    # What is not known to be drawn as claimed is not counted as such.
    assert ledger.epsilon('release') > 1.5 * gained
    with pytest.raises(LedgerError, match='the claim is dropped for all rounds'):
      ledger.settle(open_round, survivors=99, counted_by='runtime')
    assert ledger.spent('release').adjacency == 'zero_out'
    assert ledger.epsilon('release') >= ledger.epsilon('server')
    ledger.settle(ledger.charge(6), survivors=100, counted_by='runtime')
    spent = ledger.epsilon('release')
  record = LedgerRecord.read(path)
  assert record.epsilon('release') == spent
  assert 'BROKEN' in record.statement()
  assert verify(path).ok


def test_a_top_up_counts_in_the_release_view_alone(tmp_path):
  path = tmp_path / 'l.jsonl'
  given_facts = claimed(Sampling(), stack_has={'top_up': 120})
  with PrivacyLedger(path, given_facts) as ledger:
    charge = ledger.charge(0)
    worst = ledger.epsilon('release')
    assert worst < ledger.epsilon('server')
    ledger.settle(charge, survivors=85, counted_by='runtime', top_up=35)
    costs = ledger.state.costs
    for view, shares in (('server', 85), ('release', 120)):
      expected = costs.account.epsilon(costs.row(shares), 1e-5, 0.0)[0]
      assert ledger.epsilon(view) == pytest.approx(expected)
    assert ledger.epsilon('release') <= worst
    with pytest.raises(LedgerError, match='topped up to 120 shares'):
      ledger.settle(ledger.charge(1), survivors=85, counted_by='runtime', top_up=20)
    total = costs.row(120) + costs.row(105)
    expected = costs.account.epsilon(total, 1e-5, 0.0)[0]
    assert ledger.epsilon('release') == pytest.approx(expected)
  assert verify(path).ok
  plain = PrivacyLedger(tmp_path / 'plain', facts())
  with plain, pytest.raises(ConfigurationError, match='know of no top-up'):
    plain.settle(plain.charge(1), survivors=90, counted_by='runtime', top_up=10)


def test_a_budget_in_the_release_view_lasts_longer_with_a_claim(tmp_path):
  """The budget must hold a round that never settles, which costs as much as without the claim."""
  budget = Budget(epsilon=12.0, delta=1e-5, view='release')
  ran = []
  for sampling in (Sampling(), FIXED):
    path = tmp_path / f'{sampling.kind}.jsonl'
    with PrivacyLedger(path, claimed(sampling), budget=budget) as ledger:
      for number in range(200):
        try:
          charge = ledger.charge(number, cohort=draw(FIXED, number), drawn=FIXED)
        except BudgetExceededError:
          break
        ledger.settle(charge, survivors=100, counted_by='runtime')
      ran.append(ledger.spent('release').rounds)
      assert ledger.epsilon('release') <= 12.0
  assert ran[1] > 2 * ran[0] > 0


def test_what_the_register_has_seen_is_compared_with_the_claim(tmp_path):
  with PrivacyLedger(tmp_path / 'l.jsonl', claimed(FIXED)) as ledger:
    again = functools.partial(ledger.charge, cohort=CLIENTS[:100], drawn=FIXED)
    with pytest.raises(LedgerError, match='anew and independently'):
      [again(number) for number in range(12)]
    rounds = ledger.spent('server').rounds
    assert rounds < 12
  restarted = PrivacyLedger(tmp_path / 'l.jsonl')
  with restarted, pytest.raises(LedgerError, match='anew and independently'):
    restarted.charge(rounds, cohort=CLIENTS[:100], drawn=FIXED)


def test_a_foreign_sum_promises_nothing_against_the_server(tmp_path):
  foreign = claimed(Sampling(), stack_has={'holds_against_server': False})
  with PrivacyLedger(tmp_path / 'l.jsonl', foreign) as ledger:
    ledger.settle(ledger.charge(1), survivors=100, counted_by='runtime')
    assert ledger.epsilon('server') == math.inf
    assert 0 < ledger.epsilon('release') < math.inf
    assert 'nothing is promised in the server view' in ledger.statement()


def test_the_card_says_what_is_claimed_and_by_which_bound(tmp_path):
  with PrivacyLedger(tmp_path / 'l.jsonl', claimed(FIXED)) as ledger:
    run(ledger, 3)
    card = json.loads(ledger.statement('json'))
    text = ' '.join(ledger.statement().split())
  fields = {field['name']: field for field in card['fields']}
  assert 'arXiv:1808.00087' in fields['sampling']['origin']
  assert '100 of 2000 clients' in fields['sampling']['text']
  assert 'all 3 charged rounds' in fields['sampling']['text']
  assert 'no amplification' in fields['epsilon_server']['text']
  assert 'no amplification' not in fields['epsilon_release']['text']
  assert 'zero_out in the server view, replace_one in the release view' in text
  assert any('drawn anew and independently' in one for one in card['assumptions'])
  with PrivacyLedger(tmp_path / 'm', claimed(COINS, stack_has=hidden(100))) as ledger:
    run(ledger, 2, top_up=100)
    text = ' '.join(ledger.statement().split())
  assert 'tops its noise up to 100 shares' in text
  assert 'Theorem 5' in text
