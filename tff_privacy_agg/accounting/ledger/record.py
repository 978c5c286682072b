"""A ledger that was read: its epsilons, its report, and whether it can be believed."""

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from tff_privacy_agg import _validate
from tff_privacy_agg.accounting.budget import VIEWS, Budget, Filter
from tff_privacy_agg.accounting.ledger import lines as ledger_lines
from tff_privacy_agg.accounting.ledger.facts import LedgerFacts
from tff_privacy_agg.accounting.ledger.participants import Participants, missing, register_path
from tff_privacy_agg.accounting.ledger.state import LedgerState, begun, check_header
from tff_privacy_agg.errors import LedgerError

# Replaying adds the same numbers in the same order; other processors may round otherwise.
_SAME = 1e-9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spent:
  """What one view may have learned so far.

  Attributes:
    view: 'server' or 'release'.
    adjacency: The neighbouring relation of this view.
    epsilon: In nats; infinite where the view has no privacy.
    delta: Of this epsilon.
    order: The Renyi order that gives it; NaN where none does, as in the account of mu.
    rounds: Charged rounds.
    unsettled: Of these, those charged at their worst.
    complete: Whether everything that leaves the clients is in the sum.
    unaccounted: What is not.
  """

  view: str
  adjacency: str
  epsilon: float
  delta: float
  order: float
  rounds: int
  unsettled: int
  complete: bool
  unaccounted: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verification:
  """What `verify` found.

  Attributes:
    problems: What contradicts the ledger, in sentences; empty if nothing does.
    remarks: What a reader should know though it contradicts nothing.
    lines: Lines that could be read.
    hash: SHA-256 of the last of them.
  """

  problems: tuple[str, ...]
  remarks: tuple[str, ...]
  lines: int
  hash: str

  @property
  def ok(self) -> bool:
    """Whether nothing contradicts the ledger."""
    return not self.problems


class LedgerRecord:
  """A ledger as it stands; made by `read`. `PrivacyLedger` is one that grows.

  Attributes:
    header: The first line.
    state: The sum of the lines.
    hash: SHA-256 of the last line.
  """

  def __init__(self, header: Mapping[str, Any], state: LedgerState, digest: str):
    self.header, self.state, self.hash = header, state, digest

  @classmethod
  def read(cls, path: str | os.PathLike[str]) -> 'LedgerRecord':
    """Reads a ledger without writing to it.

    A last line that was cut off is counted as a charged round, unless it began as
    something else.

    Raises:
      LedgerError: If the file is missing, does not verify, or is of a later version.
    """
    file = pathlib.Path(path)
    found = ledger_lines.scan(file)
    header, state = cls._replayed(file, found)
    return LedgerRecord(header, state, found.hashes[-1])

  @property
  def facts(self) -> LedgerFacts:
    """What every number rests on."""
    return self.state.facts

  @property
  def budget(self) -> Budget | None:
    """The budget that the ledger was begun with."""
    return self.state.filter.budget if self.state.filter else None

  @property
  def complete(self) -> bool:
    """Whether everything that leaves the clients is in the sum."""
    return not self.state.unaccounted

  @property
  def unaccounted(self) -> tuple[str, ...]:
    """What leaves the clients outside the sum."""
    return tuple(self.state.unaccounted)

  def epsilon(self, view: str, delta: float | None = None) -> float:
    """Epsilon of all rounds so far, in nats.

    Args:
      view: 'server': who runs the training and sees the sums. 'release': who sees the
        models and metrics only. They are different promises and are never added.
      delta: Strictly between 0 and 1; by default that of the facts.
    """
    return self.spent(view, delta).epsilon

  def spent(self, view: str, delta: float | None = None) -> Spent:
    """Epsilon of all rounds so far, with what it means; arguments as for `epsilon`."""
    _validate.one_of(VIEWS, view=view)
    delta = self.facts.delta if delta is None else delta
    _validate.fraction(delta=delta)
    self.facts.check_delta(delta, '`delta`')
    epsilon, order = self.state.epsilon(view, delta)
    return Spent(
      view=view,
      adjacency=self.state.views[view].costs.adjacency,
      epsilon=epsilon,
      delta=delta,
      order=order,
      rounds=self.state.rounds,
      unsettled=self.state.unsettled,
      complete=self.complete,
      unaccounted=self.unaccounted,
    )

  def would_exceed(self, budget: Budget | None = None) -> bool:
    """Whether one more round could pass a budget, by default the ledger's.

    A round that rests on the facts of the header, at its worst.
    """
    return not self.state.admits(self._filter(budget))

  def remaining(self, budget: Budget | None = None) -> int:
    """Rounds of the header's facts, at their worst, that a budget (the ledger's, if None) admits.

    Rounds that settle for less leave room for more.
    """
    fixed = self._filter(budget)
    if self.would_exceed(budget):
      return 0
    view = fixed.budget.view
    return max(1, fixed.rounds(self.state.cost(view), self.state.worst(view)))

  def statement(self, format: str = 'text') -> str:
    """The privacy card: what is promised, to whom, on what it rests, what is not covered.

    Args:
      format: 'text', 'json' or 'html'.
    """
    from tff_privacy_agg.accounting.statement import card  # a statement is made of records

    return card.render(self, format)

  def _filter(self, budget: Budget | None) -> Filter:
    if budget is not None:
      return self.state.fix(budget)
    if self.state.filter is None:
      raise LedgerError(
        'The budget of this ledger was asked for; it was begun without one. Pass a `Budget`.'
      )
    return self.state.filter

  @staticmethod
  def _replayed(
    path: pathlib.Path, found: ledger_lines.Scan, *, with_truncated: bool = True
  ) -> tuple[dict[str, Any], LedgerState]:
    if found.problems or not found.records:
      problem = found.problems[0] if found.problems else 'It has no header.'
      raise LedgerError(
        f'A ledger was to be read from {path}; it cannot be believed. {problem} Restore the file; '
        '`tff-privacy-agg verify` lists all that is wrong.'
      )
    state = LedgerState(found.records[0])
    for record in found.records[1:]:
      state.apply(record)
    if found.truncated and with_truncated:
      state.apply({'event': 'recovered', 'was': begun(found.truncated)})
    return found.records[0], state


