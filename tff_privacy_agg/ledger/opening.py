"""A ledger that is open for writing: begun or resumed, locked, annotated, and closed."""

import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Iterable, Mapping
from typing import Any, Self

import tff_privacy_agg
from tff_privacy_agg.accounting.budget import Budget
from tff_privacy_agg.errors import LedgerError
from tff_privacy_agg.ledger import line_file as ledger_file, line_format as ledger_lines
from tff_privacy_agg.ledger.claims import printable
from tff_privacy_agg.ledger.facts import LedgerFacts
from tff_privacy_agg.ledger.notes import check_note
from tff_privacy_agg.ledger.participation.register import Participants, missing, register_path
from tff_privacy_agg.ledger.reader import LedgerRecord, replayed
from tff_privacy_agg.ledger.replay import LedgerState


class OpenedLedger(LedgerRecord):
  """A ledger with the lock of its file, and what it records next to its rounds.

  `PrivacyLedger` writes the rounds.

  Args:
    path: As for `PrivacyLedger`, like the others. A symbolic link is followed.
    facts: What the training rests on.
    budget: The most to spend.
  """

  def __init__(
    self,
    path: str | os.PathLike[str],
    facts: LedgerFacts | None = None,
    *,
    budget: Budget | None = None,
  ):
    self.path = pathlib.Path(os.path.realpath(path))
    if not self.path.exists():
      self._begin(facts, budget)
    else:
      self._resume(facts, budget)
    try:
      self._open_register()
    except BaseException:
      self._writer.close()
      raise

  def close(self) -> None:
    """Releases the lock; open rounds stay charged."""
    self._writer.close()
    self._register.close()

  def must_restart(self, round_number: int) -> bool:
    """Whether the noise must be restarted before a round is charged.

    Where noise is correlated over rounds, no round may be drawn from noise that may have been
    released without it: after a round that did not settle, or when a round runs again.

    Args:
      round_number: The round.
    """
    chain = self.state.chain
    return chain is not None and chain.must_restart(round_number, self.state.open)

  def restart_noise(self) -> None:
    """Records that noise that is correlated over rounds begins anew with the next round.

    Rounds before and after share no noise, so no separation is asked between them; all of them
    count as participations. Restart the process too: `PrivateLearningProcess.restart_noise`.

    Raises:
      LedgerError: If the noise of this ledger's rounds is not correlated.
    """
    if self.state.chain is None:
      raise LedgerError(
        'Only noise that is correlated over rounds restarts; that of the rounds of this ledger is '
        'independent. Leave the restart out.'
      )
    self._append({'event': 'restarted', 'version': tff_privacy_agg.__version__})

  def mark_unaccounted(self, what: str) -> None:
    """Records that something left the clients outside this sum: the ledger is not complete.

    Args:
      what: Its name, such as 'training metrics in the clear'.
    """
    printable(what=what)
    if what not in self.state.unaccounted:
      self._append({'event': 'unaccounted', 'what': what})

  def note(self, name: str, value: Any) -> None:
    """Records a finding for the report; the last one of a name counts.

    Args:
      name: 'empirical_audit', 'example_level' (the noise of DP-SGD on the clients, whose unit
        is the example) or 'tuning_runs'.
      value: JSON values.
    """
    printable(value=json.dumps(value))
    check_note(name, value)
    self._append({'event': 'note', 'name': name, 'value': value})

  def eligible(self, clients: Iterable[str]) -> list[str]:
    """Those of `clients` whom participation cap and separation let take part in the next round."""
    return self._register.eligible(clients, self._next_position())

  def _next_position(self) -> int | None:
    """Position of the next round among those that share noise, if they do."""
    chain = self.state.chain
    return None if chain is None else chain.position + 1

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *unused: Any) -> None:
    self.close()

  def _begin(self, facts: LedgerFacts | None, budget: Budget | None) -> None:
    if facts is None:
      raise LedgerError(f'There is no ledger at {self.path}. Pass `facts` to begin one.')
    for left in (ledger_lines.head_path(self.path), register_path(self.path)):
      if left.exists():
        raise LedgerError(
          f'Cannot begin a ledger at {self.path}: {left.name} of an earlier one is there. Restore '
          'that ledger, or choose another path.'
        )
    facts.check()
    if budget is not None:
      facts.check_delta(budget.delta, "The budget's `delta`")
    header = {
      'event': 'header',
      'schema': ledger_lines.SCHEMA,
      'utc': ledger_lines.now(),
      'facts': facts.as_dict(),
      'budget': None if budget is None else budget.as_dict(),
      'version': tff_privacy_agg.__version__,
      'versions': _versions(),
    }
    state = LedgerState(header)
    header['order'] = None if state.filter is None else state.filter.order
    header['accounts'] = {view: account.name for view, account in state.accounts.items()}
    header['limits'] = None if state.filter is None else state.filter.as_dict()
    ledger_lines.check_length(header)
    self._writer = ledger_file.LineWriter.create(self.path, header)
    super().__init__(header, state, self._writer.hash)

  def _resume(self, facts: LedgerFacts | None, budget: Budget | None) -> None:
    self._writer = ledger_file.LineWriter.reopen(self.path)
    try:
      header, state, found = replayed(self.path)
      self._writer.go_on(found)
      super().__init__(header, state, found.hash)
      self._compare(facts, budget)
      if found.truncated:
        was = ledger_lines.begun(found.truncated)
        self._append(
          {'event': 'recovered', 'was': was, 'partial_bytes': len(found.truncated)},
          after=found.truncated,
        )
    except BaseException:
      self._writer.close()
      raise

  def _compare(self, facts: LedgerFacts | None, budget: Budget | None) -> None:
    if facts is None:
      return
    changed = facts.differences(self.facts)
    if self.header['schema'] < ledger_lines.SCHEMA and changed:
      raise LedgerError(
        f'The ledger at {self.path} is of schema {self.header["schema"]}, written by '
        f'tff_privacy_agg {self.header.get("version", "?")}, which priced rounds otherwise: start '
        'a new ledger and a new training, or go on with that version.'
      )
    changed += ['budget'] if budget != self.budget else []
    if changed:
      raise LedgerError(
        f'A training resumes with the facts that its ledger began with; in {self.path} these '
        f'differ: {", ".join(changed)}. Pass the old values, or begin another ledger.'
      )

  def _open_register(self) -> None:
    self._register = Participants(register_path(self.path), self.facts)
    lacking = missing(self._register.digests, self.state.digests)
    if lacking:
      raise LedgerError(
        f'{register_path(self.path).name} names the participants of {len(self.state.digests)} '
        f'rounds; {lacking} of them are missing. Restore it, or begin another ledger.'
      )

  def _append(self, record: dict[str, Any], *, after: bytes = b'') -> Mapping[str, Any]:
    """Counts a line and writes it; if writing fails it stays counted."""
    record['utc'] = ledger_lines.now()
    record['seq'] = self._writer.next_seq
    ledger_lines.check_length(record)
    self.state.apply(record)
    if record['event'] in ('charge', 'settle', 'unopened', 'recovered'):
      record['total'] = self.state.totals()
    self.hash = self._writer.append(record, after=after)
    return record


def _versions() -> dict[str, str]:
  """Versions of what computes the numbers."""
  found = {'tff_privacy_agg': tff_privacy_agg.__version__, 'python': platform.python_version()}
  for name in ('numpy', 'scipy', 'dp-accounting', 'tensorflow-federated'):
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found
