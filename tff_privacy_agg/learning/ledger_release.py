"""Settles the rounds of a TFF program in its privacy ledger."""

from typing import Any

import tensorflow_federated as tff

from tff_privacy_agg.accounting import PrivacyLedger
from tff_privacy_agg.errors import LedgerError


class PrivacyLedgerReleaseManager(tff.program.ReleaseManager):
  """A release manager that settles each round from its metrics.

  For `tff.learning.programs.train_model`: pass it (in a `GroupingReleaseManager`) as
  `train_metrics_manager`, beside a `CohortDataSource` with the same ledger, which charges
  each round before it runs. A discarded round is never released, and stays charged.

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
    """
    metrics = await tff.program.materialize_value(value)
    settle(self._ledger, int(key), metrics)


def settle(ledger: PrivacyLedger, round_number: int, metrics: Any) -> None:
  """Settles the last charge of a round with what its metrics say.

  Args:
    ledger: The ledger.
    round_number: The round.
    metrics: Its metrics.

  Raises:
    LedgerError: If the round was not charged, or its metrics have no account.
  """
  charges = [charge for charge, charged in ledger.state.open.items() if charged == round_number]
  if not charges:
    raise LedgerError(
      f'Round {round_number} was to be settled; it was not charged before it ran. Draw its clients '
      'from a `CohortDataSource` with this ledger.'
    )
  try:
    facts = metrics['aggregator']['privacy']
    survivors, honest = int(facts['survivors']), int(facts['honest'])
    accepted = bool(facts['accepted'])
  except (KeyError, TypeError) as error:
    raise LedgerError(
      f"Round {round_number} was to be settled; its metrics have no ['aggregator']['privacy']. "
      "Train with one of this package's aggregators, and release all metrics to this manager."
    ) from error
  ledger.settle(max(charges), survivors=survivors, honest=honest, accepted=accepted)
