"""The configuration of a training: from a file and the command line, and back into a file."""

import argparse
import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from tff_privacy_agg.learning.options import TrainingOptions

# Options that a file may hold beside those of the task.
_OF_THE_RUN = {'no_privacy': bool, 'run_dir': str, 'json': bool}


def given(args: argparse.Namespace) -> dict[str, Any]:
  """What the file and the command line say of the task; the command line wins.

  What the file says of the run itself is put into `args`; `args.flags` keeps what it does not say.

  Raises:
    ConfigurationError: If the file cannot be read, or holds what no training has.
  """
  from tff_privacy_agg import _validate

  names = [field.name for field in dataclasses.fields(TrainingOptions)]
  found: dict[str, Any] = {}
  if args.config is not None:
    from tff_privacy_agg.deployment.config import read_toml

    found = read_toml(args.config, 'a training', [*names, *_OF_THE_RUN])
  said = {name: value for name in names if (value := getattr(args, name, None)) is not None}
  # A refusal names what the file says as the file does.
  args.flags = {
    name: flag for name, flag in args.flags.items() if name in said or name not in found
  }
  _refuse_both(bool(found.get('no_privacy')), found, str(args.config))
  for name, kind in _OF_THE_RUN.items():
    value = found.pop(name, None)
    if value is not None:
      _validate.instance(kind, **{name: value})
      setattr(args, name, getattr(args, name) or value)
  if args.run_dir is not None:
    args.run_dir = pathlib.Path(args.run_dir)
  _refuse_both(args.no_privacy, said, 'the command line')
  found.update(said)
  if args.no_privacy:
    found.update(noise_multiplier=None, target_epsilon=None)
  if found.get('noise_multiplier') == 0:
    found['noise_multiplier'] = None
  return found


def _refuse_both(no_privacy: bool, options: Mapping[str, Any], where: str) -> None:
  from tff_privacy_agg.errors import ConfigurationError

  for name in ('noise_multiplier', 'target_epsilon'):
    if no_privacy and options.get(name):
      raise ConfigurationError(
        f'No privacy was asked for; {where} sets `{name}` to {options[name]}. Leave one of them out.'
      )


def as_toml(config: Mapping[str, Any], path: pathlib.Path, as_json: bool) -> str:
  """The effective configuration as a file that `--config` takes."""
  whole = {**config, 'run_dir': str(path), 'json': as_json}
  whole['no_privacy'] = config['noise_multiplier'] is None
  return '\n'.join(
    f'# {name}: none' if value is None else f'{name} = {json.dumps(value, ensure_ascii=False)}'
    for name, value in whole.items()
  )
