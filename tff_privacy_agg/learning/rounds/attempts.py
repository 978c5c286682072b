"""One round of a training, run again as a new session while it has no sum."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from tff_privacy_agg import secagg
from tff_privacy_agg._tff.error_hints import explained
from tff_privacy_agg.accounting.printing import rounded_up
from tff_privacy_agg.aggregation.noise_history import holds_noise
from tff_privacy_agg.learning.ledger_release import account_of, settle
from tff_privacy_agg.learning.preparation.checks import check_size
from tff_privacy_agg.learning.preparation.session_limits import SessionLimits
from tff_privacy_agg.learning.rounds.noise_restart import NoiseRestart
from tff_privacy_agg.learning.rounds.source import RoundResult, Rounds
from tff_privacy_agg.ledger import PrivacyLedger

ATTEMPTS = 3
"""Sessions that one round may take, and one more for each client that may drop out."""
# Sessions that other drop-outs may let succeed. What no repetition fixes is raised at once.
_RETRIED = (
  secagg.NotEnoughClients,
  secagg.NotEnoughShares,
  secagg.BadShares,
  secagg.InconsistentSurvivors,
  secagg.VerificationFailed,
  secagg.SessionAborted,
  secagg.RoundTimeout,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoundAttempts:
  """Selects the clients of a round, charges it, runs it and settles it.

  Attributes:
    source: Where rounds run.
    ledger: Record of what every round may have revealed, or None.
    report: Takes each line of progress.
    noise: Restarts correlated noise after a session without a sum.
  """

  source: Rounds
  ledger: PrivacyLedger | None
  report: Callable[[str], None]
  noise: NoiseRestart

  def run(self, round_number: int, state: Any) -> tuple[RoundResult, Sequence[str]]:
    """One round; if it has no sum it runs again, as a new session, work and noise included."""
    ledger, source = self.ledger, self.source
    attempt, attempts = 0, ATTEMPTS
    while True:
      attempt += 1
      eligible = None if ledger is None else ledger.eligible(source.client_ids)
      cohort = source.select(round_number, eligible)
      if attempt == 1:
        attempts += _drop_outs(source.limits, len(cohort))
      charge = None if ledger is None else self._charge(ledger, round_number, cohort)
      try:
        with explained():
          result = source.run(state, cohort)
      except _RETRIED as error:
        cost = '' if ledger is None or charge is None else _cost(ledger, charge, error)
        self.report(
          f'round {round_number} has no sum, attempt {attempt} of {attempts}: {error}{cost}'
        )
        if attempt == attempts:
          raise
        if holds_noise(state) and not error.unopened:
          state = self.noise.restarted(state)
        continue
      if ledger is not None and charge is not None:
        _settle(ledger, charge, round_number, result, cohort)
      return result, cohort

  def _charge(self, ledger: PrivacyLedger, round_number: int, cohort: Sequence[str]) -> int:
    check_size(len(cohort), ledger.facts, round_number)
    return ledger.charge(
      round_number, planned_survivors=len(cohort), cohort=cohort, drawn=self.source.sampling
    )


def _drop_outs(limits: SessionLimits | None, clients: int) -> int:
  """Clients of a round that its sessions can lose."""
  if limits is None:
    return 0
  return secagg.params.basis_points('dropout_fraction', limits.dropout_fraction) * clients // 10_000


def _cost(ledger: PrivacyLedger, charge: int, error: secagg.SecAggError) -> str:
  """Formats the cost of a session without a sum."""
  if error.unopened and ledger.settle_unopened(charge, mode='semi_honest'):
    return '; it showed nothing, and costs nothing'
  total = ledger.epsilon('server')
  return f'; it stays charged: epsilon {rounded_up(total, 4)} so far'


def _settle(
  ledger: PrivacyLedger, charge: int, round_number: int, result: RoundResult, cohort: Sequence[str]
) -> None:
  """Settles a round with what its metrics say, or else with what the runtime counted."""
  if result.survivors is not None and not account_of(result.metrics):
    ledger.settle(charge, survivors=result.survivors, counted_by='runtime')
    return
  # In a simulation all of the cohort survives.
  counted = len(cohort) if result.survivors is None else result.survivors
  settle(ledger, round_number, result.metrics, counted=counted)
