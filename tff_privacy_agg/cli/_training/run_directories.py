"""The run directory of a training: one that is there, or the next that is free."""

import dataclasses
import pathlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from tff_privacy_agg.learning.training_task import TrainingTask


def recorded_noise(path: pathlib.Path) -> tuple[float, int] | None:
  """Noise multiplier of the training in a directory, and the rounds that it was planned for."""
  from tff_privacy_agg._files import read_json

  file = path / 'config.json'
  if not file.exists():
    return None
  found = read_json(file)
  noise = found.get('noise_multiplier')
  return None if noise is None else (noise, found.get('planned_rounds') or found.get('rounds', 0))


def default_directory(task: 'TrainingTask', plans: bool) -> pathlib.Path:
  """The first directory under runs/ that is free, or holds this training unfinished.

  Args:
    task: The training.
    plans: Whether its noise follows from the target, so that the one there is taken.
  """
  from tff_privacy_agg._files import read_json

  config = dataclasses.asdict(task)
  open_keys = {'rounds', 'planned_rounds'} | ({'noise_multiplier'} if plans else set())
  kind = 'no-privacy' if task.noise_multiplier is None else 'private'
  kind = f'{task.data.rpartition(":")[2]}-{kind}'
  number = 1
  while True:
    path = pathlib.Path('runs') / (kind + (f'-{number}' if number > 1 else ''))
    if not path.exists():
      return path
    config_file, summary_file = path / 'config.json', path / 'summary.json'
    if config_file.exists() and not summary_file.exists():
      found = read_json(config_file)
      if all(found.get(key) == config[key] for key in config if key not in open_keys):
        return path
    number += 1
