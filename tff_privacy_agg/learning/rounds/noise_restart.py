"""The restart of correlated noise where a round may have run whose own state is lost."""

import dataclasses
from collections.abc import Callable
from typing import Any

from tff_privacy_agg.aggregation.noise_history import holds_noise
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.ledger import PrivacyLedger


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoiseRestart:
  """Begins correlated noise anew.

  Attributes:
    process: The process of the training.
    ledger: Its ledger, or None.
    report: Takes a line of progress.
  """

  process: Any
  ledger: PrivacyLedger | None
  report: Callable[[str], None]

  def state_of(self, state: Any, done: int) -> Any:
    """A state to go on from; its correlated noise begins anew if a round after it may have run."""
    if not holds_noise(state):
      return state
    if self.ledger is None:
      # Nobody knows whether a round ran after the checkpoint.
      return state if done == 0 else self.restarted(state)
    same = self.ledger.state.rounds == int(state.aggregator['privacy']['rounds'])
    if same and not self.ledger.must_restart(done + 1):
      return state
    return self.restarted(state)

  def restarted(self, state: Any) -> Any:
    """A state whose correlated noise begins anew: no noise is used with two sums."""
    if not hasattr(self.process, 'restart_noise'):
      raise ConfigurationError(
        'A round was lost, and its noise may not be used again; this process cannot restart its '
        'noise. Build it with `build_private_learning_process`.'
      )
    self.report('the noise begins anew: a round after the last state may have run')
    if self.ledger is None:
      return self.process.restart_noise(state)
    self.ledger.restart_noise()
    return self.process.restart_noise(state, self.ledger.state.rounds)
