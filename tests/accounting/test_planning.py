"""Plans keep their target, by an account that is not the planner's own search."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from tff_privacy_agg import accounting, cli
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.ledger import LedgerFacts, PrivacyLedger, Sampling
from tff_privacy_agg.ledger.costs.rounds import price_of

BASE = {
  'target_epsilon': 8.0,
  'target_delta': 1e-6,
  'rounds': 100,
  'clients_per_round': 100,
  'population': 10_000,
  'dimension': 100_352,
}


def _replayed_epsilons(plan, *, clients, dimension, mechanism, exposures, delta):
  """Bounds, from below and above, on epsilon of what a stack with the planned numbers does."""
  honest = plan.minimum_honest
  stddev = accounting.default_channel_stddev(plan.noise_multiplier, clients, honest)
  steps = accounting.channel_resolution(64, stddev, clients)
  share = accounting.channel_share_variance(steps, stddev, clients)
  bit = math.sqrt(honest * share) / steps
  design = accounting.solve(
    noise_multiplier=accounting.split_noise_multiplier(plan.noise_multiplier, [bit, bit]),
    cohort_maximum=clients,
    minimum_honest=honest,
    bits=plan.bits,
    dimension=dimension,
    mechanism=mechanism,
  )
  if plan.price.has_mu:

    def epsilon(t_squared):
      parts = [(math.floor(design.l2_bound**2), design.local_variance)] + 2 * [(steps**2, share)]
      each = sum(squared / (honest * variance - t_squared) for squared, variance in parts)
      return accounting.gaussian_epsilon(math.sqrt(exposures * each), delta)

    return epsilon(0.0), epsilon(6.0)
  curve = design.curve(honest)
  for _ in range(2):
    curve += accounting.bit_channel(mechanism, steps, share, honest)
  epsilon = accounting.epsilon(curve.scaled(exposures), delta)[0]
  return epsilon, epsilon


@settings(max_examples=10, deadline=None)
@given(
  st.sampled_from(['discrete_gaussian', 'skellam']),
  st.floats(0.5, 20),
  st.integers(1, 500),
  st.integers(20, 1000),
  st.sampled_from([64, 672, 10_240, 1_003_520]),
  st.sampled_from([0.0, 0.1, 0.3]),
)
def test_a_plan_keeps_its_target(mechanism, target, rounds, clients, dimension, dropout):
  # One share of Skellam noise has a deviation of at most 3,500.
  assume(mechanism != 'skellam' or dimension <= 10_240)
  plan = accounting.plan(
    target_epsilon=target,
    target_delta=1e-7,
    rounds=rounds,
    clients_per_round=clients,
    population=100_000,
    dimension=dimension,
    mechanism=mechanism,
    dropout=dropout,
  )
  least, most = _replayed_epsilons(
    plan,
    clients=clients,
    dimension=dimension,
    mechanism=mechanism,
    exposures=rounds,
    delta=1e-7,
  )
  assert 0.97 * target <= plan.epsilon <= target  # no more noise than is needed
  # A budget by Renyi divergence fixes its order and keeps a hundredth of delta for the samplers.
  keeps = 1e-4 if plan.price.has_mu else 0.005
  assert least * (1 - 1e-9) <= plan.epsilon <= most * (1 + keeps)
  assert plan.bytes_per_client == math.ceil(dimension * plan.bits / 8)


def test_one_bit_fewer_is_not_worthwhile():
  plan = accounting.plan(**BASE)
  fewer = accounting.plan(**BASE, bits=plan.bits - 1)
  assert plan.error_over_central < 1.0112 < fewer.error_over_central
  assert plan.view == 'server'


def test_noise_grows_with_what_weakens_the_guarantee():
  def noise(**changes):
    return accounting.plan(**{**BASE, **changes}).noise_multiplier

  base = noise()
  assert noise(rounds=200) > base
  assert noise(target_epsilon=4.0) > base
  assert noise(target_delta=1e-8) > base
  # The multiplier is the effective one: fewer honest clients cost error, not multiplier.
  assert noise(colluding_fraction=0.2) == pytest.approx(base, rel=1e-2)
  assert accounting.plan(**BASE, colluding_fraction=0.2).minimum_honest == 80


@pytest.mark.parametrize(
  ('clients', 'bits', 'dimension', 'target', 'rounds'),
  [(5, 5, 2, 40.42, 41), (6, 6, 2, 35.95, 10), (5, 5, 8, 28.40, 10)],
)
def test_a_budget_of_renyi_divergences_admits_the_planned_rounds(
  clients, bits, dimension, target, rounds
):
  """The order that is best for rounds at their worst is not the one that is best for these."""
  plan = accounting.plan(
    target_epsilon=target,
    target_delta=1e-6,
    rounds=rounds,
    clients_per_round=clients,
    population=10_000,
    dimension=dimension,
    mechanism='skellam',
    bits=bits,
    worst_honest=1,
  )
  account = accounting.account_of(plan.price)
  cost, worst = account.row(plan.price, plan.minimum_honest), account.worst(plan.price, 1)
  limit = plan.budget.fix(account, worst, account.row(plan.price, clients), 0.0)
  assert limit.admits((rounds - 1) * cost + worst, 0.0)
  assert plan.epsilon <= target


def test_a_width_at_which_clients_could_send_zeros_only_is_refused():
  with pytest.raises(ConfigurationError, match='Set `bits` to 6 or more'):
    accounting.plan(
      target_epsilon=12.83,
      target_delta=1e-6,
      rounds=100,
      clients_per_round=5,
      population=10_000,
      dimension=1,
      mechanism='skellam',
      bits=5,
      worst_honest=1,
      adaptive_bits=0,
    )


def test_a_participation_cap_counts_the_clients_own_rounds():
  capped = accounting.plan(**BASE, participation_cap=10)
  assert capped.noise_multiplier == pytest.approx(
    accounting.plan(**{**BASE, 'rounds': 10}).noise_multiplier
  )
  assert capped.view == 'server'


def test_sampling_helps_in_the_release_view_only():
  sampled = accounting.plan(**BASE, sampling='poisson')
  assert sampled.view == 'release'
  assert sampled.noise_multiplier < accounting.plan(**BASE).noise_multiplier
  # That of exactly these rounds, by the one function; a budget also bounds adaptive stops.
  rate, rounds = BASE['clients_per_round'] / BASE['population'], BASE['rounds']
  counts = {sampled.minimum_honest: rounds}
  fixed = accounting.fixed_rounds_epsilon(sampled.price, counts, rate, sampled.delta, 0.0)
  assert fixed == pytest.approx(sampled.epsilon, rel=1e-4)
  assert fixed <= sampled.epsilon <= BASE['target_epsilon'] < sampled.budget_epsilon
  curve = accounting.poisson_round(sampled.price, sampled.minimum_honest, rate).scaled(rounds)
  assert sampled.budget.epsilon >= accounting.epsilon(curve, sampled.delta)[0]


@pytest.mark.parametrize('mechanism', ['discrete_gaussian', 'skellam'])
def test_a_plan_for_cohorts_of_fixed_size_is_what_a_ledger_charges(tmp_path, mechanism):
  """The ledger's own account of rounds that are drawn so, not the planner's search."""
  clients, population, rounds = 40, 2000, 6
  plan = accounting.plan(
    target_epsilon=2.0,
    target_delta=1e-5,
    rounds=rounds,
    clients_per_round=clients,
    population=population,
    dimension=672,
    mechanism=mechanism,
    sampling='without_replacement',
  )
  assert (plan.view, plan.adjacency) == ('release', 'replace_one')
  claim = Sampling(kind='without_replacement', population=population, cohort=clients)
  stack = _planned_stack(plan, clients=clients, dimension=672, mechanism=mechanism)
  facts = LedgerFacts(
    stack=stack, delta=1e-5, population=population, minimum_clients=clients, sampling=claim
  )
  rng = np.random.default_rng(0)
  with PrivacyLedger(tmp_path / 'ledger.jsonl', facts) as ledger:
    for number in range(rounds):
      cohort = [f'client {one}' for one in rng.choice(population, clients, replace=False)]
      ledger.settle(
        ledger.charge(number, cohort=cohort, drawn=claim), survivors=clients, counted_by='runtime'
      )
    # A plan keeps a hundredth of delta for the samplers.
    assert ledger.epsilon('release', 0.99e-5) == pytest.approx(plan.epsilon)
    assert ledger.epsilon('release') <= plan.epsilon
    assert 0.97 * 2.0 <= plan.epsilon <= 2.0
    assert ledger.spent('release').adjacency == 'replace_one'
    assert ledger.epsilon('server') > 2.0


def _planned_stack(plan, *, clients, dimension, mechanism):
  """Facts of a stack with the planned numbers."""
  honest = plan.minimum_honest
  stddev = accounting.default_channel_stddev(plan.noise_multiplier, clients, honest)
  share = accounting.channel_share_variance(64, stddev, clients)
  bit = math.sqrt(honest * share) / 64
  design = accounting.solve(
    noise_multiplier=accounting.split_noise_multiplier(plan.noise_multiplier, [bit, bit]),
    cohort_maximum=clients,
    minimum_honest=honest,
    bits=plan.bits,
    dimension=dimension,
    mechanism=mechanism,
  )
  channel = {'resolution': 64, 'local_variance': share, 'central_stddev': 0.0}
  cohort = {'expected': clients, 'maximum': clients, 'minimum': honest, 'colluding_fraction': 0.0}
  stack = {
    'mechanism': mechanism,
    'adjacency': 'zero_out',
    'holds_against_server': True,
    'cohort': cohort,
    'integer_design': dataclasses.asdict(design),
    'channels': [
      {'layer': 'zeroing', 'name': 'above', **channel},
      {'layer': 'clipping', 'name': 'below', **channel},
    ],
    'public': ['number of survivors'],
    'sampler_distance_per_round': 0.0,
    'layers': ['Mean()', 'Clipping()'],
  }
  return {**stack, 'noise_multiplier': price_of(stack).noise_multiplier(honest)}


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'sampling': 'without_replacement', 'dropout': 0.1}, 'is proved where nobody drops out'),
    ({'target_delta': 1e-4}, 'at most a tenth of one over the population'),
    ({'sampling': 'poisson', 'participation_cap': 3}, 'asks for a secret one'),
    ({'sampling': 'shuffled'}, "`sampling` must be one of 'none', 'poisson'"),
    ({'dropout': 1.0}, 'at least 0 and below 1'),
    ({'dropout': 0.995}, 'leaves no honest survivor'),
    ({'clients_per_round': 20_000}, '`population` must be at least 20000'),
    ({'bits': 4}, r'4 bits .* an epsilon of 8 needs over 100 rounds, .* Set `bits` to \d+ or more'),
    ({'target_epsilon': math.nan}, '`target_epsilon` must be finite and positive'),
  ],
)
def test_bad_plans_are_refused(changes, message):
  with pytest.raises(ConfigurationError, match=message):
    accounting.plan(**{**BASE, **changes})


def test_the_command_prints_a_table_and_json(capsys):
  arguments = ['plan', '--target-epsilon', '9', '--rounds', '30', '--clients-per-round', '100']
  arguments += ['--population', '200', '--parameters', '650']
  assert cli.main(arguments) == 0
  table = capsys.readouterr().out
  assert 'noise_multiplier' in table
  assert '- Noise multiplier' in table
  assert cli.main([*arguments, '--json']) == 0
  plan = json.loads(capsys.readouterr().out)
  assert plan['epsilon'] <= 9
  assert plan['delta'] == pytest.approx(0.1 / 200)
