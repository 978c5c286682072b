"""A ledger as events of dp_accounting: all rounds, all channels, or a refusal that names why."""

import dataclasses
import math

import dp_accounting
import pytest
from ledger_stacks import facts, stack

from tff_privacy_agg.accounting import as_numbers
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.ledger import LedgerRecord, PrivacyLedger


def mu_squared(event):
  """The total of Gaussian events: 1/z^2 each."""
  if isinstance(event, dp_accounting.GaussianDpEvent):
    return event.noise_multiplier**-2
  if isinstance(event, dp_accounting.SelfComposedDpEvent):
    return event.count * mu_squared(event.event)
  return sum(map(mu_squared, event.events))


@pytest.fixture
def ledger(tmp_path):
  """Rounds of 100, 90 and 85 survivors, and one that is open."""
  with PrivacyLedger(tmp_path / 'ledger.jsonl', facts()) as ledger:
    for survivors in (100, 90, 90, 85):
      ledger.settle(ledger.charge(survivors), survivors=survivors, counted_by='runtime')
    ledger.charge(7)
    yield ledger


def test_the_events_hold_all_rounds_and_channels(ledger):
  found = ledger.dp_events()
  design = facts().stack['integer_design']
  vector = math.floor(design['l2_bound'] ** 2)

  def round_of(survivors):  # t^2 changes the seventh digit of a total at most
    channels = 2 * 64**2 / (survivors * 4956.1875)
    return vector / (survivors * design['local_variance']) + channels

  expected = sum(map(round_of, (100, 90, 90, 85, 80)))
  assert mu_squared(found.event) == pytest.approx(expected, rel=1e-3)
  assert mu_squared(found.event) >= expected
  # In proportion to the shares in a sum; the open round may have had all 100.
  assert found.distance == pytest.approx((100 + 90 + 90 + 85 + 100) * 7e-23, rel=1e-9, abs=0.0)


def test_another_accountant_finds_the_epsilon_of_the_ledger(ledger):
  found, epsilon = ledger.dp_events(), ledger.epsilon('server')
  left = (facts().delta - (1 + math.exp(epsilon)) * found.distance) * math.exp(-found.c1)
  theirs = dp_accounting.pld.PLDAccountant().compose(found.event).get_epsilon(left)
  assert epsilon == pytest.approx(theirs + found.c1 + found.c2, rel=1e-3)


def test_a_charge_that_was_cut_off_is_among_the_events(tmp_path):
  path, least = tmp_path / 'ledger.jsonl', dataclasses.replace(facts(), stack=stack(z=2.0))
  with PrivacyLedger(path, facts()) as ledger:
    for number, own in enumerate((None, least)):
      ledger.settle(ledger.charge(number, facts=own), survivors=100, counted_by='runtime')
    before = mu_squared(ledger.dp_events().event)
    ledger.charge(2)
  path.write_bytes(path.read_bytes()[:-20])
  record = LedgerRecord.read(path)
  assert record.state.rounds == 3
  # It counts as the dearest kind known then, at its worst.
  added = mu_squared(record.dp_events().event) - before
  multiplier = least.price.noise_multiplier(least.honest(least.minimum_clients))
  assert added == pytest.approx(multiplier**-2, rel=1e-3)
  mu = as_numbers(record.state.cost('server'))[0]
  assert mu_squared(record.dp_events().event) == pytest.approx(mu**2, rel=1e-9)


@pytest.mark.parametrize(
  ('law', 'view', 'named'),
  [
    ('skellam', 'server', 'skellam'),
    ('gaussian', 'server', 'gaussian'),
    ('none', 'server', 'none'),
  ],
)
def test_what_is_no_gaussian_mechanism_is_refused_by_name(tmp_path, law, view, named):
  with PrivacyLedger(tmp_path / 'ledger.jsonl', facts(law)) as ledger:
    ledger.charge(1)
    with pytest.raises(ConfigurationError, match=rf'{view} view \({named} noise\)'):
      ledger.dp_events(view)
