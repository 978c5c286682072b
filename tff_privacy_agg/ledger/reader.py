"""A ledger that was read: its epsilons, its report, and whether it can be believed."""

import dataclasses
import os
import pathlib
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from tff_privacy_agg.errors import LedgerError
from tff_privacy_agg.ledger.account import LedgerAccount
from tff_privacy_agg.ledger.card.render import render
from tff_privacy_agg.ledger.line_format import begun, check_header, head_path, later_version
from tff_privacy_agg.ledger.line_reader import LineReader
from tff_privacy_agg.ledger.participation.register import register_path
from tff_privacy_agg.ledger.replay import LedgerState
from tff_privacy_agg.ledger.verification.recount import Recount


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verification:
  """Result of `verify`.

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
    return _as_it_stands(*replayed(pathlib.Path(path)))

  def statement(self, format: str = 'text') -> str:
    """The privacy card: what is promised, to whom, on what it rests, what is not covered.

    Args:
      format: 'text', 'json' or 'html'.
    """
    return render(self, format)


def replayed(path: pathlib.Path) -> tuple[dict[str, Any], LedgerState, LineReader]:
  """The header of a ledger, the sum of its whole lines, and what was read.

  Raises:
    LedgerError: As `LedgerRecord.read`.
  """
  found = LineReader(path)
  header, state = None, None
  for record in found:
    if found.problems:
      break
    if state is None:
      header, state = record, LedgerState(record)
    else:
      state.apply(record)
  if found.problems or header is None or state is None:
    problem = found.problems[0] if found.problems else 'It has no header.'
    raise LedgerError(
      f'The ledger {path} does not verify: {problem} Restore the file; `tff-privacy-agg verify` '
      'lists all that is wrong.'
    )
  return header, state, found


def verify(path: str | os.PathLike[str], *, expected_hash: str | None = None) -> Verification:
  """Checks a ledger line by line, and computes every number in it anew.

  What follows from other facts is computed from them: norm bounds, shares of noise, the price of
  a round, its noise multiplier and divergences, every total, what the budget admits.

  Args:
    path: The ledger. `NAME.head` and `NAME.participants` next to it are checked too.
    expected_hash: Hash of the last line as it was once published; it must be in the
      chain. Finds what somebody did who rewrote all files.

  Raises:
    LedgerError: If there is no file, or it is no ledger or one of a later version.
  """
  return checked(pathlib.Path(path), expected_hash).verification


class Checked(NamedTuple):
  """What one pass over the lines of a ledger gives.

  Attributes:
    verification: What `verify` finds.
    record: The ledger; None if it does not verify.
    lines: Of each line after the header, the fields that were asked for.
  """

  verification: Verification
  record: LedgerRecord | None
  lines: list[dict[str, Any]]


def checked(
  path: pathlib.Path, expected_hash: str | None = None, *, keep: Collection[str] = ()
) -> Checked:
  """Verifies and reads a ledger in one pass.

  Args:
    path: As for `verify`.
    expected_hash: As for `verify`.
    keep: Names of the fields to keep of each line; a line may lack some.

  Raises:
    LedgerError: As `verify`.
  """
  found = LineReader(path, expected_hash)
  header: Mapping[str, Any] = {}
  recount: Recount | None = None
  wrong: list[str] = []  # what ended the replay
  lines: list[dict[str, Any]] = []
  for record in found:
    if found.problems or wrong:
      continue
    try:
      if recount is None:
        check_header(record)
        header, recount = record, Recount(record, register_path(path))
      else:
        recount.apply(record)
        if keep:
          lines.append({name: record[name] for name in keep if name in record})
    except LedgerError as error:
      if recount is None and later_version(record):
        raise
      wrong.append(str(error))
  problems = list(found.problems)
  if not found.lines:
    problems.append('The ledger has no header.')
  if not problems:
    problems = [*(recount.finish() if recount else []), *wrong]
  remarks = []
  if found.truncated:
    remarks.append(
      f'The last line was cut off after {len(found.truncated)} bytes; it is kept charged.'
    )
  if not head_path(path).exists():
    remarks.append('There is no .head file: lines missing at the end would not be noticed.')
  if expected_hash is not None and not found.published:
    problems.append(f'No line has the published hash {expected_hash}.')
  verification = Verification(
    problems=tuple(problems), remarks=tuple(remarks), lines=found.lines, hash=found.hash
  )
  if problems or recount is None:
    return Checked(verification, None, lines)
  return Checked(verification, _as_it_stands(header, recount.state, found), lines)


def _as_it_stands(header: Mapping[str, Any], state: LedgerState, found: LineReader) -> LedgerRecord:
  if found.truncated:
    state.apply({'event': 'recovered', 'was': begun(found.truncated)})
  return LedgerRecord(header, state, found.hash)
