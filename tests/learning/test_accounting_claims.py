"""`Accounting` refuses at once what no ledger could claim, before a process is built."""

import pytest

import tff_privacy_agg as tpa
from tff_privacy_agg.errors import ConfigurationError


@pytest.mark.parametrize(
  ('given', 'sentence'),
  [
    ({'delta': 0.01}, '`delta` must be below 1/population = 0.01, got 0.01'),
    ({'delta': 0}, '`delta` must lie strictly between 0 and 1'),
    ({'delta': '1e-5'}, "`delta` must be a number, got '1e-5'"),
    ({'budget': tpa.Budget(epsilon=1.0, delta=0.5)}, '`budget.delta` must be below 1/population'),
    ({'minimum_clients': 0}, '`minimum_clients` must be at least 1'),
    ({'minimum_clients': 2.5}, '`minimum_clients` must be an integer'),
    ({'participation_cap': True}, '`participation_cap` must be an integer'),
    ({'tuning_runs': -1}, '`tuning_runs` must be at least 0'),
    ({'sampling': 7}, '`sampling` must be a Sampling or words'),
    ({'task': 7}, '`task`'),
    ({'task': 'an anonymous model'}, '`task` is printed in reports'),
  ],
)
def test_a_claim_out_of_range_is_refused_at_construction(given, sentence):
  with pytest.raises(ConfigurationError, match=sentence):
    tpa.Accounting(population=100, **given)


def test_what_a_ledger_can_claim_is_taken():
  budget = tpa.Budget(epsilon=1.0, delta=1e-5)
  made = tpa.Accounting(population=100, delta=1e-3, budget=budget, participation_cap=3, task='a')
  assert (made.delta, made.budget, made.sampling) == (1e-3, budget, '')
