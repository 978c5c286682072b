"""The greatest round number that was used for each task, kept on disk."""

import json
import os
import pathlib
from collections.abc import Mapping

from tff_privacy_agg._files import read_bounded, remove_leftovers, write_json
from tff_privacy_agg.errors import ConfigurationError


class RoundBook:
  """Numbers that only grow, across restarts.

  A client refuses a session whose number it has served; a server never gives a number twice.

  Args:
    path: JSON file; made at the first record.

  Raises:
    ConfigurationError: If the file holds something else.
  """

  def __init__(self, path: str | os.PathLike[str]):
    self._path = pathlib.Path(path)
    self._rounds: dict[str, int] = {}
    remove_leftovers(self._path)
    if self._path.exists():
      try:
        self._rounds = json.loads(read_bounded(self._path, 2**28))
        for number in self._rounds.values():
          if type(number) is not int or not 0 <= number < 2**64:
            raise ValueError(f'{number!r:.40} is no number of a round')
      except (ValueError, AttributeError, RecursionError) as error:
        raise ConfigurationError(
          f'{self._path} is not a list of served rounds ({error}). Restore it: without it a round '
          'could be served twice.'
        ) from None

  def last(self, task: str) -> int | None:
    """The greatest number of the task; None before the first."""
    return self._rounds.get(task)

  def record(self, task: str, number: int) -> None:
    """Keeps a number; on disk when this returns."""
    self._rounds[task] = max(number, self._rounds.get(task, 0))
    self._path.parent.mkdir(parents=True, exist_ok=True)
    write_json(self._path, self._rounds)

  def catch_up(self, task: str, reported: Mapping[int, int], liars: int) -> int | None:
    """Goes above what clients have served, after this book was lost; in one step.

    Args:
      task: The task.
      reported: {client: the greatest number that it says it has served, 0 before the first}.
      liars: Clients that may report anything; they can neither hold the number back nor push it
        above what an honest client reports.

    Returns:
      The number that was recorded, the largest that `liars` + 1 clients reach; None if this book is
      not behind it.
    """
    numbers = sorted(reported.values(), reverse=True)
    reached = numbers[liars] if liars < len(numbers) else 0
    if reached <= (self.last(task) or 0):
      return None
    self.record(task, reached)
    return reached

  def draw(self, task: str) -> int:
    """The next number of the task, recorded before it is used."""
    number = (self.last(task) or 0) + 1
    self.record(task, number)
    return number
