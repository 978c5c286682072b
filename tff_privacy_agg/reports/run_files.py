"""Files of a run directory, read and checked before the report uses them."""

import dataclasses
import functools
import hashlib
import json
import math
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from tff_privacy_agg._files import model_metrics, read_json, read_table
from tff_privacy_agg.errors import ConfigurationError, LedgerError
from tff_privacy_agg.ledger import LedgerRecord
from tff_privacy_agg.ledger.reader import checked

# Of a ledger's line, what the report draws.
_KEPT = (
  'event',
  'seq',
  'of',
  'round',
  'total',
  'planned_survivors',
  'survivors',
  'z_eff',
  'updated',
)
_WORDS = {'True': 1.0, 'False': 0.0, '': math.nan}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Total:
  """Totals that a ledger states after one charged round.

  Attributes:
    number: 1 for the first charge; a round that ran twice has two.
    round_number: The round.
    epsilon: By view, all rounds so far; infinite where nothing is promised.
    survivors: Clients in the sum; None if the round is charged at its worst.
    noise_multiplier: Effective one of the round; None as above.
    accepted: Whether the model took the sum.
    planned: Survivors that were planned; None if that was not said.
    restarted: Whether noise that is correlated over rounds began anew with this one.
  """

  number: int
  round_number: int
  epsilon: Mapping[str, float]
  survivors: int | None = None
  noise_multiplier: float | None = None
  accepted: bool = False
  planned: int | None = None
  restarted: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunFiles:
  """The files of one training; made by `read`.

  Attributes:
    path: The run directory.
    config: What was asked.
    rows: Metrics, one row a round; NaN where a row lacks one.
    ledger: The ledger, which verifies; None for a training without noise.
    totals: What the ledger states, charge by charge.
    audit: `audit.json`, or None.
    audit_is_noted: Whether the ledger notes the hash of that very file.
    pictures: By attack, the pictures that its gallery left; the ledger does not note them.
  """

  path: pathlib.Path
  config: Mapping[str, Any]
  rows: tuple[Mapping[str, float], ...]
  ledger: LedgerRecord | None
  totals: tuple[Total, ...]
  audit: Mapping[str, Any] | None
  audit_is_noted: bool
  pictures: Mapping[str, bytes]

  @functools.cached_property
  def card(self) -> Mapping[str, Any] | None:
    """The ledger's privacy card; None for a training without noise."""
    return None if self.ledger is None else json.loads(self.ledger.statement('json'))

  @classmethod
  def read(cls, path: str | os.PathLike[str]) -> 'RunFiles':
    """Reads a run directory and verifies its ledger.

    Raises:
      ConfigurationError: If it holds no training, or a file in it cannot be read; or if
        it has no ledger and does not say that it was trained without privacy.
      LedgerError: If the ledger does not verify.
    """
    where = pathlib.Path(path)
    if not (where / 'config.json').exists():
      raise ConfigurationError(
        f'{where} is not a run directory: it holds no config.json. Pass the directory that '
        '`tff-privacy-agg train` names.'
      )
    ledger: LedgerRecord | None = None
    totals: tuple[Total, ...] = ()
    if (where / 'ledger.jsonl').exists():
      ledger, totals = _ledger(where / 'ledger.jsonl')
    elif read_json(where / 'privacy.json', missing={}).get('private') is not False:
      raise ConfigurationError(
        f'A private training keeps a ledger; {where} has none, and its privacy.json does not say '
        'that it was trained without privacy. Restore ledger.jsonl.'
      )
    audit = read_json(where / 'audit.json') if (where / 'audit.json').exists() else None
    return cls(
      path=where,
      config=read_json(where / 'config.json'),
      rows=_rows(where / 'metrics.csv'),
      ledger=ledger,
      totals=totals,
      audit=audit,
      audit_is_noted=audit is not None and _noted(ledger) == _hash(audit),
      pictures=_pictures(where, audit),
    )

  def measured(self) -> list[str]:
    """Names of the model's metrics that have a value, accuracy first."""
    found = {name: None for row in self.rows for name in model_metrics(row)}
    return sorted(filter(self.column, found), key=lambda name: name != 'accuracy')

  def column(self, name: str) -> list[tuple[float, float]]:
    """Round and value of one of the metrics, where it is a finite number."""
    points = [(row['round'], row.get(name, math.nan)) for row in self.rows if 'round' in row]
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _pictures(where: pathlib.Path, audit: Mapping[str, Any] | None) -> dict[str, bytes]:
  """Pictures of the attacks that the audit names: others may be left from an earlier one."""
  gallery = (audit or {}).get('gallery')
  attacks = gallery if isinstance(gallery, list) else []
  names = [str(one.get('name')) for one in attacks if isinstance(one, dict)]
  files = {name: where / f'audit_{name}.png' for name in names if name.isidentifier()}
  return {name: file.read_bytes() for name, file in files.items() if file.exists()}


def _rows(path: pathlib.Path) -> tuple[Mapping[str, float], ...]:
  return tuple({name: _number(text) for name, text in row.items()} for row in read_table(path))


def _number(text: str | None) -> float:
  try:
    return _WORDS[text or ''] if (text or '') in _WORDS else float(str(text))
  except ValueError:
    return math.nan


def _ledger(path: pathlib.Path) -> tuple[LedgerRecord, tuple[Total, ...]]:
  found = checked(path, keep=_KEPT)
  if found.record is None:
    raise LedgerError(
      f'A report rests on its ledger; {path} does not verify. {found.verification.problems[0]} '
      'Restore the file; `tff-privacy-agg verify` lists all that is wrong.'
    )
  return found.record, _totals(found.lines)


def _totals(lines: Iterable[Mapping[str, Any]]) -> tuple[Total, ...]:
  totals: dict[int, Total] = {}
  restarted = False
  for line in lines:
    if line['event'] == 'charge':
      totals[line['seq']] = Total(
        number=len(totals) + 1,
        round_number=line['round'],
        epsilon=_epsilons(line['total']),
        planned=line['planned_survivors'],
        restarted=restarted,
      )
      restarted = False
    elif line['event'] == 'settle':
      totals[line['of']] = dataclasses.replace(
        totals[line['of']],
        epsilon=_epsilons(line['total']),
        survivors=line['survivors'],
        noise_multiplier=line['z_eff'],
        accepted=line['updated'],
      )
    elif line['event'] == 'unopened':
      restarted |= totals.pop(line['of']).restarted
    elif line['event'] == 'restarted':
      restarted = True
  return tuple(totals.values())


def _epsilons(stated: Mapping[str, Any]) -> Mapping[str, float]:
  return {view: float(value) for view, value in stated.items()}


def _noted(ledger: LedgerRecord | None) -> str | None:
  note = None if ledger is None else ledger.state.notes.get('empirical_audit')
  return note.get('results_sha256') if isinstance(note, dict) else None


def _hash(audit: Mapping[str, Any]) -> str:
  text = json.dumps(audit, sort_keys=True, separators=(',', ':'))
  return hashlib.sha256(text.encode()).hexdigest()
