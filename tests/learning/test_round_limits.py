"""A ledger counts on no more than the secure sums keep: thresholds, colluders, noise."""

import dataclasses
import math
import types

import pytest
import small_facts

from tff_privacy_agg import accounting
from tff_privacy_agg.errors import ConfigurationError, LedgerError
from tff_privacy_agg.learning.preparation.session_limits import SessionLimits, check_limits
from tff_privacy_agg.learning.private_process import check_facts
from tff_privacy_agg.learning.rounds.source import round_result
from tff_privacy_agg.learning.training_loop import TrainingLoop
from tff_privacy_agg.ledger import PrivacyLedger

SESSION = SessionLimits(minimum_clients=8, maximum_clients=10, colluding_fraction=0.1)


def facts_of(*, z=2.0, threshold=8, colluding=0.125):
  honest = accounting.honest_survivors(10, colluding)
  return small_facts.facts_of(
    clients=10, minimum=honest, threshold=threshold, z=z, colluding=colluding
  )


def test_facts_that_fit_are_taken():
  facts = facts_of()
  check_facts(facts, facts)
  check_limits(facts, SESSION)
  check_limits(facts_of(threshold=None), SESSION)
  check_limits(facts_of(threshold=9), None)  # a simulation opens what it is given


@pytest.mark.parametrize(
  ('facts', 'sentence'),
  [
    ({'threshold': 9}, r'at least 9 clients .*; a session opens sums of 8'),
    ({'colluding': 0.0}, '1 of 10 clients collude, .* sum of 8 .* counts 8 honest ones'),
    # The colluder is one of ten clients; two others drop out, and a tenth of eight is none.
    ({'colluding': 0.1}, '1 of 10 clients collude, .* sum of 8 .* counts 8 honest ones.* 0.125'),
  ],
  ids=['threshold', 'colluding', 'colluding survivors'],
)
def test_facts_that_do_not_hold_are_refused(facts, sentence):
  with pytest.raises(ConfigurationError, match=sentence):
    check_limits(facts_of(**facts), SESSION)


def test_facts_of_another_process_are_refused():
  with pytest.raises(LedgerError, match=r'these differ: .*stack\.noise_multiplier'):
    check_facts(facts_of(z=1.0), facts_of(z=2.0))


def test_sessions_of_more_clients_than_the_stack_admits_are_refused():
  """Of 20 clients 2 collude, and both may be among 10 survivors; more than 10 may not settle."""
  with pytest.raises(ConfigurationError, match=r'up to 20 clients; .* at most 10'):
    check_limits(facts_of(), dataclasses.replace(SESSION, maximum_clients=20))


@pytest.mark.parametrize('fraction', [0.05, 0.1, 0.25, 1 / 3, 0.5, 1.0])
@pytest.mark.parametrize('fewest', [3, 5, 8, 10])
def test_a_ledger_is_taken_if_and_only_if_it_counts_no_colluder_as_honest(fraction, fewest):
  """Colluders do not drop out: all of them may be among any survivors, the fewest too."""
  limits = SessionLimits(minimum_clients=fewest, maximum_clients=10, colluding_fraction=fraction)
  colluders = math.floor(fraction * 10 + 1e-9)
  taken = 0
  for colluding in (0.0, 0.1, 0.2, 0.34, 0.5, 0.65, 0.9, 0.98):
    facts = facts_of(threshold=None, colluding=colluding)
    holds = all(
      facts.honest(survivors) <= max(survivors - colluders, 1) for survivors in range(fewest, 11)
    )
    if holds:
      check_limits(facts, limits)
      taken += 1
    else:
      with pytest.raises(ConfigurationError, match='collude') as refused:
        check_limits(facts, limits)
      advice = float(str(refused.value).split('colluding_fraction` to ')[1].rstrip('.'))
      check_limits(facts_of(threshold=None, colluding=advice), limits)
  assert taken


class Counted:
  """A `Rounds` of a process of TFF's own: it gives one round's metrics, and counts survivors."""

  client_ids = [f'client {one}' for one in range(10)]  # noqa: RUF012
  sampling, limits, identity = None, SESSION, {}

  def __init__(self, metrics):
    self._metrics = metrics

  def select(self, round_number, eligible=None):
    return self.client_ids

  def run(self, state, cohort):
    return round_result((state + 1, self._metrics), len(cohort))

  def close(self, reason):
    pass


@pytest.mark.parametrize(('honest', 'scale'), [(9, 1.0), (9, 0.5), (8, 1.0)], ids=str)
def test_a_round_settles_with_the_noise_that_the_ledger_counts(tmp_path, honest, scale):
  """A process of TFF's own has no facts to compare; its metrics say what noise a round had."""
  process = types.SimpleNamespace(initialize=lambda: 0)
  with PrivacyLedger(tmp_path / 'ledger.jsonl', facts_of()) as ledger:
    multiplier = scale * ledger.state.costs.noise_multiplier(honest)
    private = {'survivors': 10, 'honest': honest, 'accepted': True, 'noise_multiplier': multiplier}
    source = Counted({'aggregator': {'privacy': private}})
    loop = TrainingLoop(process=process, source=source, rounds=1, ledger=ledger)
    if scale < 1:
      with pytest.raises(LedgerError, match='noise multiplier'):
        loop.run()
      assert ledger.state.unsettled == 1
    else:
      assert loop.run().state == 1
      assert [one.honest for one in ledger.state.settled] == [honest]


def test_a_process_without_an_account_settles_with_the_count_of_the_runtime(tmp_path):
  process = types.SimpleNamespace(initialize=lambda: 0)
  with PrivacyLedger(tmp_path / 'ledger.jsonl', facts_of()) as ledger:
    loop = TrainingLoop(process=process, source=Counted({}), rounds=1, ledger=ledger)
    assert loop.run().metrics['survivors'] == 10
    assert [one.survivors for one in ledger.state.settled] == [10]
