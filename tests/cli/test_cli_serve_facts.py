"""`serve` keeps a ledger only of what it runs: the process's facts, the sessions' thresholds."""

import dataclasses
import math
import types

import pytest

from tff_privacy_agg import accounting
from tff_privacy_agg.cli.serve import _check_facts, _Training
from tff_privacy_agg.errors import ConfigurationError, LedgerError
from tff_privacy_agg.ledger import LedgerFacts, PrivacyLedger

SESSION = {'minimum_clients': 8, 'maximum_clients': 10, 'colluding_fraction': 0.1}


def facts_of(*, z=2.0, threshold=8, colluding=0.125):
  honest = accounting.honest_survivors(10, colluding)
  design = accounting.solve(
    noise_multiplier=z,
    cohort_maximum=10,
    minimum_honest=honest,
    bits=18,
    dimension=64,
    mechanism='discrete_gaussian',
  )
  stack = {
    'mechanism': 'discrete_gaussian',
    'adjacency': 'zero_out',
    'holds_against_server': True,
    'noise_multiplier': z,
    'cohort': {
      'expected': 10,
      'maximum': 10,
      'minimum': honest,
      'colluding_fraction': colluding,
    },
    'integer_design': dataclasses.asdict(design),
    'channels': [],
    'public': ['number of survivors'],
    'sampler_distance_per_round': 0.0,
    'layers': ['Clipping()'],
  }
  return LedgerFacts(stack=stack, delta=1e-3, population=100, secagg_threshold=threshold)


def test_facts_that_fit_are_taken():
  facts = facts_of()
  _check_facts(facts, types.SimpleNamespace(facts=facts), SESSION, 10)
  _check_facts(facts_of(threshold=None), object(), SESSION, 10)  # a process of TFF's own


@pytest.mark.parametrize(
  ('facts', 'process', 'sentence'),
  [
    ({'z': 2.0}, {'z': 1.0}, 'its facts differ .* in .*stack.noise_multiplier'),
    ({'threshold': 9}, None, 'at least 9 clients; a session opens those of 8'),
    ({'colluding': 0.0}, None, 'colluding fraction of 0.1; .* for 0'),
    # The colluder is one of ten clients; two others drop out, and a tenth of eight is none.
    ({'colluding': 0.1}, None, '1 of 10 clients .* sum of 8 .* counts 8 honest ones.* 0.125'),
  ],
  ids=['process', 'threshold', 'colluding', 'colluding survivors'],
)
def test_facts_that_do_not_hold_are_refused(facts, process, sentence):
  runs = object() if process is None else types.SimpleNamespace(facts=facts_of(**process))
  with pytest.raises(ConfigurationError, match=sentence):
    _check_facts(facts_of(**facts), runs, SESSION, 10)


def test_sessions_of_more_clients_than_the_stack_admits_are_refused():
  """Of 20 clients 2 collude, and both may be among 10 survivors; more than 10 may not settle."""
  session = {**SESSION, 'maximum_clients': 20}
  _check_facts(facts_of(), object(), session, 10)
  with pytest.raises(ConfigurationError, match=r'up to 20 clients; .* at most 10'):
    _check_facts(facts_of(), object(), session, 20)


@pytest.mark.parametrize('fraction', [0.05, 0.1, 0.25, 1 / 3, 0.5])
@pytest.mark.parametrize('fewest', [3, 5, 8, 10])
def test_whatever_is_taken_counts_no_colluder_as_honest(fraction, fewest):
  """Colluders do not drop out: all of them may be among the fewest survivors."""
  session = {**SESSION, 'minimum_clients': fewest, 'colluding_fraction': fraction}
  colluders = math.floor(fraction * 10 + 1e-9)
  taken = 0
  for colluding in (0.0, 0.1, 0.2, 0.34, 0.5, 0.65, 0.9):
    facts = facts_of(threshold=None, colluding=colluding)
    try:
      _check_facts(facts, object(), session, 10)
    except ConfigurationError:
      continue
    taken += 1
    for survivors in range(fewest, 11):
      assert facts.honest(survivors) <= max(survivors - colluders, 1)
  assert taken


@pytest.mark.parametrize(('honest', 'scale'), [(9, 1.0), (9, 0.5), (8, 1.0)], ids=str)
def test_a_round_settles_with_the_noise_that_the_ledger_counts(tmp_path, honest, scale):
  """A process of TFF's own has no facts to compare; its metrics say what noise a round had."""
  with PrivacyLedger(tmp_path / 'ledger.jsonl', facts_of()) as ledger:
    multiplier = scale * ledger.state.costs.noise_multiplier(honest)
    private = {'survivors': 10, 'honest': honest, 'accepted': True, 'noise_multiplier': multiplier}
    output = types.SimpleNamespace(state='new', metrics={'aggregator': {'privacy': private}})
    remote = types.SimpleNamespace(
      gather=lambda: frozenset(range(10)), next=lambda state, cohort: (output, tuple(range(10)))
    )
    given = {
      'remote': remote,
      'ledger': ledger,
      'names': {one: f'client {one}' for one in range(10)},
    }
    fields = [field.name for field in dataclasses.fields(_Training)]
    training = _Training(**{name: given.get(name) for name in fields})
    if scale < 1:
      with pytest.raises(LedgerError, match='noise multiplier'):
        training._round(1, 'old')
      assert ledger.state.unsettled == 1
    else:
      assert training._round(1, 'old')[0] == 'new'
      assert [one.honest for one in ledger.state.settled] == [honest]
