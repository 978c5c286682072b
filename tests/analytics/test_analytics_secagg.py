"""Every statistic over real secure aggregation, with drop-outs, and with clients that lie."""

import dataclasses
import math

import numpy as np
import pytest
from recording import recording_context

from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.analytics import Count, Histogram, Mean, Quantiles, Sum, private_statistic
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.ledger import PrivacyLedger
from tff_privacy_agg.runtime import SecAggContext, executors, use

pytestmark = pytest.mark.integration

CLIENTS, GONE = 8, 3
SURVIVORS = [client for client in range(CLIENTS) if client != GONE]
NUMBERS = [float(client) for client in range(CLIENTS)]
COLOURS = Histogram(categories=('red', 'green', 'blue'), contributions=2)
# The query, what the clients hold, and the answer of the survivors.
CASES = {
  'count': (Count(), [number > 3 for number in NUMBERS], 4),
  'sum': (Sum(maximum=5.0), NUMBERS, 0 + 1 + 2 + 4 + 5 + 5 + 5),
  'mean': (Mean(lower=0.0, upper=7.0), NUMBERS, 25 / 7),
  'counts': (COLOURS, [np.array([True, client == 1, False]) for client in range(8)], [7, 1, 0]),
  'quantiles': (Quantiles(probabilities=(0.5,), lower=0.0, upper=8.0, levels=3), NUMBERS, [4.5]),
}
each_case = pytest.mark.parametrize('name', CASES)


@pytest.fixture(scope='module')
def context():
  made = recording_context({GONE: 2}, minimum_clients=CLIENTS - 2)
  yield made
  made.close()


def asked(name, z):
  cohort = Cohort(expected=CLIENTS, minimum=CLIENTS - 2)
  return private_statistic(CASES[name][0], cohort, noise_multiplier=z)


@each_case
def test_the_answer_is_bit_for_bit_that_of_the_survivors_messages(context, simulation, name):
  """Noise is fresh in each round, so the same messages are summed in the clear next to it."""
  statistic = asked(name, 1.0)
  with use(context):
    found = statistic.answer(CASES[name][1])
  form = context.compile(statistic.next)
  messages = [context._executor.results[client] for client in SURVIVORS]
  sums = {
    leaf.name: sum(one[leaf.name].astype(np.int64) for one in messages) % 2**leaf.bits
    for leaf in form.leaves
  }
  clear = form.result(form.update(statistic.initialize(), form.join(sums, [])))[1]
  assert list(clear) == list(found)
  for key, value in clear.items():
    if key == 'uncut':
      assert {*value} == {*found[key]}
      value, found[key] = list(value.values()), list(found[key].values())
    np.testing.assert_array_equal(found[key], value)
  assert found['survivors'] == len(SURVIVORS)


@each_case
def test_with_little_noise_it_is_the_survivors_statistic(context, name):
  _, values, truth = CASES[name]
  statistic = asked(name, 1e-3)
  with use(context):
    found = statistic.answer(values)
  np.testing.assert_allclose(found[name], truth, atol=0.55 if name == 'quantiles' else 0.05)
  intervals = statistic.intervals(found, 1 - 1e-9)[name]
  assert np.all(intervals[..., 0] <= np.asarray(truth) + 0.51 * (name == 'quantiles'))
  assert np.all(np.asarray(truth) <= intervals[..., 1] + 1e-12)


def test_questions_over_the_protocol_settle_for_those_who_survived(context, tmp_path):
  count, mean = asked('count', 2.0), asked('mean', 3.0)
  facts = count.facts(population=CLIENTS, delta=1e-3, minimum_clients=CLIENTS - 2)
  with use(context), PrivacyLedger(tmp_path / 'ledger.jsonl', facts) as ledger:
    for name, statistic in (('count', count), ('mean', mean)):
      charge = ledger.state.rounds
      found = statistic.answer(CASES[name][1], ledger=ledger)
      assert found['survivors'] == ledger.state.settled[charge].survivors == len(SURVIVORS)
    account = count.binding.account
    cost = sum(account.row(one.binding.price, len(SURVIVORS)) for one in (count, mean))
    expected, _ = account.epsilon(cost, 1e-3, 0.0)
    assert ledger.epsilon('server') == pytest.approx(expected, rel=1e-6)
    all_of_them = sum(account.row(one.binding.price, CLIENTS) for one in (count, mean))
    assert ledger.epsilon('server') > 1.03 * account.epsilon(all_of_them, 1e-3, 0.0)[0]


