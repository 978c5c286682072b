"""A learning process that knows what its ledger rests on."""

import os
from collections import OrderedDict
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_privacy_agg._tff import compat
from tff_privacy_agg.accounting import Budget
from tff_privacy_agg.aggregation.noise_history import holds_noise, map_stacks, without_noise
from tff_privacy_agg.aggregation.stack import Stack
from tff_privacy_agg.errors import ConfigurationError, LedgerError
from tff_privacy_agg.learning.example_level import ExampleLevel
from tff_privacy_agg.ledger import LedgerFacts, PrivacyLedger


class PrivateLearningProcess(tff.learning.templates.LearningProcess):
  """A learning process of TFF, its account and its facts; from `build_private_learning_process`.

  Args:
    inner: The process that TFF builds, with one of this package's aggregators.
    facts: What the ledger of a training rests on.
    budget: The budget that the aggregator keeps; None without one.
    example_level: DP-SGD in the clients' local training; None without it.
    stack: The aggregator's stack with the account of all that a round releases; None if its noise
      is never restarted.
  """

  def __init__(
    self,
    inner: tff.learning.templates.LearningProcess,
    *,
    facts: LedgerFacts,
    budget: Budget | None,
    example_level: ExampleLevel | None = None,
    stack: Stack | None = None,
  ):
    self._stack = stack
    self._example_level = example_level
    self._facts = facts
    self._budget = budget
    super().__init__(
      inner.initialize,
      _next(inner, halts=budget is not None),
      inner.get_model_weights,
      inner.set_model_weights,
      get_hparams_fn=inner.get_hparams,
      set_hparams_fn=inner.set_hparams,
    )

  @property
  def facts(self) -> LedgerFacts:
    """Facts for the ledger of a training with this process."""
    return self._facts

  @property
  def budget(self) -> Budget | None:
    """The budget that the process keeps."""
    return self._budget

  def restart_noise(self, state: Any, rounds: int | None = None) -> Any:
    """The state with which correlated noise begins anew, after rounds whose own state is lost.

    No round may run twice with the same noise of earlier rounds: if a round ran and may have been
    released, and its state is not there, go on from what this returns, and call
    `PrivacyLedger.restart_noise`. `TrainingLoop` and `train` do both. It costs accuracy, as noise of
    before the restart no longer cancels, and not privacy beyond that of the lost rounds.

    Args:
      state: The last state that is left.
      rounds: Rounds that ran in all, those that are lost included, as `ledger.state.rounds` counts
        them; None for one more than the state has.

    Raises:
      ConfigurationError: If the noise of this process is not correlated over rounds.
    """
    if self._stack is None or not holds_noise(state):
      raise ConfigurationError(
        'The noise of this process is independent from round to round, so there is none to restart.'
      )
    own = state.aggregator
    lost = 1 if rounds is None else max(rounds - int(own['privacy']['rounds']), 0)
    aggregator = tf.nest.map_structure(np.asarray, self._stack.restarted(own, lost))
    # Mime's gradients have a stack of their own, whose cost is in the account of this one.
    return map_stacks(lambda one: aggregator if one is own else without_noise(one), state)

  def open_ledger(self, path: str | os.PathLike[str]) -> PrivacyLedger:
    """The ledger of a training, begun or resumed.

    Args:
      path: The JSON-lines file.

    Raises:
      LedgerError: As `PrivacyLedger` does.
    """
    ledger = PrivacyLedger(path, self._facts, budget=self._budget)
    setting = None if self._example_level is None else self._example_level.as_dict()
    noted = ledger.state.notes.get('example_level')
    if noted is None and setting is not None and not ledger.state.rounds:
      ledger.note('example_level', setting)
    elif noted != setting:
      # Its epsilon is stated for all rounds of the ledger.
      ledger.close()
      raise LedgerError(
        f'The ledger at {ledger.path} notes {_told(noted)}, and this process has {_told(setting)}. '
        'A training resumes with the example-level noise that it began with: build the process as '
        'before, or begin another ledger.'
      )
    return ledger


def _next(inner: tff.learning.templates.LearningProcess, halts: bool) -> compat.Computation:
  """TFF's `next`, except that a round that is not accepted moves nothing but the account."""
  state_type, data_type = inner.next.type_signature.parameter
  state_member = state_type.member

  @compat.tensorflow_computation(np.bool_, state_member, state_member)
  def keep(accepted: tf.Tensor, old: Any, new: Any) -> Any:
    def choose(name: str) -> Any:
      if name == 'aggregator':
        return new.aggregator
      return tf.nest.map_structure(
        lambda after, before: tf.where(accepted, after, before),
        getattr(new, name),
        getattr(old, name),
      )

    names = [name for name, _ in compat.struct_items(state_member)]
    kept = type(new)(**OrderedDict((name, choose(name)) for name in names))
    # Stacks decide for themselves; a round that is not accepted still moves correlated noise.
    return map_stacks(lambda unused_kept, own: own, kept, new) if holds_noise(new) else kept

  @compat.tensorflow_computation(np.bool_, data_type.member)
  def unless_halted(halted: tf.Tensor, data: tf.data.Dataset) -> tf.data.Dataset:
    # What the clients learn from no example depends on no example.
    return data.take(tf.where(halted, tf.constant(0, tf.int64), tf.constant(-1, tf.int64)))

  @compat.federated_computation(state_type, data_type)
  def next_round(
    state: compat.Value, client_data: compat.Value
  ) -> tff.learning.templates.LearningProcessOutput:
    if halts:
      halted = state.aggregator['privacy']['halted']
      pair = compat.federated_broadcast(halted), client_data
      client_data = compat.federated_map(unless_halted, pair)
    output = inner.next(state, client_data)
    accepted = output.metrics['aggregator']['privacy']['accepted']
    kept = compat.federated_map(keep, (accepted, state, output.state))
    return tff.learning.templates.LearningProcessOutput(state=kept, metrics=output.metrics)

  return next_round


def _told(setting: Any) -> str:
  if setting is None:
    return 'no example-level noise'
  return f'example-level noise of multiplier {setting["noise_multiplier"]:g}'


def check_facts(process: LedgerFacts, ledger: LedgerFacts) -> None:
  """Raises unless a ledger rests on the facts of the process whose rounds it records.

  Args:
    process: Facts of the process.
    ledger: Facts of the ledger.

  Raises:
    LedgerError: If they differ.
  """
  changed = process.differences(ledger)
  if changed:
    raise LedgerError(
      'A ledger records the process that it was begun for; of this one and its process these '
      f'differ: {", ".join(changed)}. Open it by `process.open_ledger(path)`.'
    )
