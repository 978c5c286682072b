"""Settles the rounds of a TFF program in its privacy ledger."""

import math
from collections.abc import Mapping
from typing import Any

from tff_privacy_agg._tff import compat
from tff_privacy_agg.errors import LedgerError
from tff_privacy_agg.learning.flat_metrics import refuse_noise
from tff_privacy_agg.ledger import PrivacyLedger


class PrivacyLedgerReleaseManager(compat.ReleaseManager):
  """A release manager that settles each round from its metrics.

  For `tff.learning.programs.train_model`: pass it (in a `GroupingReleaseManager`) as
  `train_metrics_manager`, with a `CohortDataSource` with the same ledger, which charges
  each round before it runs. A discarded round is never released, and stays charged.

  A round has the clients of its charged cohort, all of whom survive in a simulation. Under
  `SecAggContext`, from which clients drop out, a program does not say which of the protocol's
  rounds its metrics are of: rounds then cost what was charged. `tpa.train` knows the round.

  Args:
    ledger: The ledger of the training.
  """

  def __init__(self, ledger: PrivacyLedger):
    self._ledger = ledger

  async def release(self, value: Any, key: int) -> None:
    """Settles round `key`.

    Args:
      value: The round's metrics, with the measurements of this package's aggregator
        under `aggregator`.
      key: Number of the round.

    Raises:
      LedgerError: If the round was not charged, or its metrics have no account.
      ConfigurationError: If they hold the noise of a state.
    """
    metrics = await compat.materialize_value(value)
    refuse_noise(metrics)
    cohort = self._ledger.state.charged_clients(_open_charge(self._ledger, int(key)))
    settle(self._ledger, int(key), metrics, counted=None if compat.runs_protocol() else cohort)


def account_of(metrics: Any) -> Mapping[str, Any]:
  """The account in a learning process's nested metrics; empty if there is none."""
  aggregator = metrics.get('aggregator') if isinstance(metrics, Mapping) else None
  account = aggregator.get('privacy') if isinstance(aggregator, Mapping) else None
  return account if isinstance(account, Mapping) else {}


def settle(ledger: PrivacyLedger, round_number: int, metrics: Any, *, counted: int | None) -> None:
  """Settles the last charge of a round with what its metrics say.

  Args:
    ledger: The ledger.
    round_number: The round.
    metrics: Its metrics.
    counted: Clients in the sum by the count of the runtime, or the size of the cohort if all
      of it survives; None if only the metrics say it, to which clients add what they like.

  Raises:
    LedgerError: If the round was not charged, its metrics have no account, or the noise
      in them is not that of the ledger's stack.
  """
  charge = _open_charge(ledger, round_number)
  account = account_of(metrics)
  try:
    summed, honest = int(account['survivors']), int(account['honest'])
    accepted, multiplier = bool(account['accepted']), float(account['noise_multiplier'])
  except (KeyError, TypeError) as error:
    raise LedgerError(
      f"Cannot settle round {round_number}: its metrics have no ['aggregator']['privacy']. Train "
      "with one of this package's aggregators, and release all metrics to this manager."
    ) from error
  expected = ledger.facts.price.noise_multiplier(honest)
  if not math.isclose(multiplier, expected, rel_tol=1e-6, abs_tol=1e-9):
    raise LedgerError(
      f'The ledger is of a stack whose noise multiplier is {expected:.6g} with {honest} honest '
      f'clients; round {round_number} had {multiplier:.6g}. It stays charged; keep a ledger '
      'that was begun with the facts of this process.'
    )
  ledger.settle(
    charge,
    survivors=summed if counted is None else min(summed, counted),
    counted_by='clients' if counted is None else 'runtime',
    honest=honest,
    accepted=accepted,
  )


def _open_charge(ledger: PrivacyLedger, round_number: int) -> int:
  # Not those with facts of their own: what is released next to the training has no such metrics.
  charges = [
    charge
    for charge, charged in ledger.state.open.items()
    if charged == round_number and ledger.state.kind_of(charge) is ledger.state.kinds[0]
  ]
  if not charges:
    raise LedgerError(
      f'Cannot settle round {round_number}: it was not charged before it ran. Draw its clients '
      'from a `CohortDataSource` with this ledger.'
    )
  return max(charges)