@pytest.mark.parametrize('lacking', ['minimum_clients', 'colluding_fraction'])
def test_a_session_that_does_not_keep_what_the_ledger_counts_on_gets_no_charge(tmp_path, lacking):
  """Else a sum of three shows what was charged as one of six, whoever counts them."""
  path, count = tmp_path / 'ledger.jsonl', asked('count', 2.0)
  session = {'minimum_clients': CLIENTS - 2, 'colluding_fraction': 0.0, 'dropout_fraction': 0.2}
  session |= {'minimum_clients': 3} if lacking == 'minimum_clients' else {lacking: 0.3}
  facts = count.facts(population=CLIENTS, delta=1e-3, minimum_clients=CLIENTS - 2)
  with use(SecAggContext(**session)), PrivacyLedger(path, facts) as ledger:
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match=lacking):
      count.answer(CASES['count'][1], ledger=ledger)
    assert path.read_bytes() == before


@pytest.mark.parametrize('lie', [1e300, -1e300, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('name', ['sum', 'mean', 'quantiles'])
def test_a_lie_about_a_number_moves_no_answer_further_than_stated(context, name, lie):
  """Client 5 says something else; against its being absent: docs/analytics.md."""
  query, values, _ = CASES[name]
  statistic = asked(name, 1e-3)
  with use(context):
    honest = statistic.answer(values)
    found = statistic.answer([*values[:5], lie, *values[6:]])
  if name == 'quantiles':
    moved = np.abs(found['ranks'] - honest['ranks']).max()
    assert moved <= 1 + 0.05
  else:
    most = {'sum': 2 * query.maximum if name == 'sum' else 0, 'mean': 7.0 / len(SURVIVORS)}[name]
    assert abs(found[name] - honest[name]) <= most + 0.05
    assert math.isfinite(found[name])


def test_a_lie_in_every_category_is_cut_to_the_contributions(context):
  _, values, _ = CASES['counts']
  statistic = asked('counts', 1e-3)
  with use(context):
    honest = statistic.answer([*values[:5], np.zeros(3, bool), *values[6:]])
    found = statistic.answer([*values[:5], np.ones(3, bool), *values[6:]])
  moved = np.asarray(found['counts']) - honest['counts']
  np.testing.assert_allclose(np.linalg.norm(moved), math.sqrt(2), atol=0.05)


def test_a_client_that_sends_any_residue_is_not_held_to_a_bound(context, simulation, monkeypatch):
  """What the documents say is not defended: nobody but the client sees its vector."""
  statistic = dataclasses.replace(asked('count', 1e-3), bits=40)  # room for a lie of 1000
  form, design = context.compile(statistic.next), statistic.binding.design
  honestly, forged = form.split, []

  def split(result):
    found = honestly(result)
    if not forged:
      moved = found.inputs['modular/0/vector'] + round(1000 * design.scaled_norm)
      forged.append(moved % design.modulus)
      return dataclasses.replace(found, inputs={**found.inputs, 'modular/0/vector': forged[0]})
    return found

  monkeypatch.setattr(context, '_executor', executors.LocalExecutor(context._inner))
  monkeypatch.setattr(form, 'split', split)
  with use(context):
    found = statistic.answer(CASES['count'][1])
  assert found['uncut']['count'] == pytest.approx(1004, abs=0.1)
  assert found['count'] == len(SURVIVORS)  # the most that can be true