def verify(path: str | os.PathLike[str], *, expected_hash: str | None = None) -> Verification:
  """Checks a ledger line by line, and computes every number in it anew.

  Args:
    path: The ledger. `NAME.head` and `NAME.participants` beside it are checked too.
    expected_hash: Hash of the last line as it was once published; it must be in the
      chain. Finds what somebody did who rewrote all files.

  Raises:
    LedgerError: If there is no file, or it is no ledger or one of a later version.
  """
  file = pathlib.Path(path)
  found = ledger_lines.scan(file)
  problems, remarks = list(found.problems), []
  if not found.records:
    problems.append('The ledger has no header.')
  elif found.records[0].get('event') == 'header':
    check_header(found.records[0])
  if not problems:
    problems += _replay_problems(file, found)
  if found.truncated:
    remarks.append(
      f'The last line was cut off after {len(found.truncated)} bytes; it is kept charged.'
    )
  if not ledger_lines.head_path(file).exists():
    remarks.append('There is no .head file: lines missing at the end would not be noticed.')
  if expected_hash is not None and expected_hash not in found.hashes:
    problems.append(f'No line has the published hash {expected_hash}.')
  return Verification(
    problems=tuple(problems),
    remarks=tuple(remarks),
    lines=len(found.records),
    hash=found.hashes[-1] if found.hashes else ledger_lines.GENESIS,
  )


def _replay_problems(file: pathlib.Path, found: ledger_lines.Scan) -> list[str]:
  state = LedgerState(found.records[0])
  problems = []
  problems += _header_problems(found.records[0], state)
  for record in found.records[1:]:
    try:
      state.apply(record)
    except LedgerError as error:
      return [*problems, str(error)]
    if 'total' in record:
      total, stated = state.totals(), record['total']
      stated = stated if isinstance(stated, dict) else {}
      wrong = [view for view in VIEWS if not _same(total[view], stated.get(view))]
      problems += [
        f'Line {record["seq"] + 1} states epsilon {stated.get(view)} in the {view} view; '
        f'its rounds give {total[view]}.'
        for view in wrong
      ]
  register = register_path(file)
  if register.exists():
    try:
      lacking = missing(Participants(register, None).digests, state.digests)
    except LedgerError as error:
      return [*problems, str(error)]
    if lacking:
      problems.append(f'{register.name} lacks the participants of {lacking} rounds.')
  return problems


def _header_problems(header: Mapping[str, Any], state: LedgerState) -> list[str]:
  """What the header states of its accounts and its budget, and its facts do not give."""
  order = None if state.filter is None else state.filter.order
  if header['schema'] < 3:
    same = _same(order, header.get('order'))
    return [] if same else ['Line 1 states another order for its budget than its facts give.']
  problems = []
  first = LedgerState(header)
  if header.get('accounts') != {view: first.accounts[view].name for view in VIEWS}:
    problems.append('Line 1 states other accounts than its facts give.')
  given = {} if state.filter is None else state.filter.as_dict()
  stated = header.get('limits') or {}
  if given.keys() != stated.keys() or not all(_same(given[name], stated[name]) for name in given):
    problems.append('Line 1 states other limits for its budget than its facts give.')
  return problems


def _same(computed: Any, stated: Any) -> bool:
  if isinstance(computed, float) and isinstance(stated, float):
    return math.isclose(computed, stated, rel_tol=_SAME, abs_tol=_SAME)
  if isinstance(computed, list) and isinstance(stated, list):
    pairs = zip(computed, stated, strict=False)
    return len(computed) == len(stated) and all(_same(float(a), float(b)) for a, b in pairs)
  return computed == stated
