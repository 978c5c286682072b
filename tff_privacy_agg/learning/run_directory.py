"""Everything that a training leaves on disk, in one directory.

config.json     what was asked; a resumed run must ask the same, but for `rounds`
history.jsonl   one line a start: rounds asked, rounds done, and what the process computes
privacy.json    the facts that the epsilon rests on
metrics.csv     one line a round
ledger.jsonl    what each round may have revealed, charged before it runs
summary.json    what it ended with, once it has
tensorboard/    the same for TensorBoard; in privacy/ the ledger's statement after each round
checkpoints/    the process's state after each of the last rounds, and the digests of these
.lock           held by the training that runs
"""

import asyncio
import contextlib
import functools
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow_federated as tff

from tff_privacy_agg._files import read_json, read_table, remove_leftovers, sole_user, write_json
from tff_privacy_agg._tff import compat
from tff_privacy_agg._tff.checkpoints import Checkpoints
from tff_privacy_agg.aggregation.noise_history import holds_noise
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning.run_history import record_start, refuse_differences
from tff_privacy_agg.ledger import LedgerFacts

_CHECKPOINTS_KEPT = 3
# Rounds may grow; those that the noise was planned for are a record.
_MAY_DIFFER = ('rounds', 'planned_rounds')


def _number(text: str) -> float | None:
  try:
    return float({'True': '1', 'False': '0'}.get(text, text))
  except ValueError:
    return None  # a list of numbers, as of TFF's own metrics


def check_directory(path: pathlib.Path, config: Mapping[str, Any]) -> None:
  """Refuses a directory in which a training cannot begin or resume.

  Args:
    path: The directory.
    config: What defines the training, as JSON values.

  Raises:
    ConfigurationError: If it holds a training with another config, or files and no training.
  """
  if path.exists() and not path.is_dir():
    raise ConfigurationError(f'A run directory is a directory; {path} is a file. Choose another.')
  if not path.exists() or not any(path.iterdir()):
    return
  file = path / 'config.json'
  if not file.exists():
    raise ConfigurationError(
      f'A run directory is empty or holds a training; {path} holds other files. '
      'Choose another directory.'
    )
  found = read_json(file)
  asked = json.loads(json.dumps(dict(config)))
  # Version 0.1 wrote 0 and '' for unset, and fewer keys for a server.
  refuse_differences(
    path,
    (
      key
      for key in found
      if key not in _MAY_DIFFER and (found[key] or None) != (asked.get(key) or None)
    ),
  )


class RunDirectory:
  """The files of one training.

  Args:
    path: The directory; made if missing.
    config: What defines the training, as JSON values.

  Raises:
    ConfigurationError: If the directory holds a training with another config, or
      holds files and no training.
  """

  def __init__(self, path: str | os.PathLike[str], config: Mapping[str, Any]):
    self.path = pathlib.Path(path)
    check_directory(self.path, config)
    self.path.mkdir(parents=True, exist_ok=True)
    write_json(self.path / 'config.json', dict(config))
    self._checkpoints = Checkpoints(self.path / 'checkpoints', keep=_CHECKPOINTS_KEPT)

  @contextlib.contextmanager
  def locked(self) -> Iterator[None]:
    """Holds the directory for one training, and removes what killed ones left half written.

    A file system without locks refuses nobody.

    Raises:
      ConfigurationError: If another training runs in the directory.
    """
    refusal = (
      f'Another training runs in {self.path}. Wait for its end, or choose another directory.'
    )
    with sole_user(self.path, refusal):
      for name in ('config.json', 'privacy.json', 'summary.json'):
        remove_leftovers(self.path / name)
      self._checkpoints.remove_leftovers()
      self._check_metrics()
      yield

  def begin(self, identity: Mapping[str, Any], *, rounds: int, after: int) -> list[str]:
    """Compares a start with the one before, and records it in `history.jsonl`.

    Args:
      identity: What the training computes, and on whose data, as JSON values.
      rounds: Rounds asked in all.
      after: Rounds done.

    Returns:
      Lines that tell what was allowed to change, and has.

    Raises:
      ConfigurationError: If the model, its hyperparameters or the clients are others.
    """
    return record_start(self.path, identity, rounds=rounds, after=after)

  def write_privacy(self, facts: LedgerFacts | None) -> None:
    """Writes the facts that the epsilon rests on; None for a training without a ledger."""
    stated = {'private': False, 'note': 'trained without a ledger: epsilon is infinite'}
    if facts is not None:
      stated = {'private': True, **facts.stack, 'delta': facts.delta}
    write_json(self.path / 'privacy.json', stated)

  def latest(
    self, structure: Any, report: Callable[[str], None] = lambda line: None
  ) -> tuple[Any, int]:
    """The last checkpoint that is whole and its round, or (None, 0).

    Args:
      structure: A state of the process, whose structure the checkpoint has.
      report: Takes a line for each later checkpoint that is damaged.

    Raises:
      ConfigurationError: If there are checkpoints, and none can be loaded.
    """
    state, done, told = self._checkpoints.latest(structure)
    for line in told:
      report(line)
    return state, done

  def save(self, state: Any, round_number: int) -> None:
    """Keeps the state after a round; the oldest checkpoints go.

    Nobody but the owner can read those that hold the noise of earlier rounds.
    """
    self._checkpoints.save(state, round_number, private=holds_noise(state))

  def last_metrics(self) -> Mapping[str, float]:
    """The metrics of the last round that was released; empty before the first."""
    last = (read_table(self.path / 'metrics.csv') or [{}])[-1]
    # A column of an earlier version may be empty.
    numbers = {name: _number(text) for name, text in last.items() if text}
    return {name: number for name, number in numbers.items() if number is not None}

  def _check_metrics(self) -> None:
    """Removes a line that a crash cut off, and refuses a table that rounds cannot be added to."""
    file = self.path / 'metrics.csv'
    content = file.read_bytes() if file.exists() else b''
    whole = content.rfind(b'\n') + 1
    if whole < len(content):
      os.truncate(file, whole)
    if file.exists() and not whole:
      file.unlink()
    rounds = [row.get('round', '') for row in read_table(file)]
    wrong = [text for text in rounds if not (text.isascii() and text.isdigit())]
    if wrong:
      raise ConfigurationError(
        f'{file} has a row of the round {wrong[0][:20]!r}. Restore the file, or move it away: rounds '
        'go on without it.'
      )

  @functools.cached_property
  def _releases(self) -> compat.ReleaseManager:
    """Made with the first round: it reads the table, which must be whole."""
    return compat.GroupingReleaseManager(
      [
        tff.program.CSVFileReleaseManager(
          os.fspath(self.path / 'metrics.csv'), key_fieldname='round'
        ),
        tff.program.TensorBoardReleaseManager(os.fspath(self.path / 'tensorboard')),
      ]
    )

  def release(self, metrics: Mapping[str, Any], round_number: int) -> None:
    """Appends a round's metrics to the CSV file and to TensorBoard."""
    asyncio.run(self._releases.release(dict(metrics), round_number))
