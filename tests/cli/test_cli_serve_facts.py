"""`serve` keeps a ledger only of what it runs: the process's facts, the sessions' thresholds."""

import dataclasses
import types

import pytest

from tff_privacy_agg import accounting
from tff_privacy_agg.cli.serve import _check_facts
from tff_privacy_agg.errors import ConfigurationError

SESSION = {'minimum_clients': 8, 'colluding_fraction': 0.1}


def facts_of(*, z=2.0, threshold=8, colluding=0.1):
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
  return accounting.LedgerFacts(stack=stack, delta=1e-3, population=100, secagg_threshold=threshold)


def test_facts_that_fit_are_taken():
  facts = facts_of()
  _check_facts(facts, types.SimpleNamespace(facts=facts), SESSION)
  _check_facts(facts_of(threshold=None), object(), SESSION)  # a process of TFF's own


@pytest.mark.parametrize(
  ('facts', 'process', 'sentence'),
  [
    ({'z': 2.0}, {'z': 1.0}, 'its facts differ .* in .*stack.noise_multiplier'),
    ({'threshold': 9}, None, 'at least 9 clients; a session opens those of 8'),
    ({'colluding': 0.0}, None, 'colluding fraction of 0.1; .* for 0'),
  ],
  ids=['process', 'threshold', 'colluding'],
)
def test_facts_that_do_not_hold_are_refused(facts, process, sentence):
  runs = object() if process is None else types.SimpleNamespace(facts=facts_of(**process))
  with pytest.raises(ConfigurationError, match=sentence):
    _check_facts(facts_of(**facts), runs, SESSION)
