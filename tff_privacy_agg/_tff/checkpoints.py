"""Checkpoints of a process's state, and what of them is damaged.

Each is a SavedModel, as TFF writes it. SavedModels have no checksum of their own for all they hold:
a changed byte would change the model, or crash TensorFlow. So `digests.json` holds one of each.
"""

import asyncio
import contextlib
import errno
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_privacy_agg._files import digest, read_json, write_json
from tff_privacy_agg.errors import ConfigurationError

_PREFIX = 'program_state_'


class Checkpoints:
  """The checkpoints in a directory.

  Args:
    path: The directory; made when the first one is saved.
    keep: How many are kept.
  """

  def __init__(self, path: pathlib.Path, keep: int = 1):
    self._path = path
    self._keep = keep

  def rounds(self) -> list[int]:
    """Rounds whose checkpoint is there, damaged or not."""
    names = (one.name.removeprefix(_PREFIX) for one in self._path.glob(f'{_PREFIX}*'))
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())

  def damage(self, number: int) -> str:
    """Describes what is wrong with the files of a checkpoint; empty if nothing is."""
    found = self._digests().get(str(number))
    if found is not None and found != digest(self._of(number)):
      return 'its files are not what was written'
    return ''

  def value(self, number: int) -> Any:
    """The value that a round's checkpoint holds, as TensorFlow loads it.

    Raises:
      ConfigurationError: If it is damaged.
    """
    why = self.damage(number)
    if not why:
      try:
        return tf.saved_model.load(os.fspath(self._of(number)))()
      except Exception as error:  # whatever TensorFlow makes of damaged files
        why = _first_line(error)
    raise ConfigurationError(
      f'The checkpoint of round {number} in {self._path} is damaged: {why}. Restore it, or choose '
      'another round.'
    )

  def latest(self, structure: Any) -> tuple[Any, int, list[str]]:
    """The last checkpoint that is whole.

    Args:
      structure: A state of the process, whose structure it has.

    Returns:
      The state, its round, and a sentence for each later checkpoint that is damaged; without a
      checkpoint (None, 0, []).

    Raises:
      ConfigurationError: If all are damaged, or the last whole one has another structure.
    """
    told: list[str] = []
    for number in reversed(self.rounds()):
      why = self.damage(number)
      if not why:
        state, why = self._load(number, structure)
        if not why:
          return state, number, told
        if str(number) in self._digests():
          raise ConfigurationError(
            f'The checkpoint of round {number} in {self._path} cannot be loaded: {why}. Resume with '
            'the process that wrote it.'
          )
      told.append(f'the checkpoint of round {number} is damaged and not used: {why}')
    if told:
      raise ConfigurationError(
        f'No checkpoint in {self._path} can be read: {told[0]}. Restore one, or choose another '
        'directory.'
      )
    return None, 0, []

  def save(self, state: Any, number: int, *, private: bool = False) -> None:
    """Keeps the state after a round; the oldest checkpoints go.

    Checkpoints of this round and of later ones, which were not resumed from, are set aside.

    Args:
      state: The state.
      number: Of the round.
      private: Whether nobody but the owner may read it.
    """
    for other in self.rounds():
      if other >= number:
        aside = self._path / f'damaged_{other}'
        shutil.rmtree(aside, ignore_errors=True)
        self._of(other).rename(aside)
    if private:
      self._path.mkdir(parents=True, exist_ok=True)
      self._path.chmod(0o700)  # before there is a file in it
    with system_errors(self._of(number)):
      asyncio.run(self._manager().save(state, number))
    if private:
      for file in self._of(number).rglob('*'):
        file.chmod(0o700 if file.is_dir() else 0o600)
    kept = {one: self._digests().get(str(one)) for one in self.rounds() if one != number}
    found = {str(one): known for one, known in kept.items() if known is not None}
    write_json(self._path / 'digests.json', {**found, str(number): digest(self._of(number))})

  def remove_leftovers(self) -> None:
    """Removes what killed saves left; nobody else may be saving."""
    for left in self._path.glob(f'{_PREFIX}*_temp*'):
      shutil.rmtree(left, ignore_errors=True)

  def _load(self, number: int, structure: Any) -> tuple[Any, str]:
    """A state, or why it is none of the structure."""
    try:
      state = asyncio.run(self._manager().load(number, structure))
    except Exception as error:  # whatever TensorFlow makes of damaged files
      return None, _first_line(error)
    pairs = zip(tf.nest.flatten(state), tf.nest.flatten(structure), strict=True)
    unlike = sum(_kind(one) != _kind(other) for one, other in pairs)
    return state, f'{unlike} of its arrays have another type' if unlike else ''

  def _digests(self) -> dict[str, Any]:
    try:
      return read_json(self._path / 'digests.json', missing={})
    except ConfigurationError:
      return {}  # then nothing is known of the checkpoints, as with those of earlier versions

  def _of(self, number: int) -> pathlib.Path:
    return self._path / f'{_PREFIX}{number}'

  def _manager(self) -> tff.program.FileProgramStateManager:
    return tff.program.FileProgramStateManager(
      os.fspath(self._path), prefix=_PREFIX, keep_total=self._keep, keep_first=False
    )


@contextlib.contextmanager
def system_errors(path: pathlib.Path) -> Iterator[None]:
  """Raises what TensorFlow says of a file that it could not write as the system's error.

  Args:
    path: What is written.
  """
  try:
    yield
  except tf.errors.OpError as error:
    full = isinstance(error, tf.errors.ResourceExhaustedError)
    number = errno.ENOSPC if full else errno.EIO
    raise OSError(number, os.strerror(number), os.fspath(path)) from error


def _kind(value: Any) -> tuple[np.dtype, int]:
  array = np.asarray(value)
  return array.dtype, array.ndim


def _first_line(error: Exception) -> str:
  text = next(iter(str(error).splitlines()), '')
  return text.rstrip('.')[:200] or type(error).__name__
