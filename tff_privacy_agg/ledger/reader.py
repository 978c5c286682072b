"""A ledger that was read: its epsilons, its report, and whether it can be believed."""

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from tff_privacy_agg.accounting.budget import VIEWS
from tff_privacy_agg.errors import LedgerError
from tff_privacy_agg.ledger import line_format as ledger_lines
from tff_privacy_agg.ledger.account import LedgerAccount
from tff_privacy_agg.ledger.card.render import render
from tff_privacy_agg.ledger.line_format import begun, check_header
from tff_privacy_agg.ledger.participants import Participants, missing, register_path
from tff_privacy_agg.ledger.replay import LedgerState

# Replaying adds the same numbers in the same order; other processors may round otherwise.
_SAME = 1e-9


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


class LedgerRecord(LedgerAccount):
  """A ledger as it stands; made by `read`. `PrivacyLedger` is one that grows."""

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

  def statement(self, format: str = 'text') -> str:
    """The privacy card: what is promised, to whom, on what it rests, what is not covered.

    Args:
      format: 'text', 'json' or 'html'.
    """
    return render(self, format)

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
  same = isinstance(stated, dict) and given.keys() == stated.keys()
  if not same or not all(_same(given[name], stated[name]) for name in given):
    problems.append('Line 1 states other limits for its budget than its facts give.')
  return problems


def _same(computed: Any, stated: Any) -> bool:
  if isinstance(computed, float) and isinstance(stated, float):
    return math.isclose(computed, stated, rel_tol=_SAME, abs_tol=_SAME)
  if isinstance(computed, list) and isinstance(stated, list):
    pairs = zip(computed, stated, strict=False)
    return len(computed) == len(stated) and all(_same(float(a), float(b)) for a, b in pairs)
  return computed == stated
