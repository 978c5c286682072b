"""The configuration of a training: from a file and the command line, and back into a file."""

import argparse
import json
import pathlib
from collections.abc import Mapping
from typing import Any

# {section: {key: option}}; docs/glossary.md explains the keys.
SECTIONS: Mapping[str, Mapping[str, str]] = {
  'run': {'directory': 'run_dir', 'rounds': 'rounds', 'seed': 'seed', 'json': 'json'},
  'data': {'source': 'data', 'directory': 'data_directory', 'population': 'population'},
  'model': {'source': 'model'},
  'cohort': {'clients_per_round': 'clients_per_round'},
  'privacy': {
    'enabled': 'no_privacy',
    **{
      name: name
      for name in (
        'noise_multiplier',
        'mechanism',
        'bits',
        'target_epsilon',
        'delta',
        'participation_cap',
        'metrics',
        'randomness',
      )
    },
  },
  'training': {
    name: name
    for name in (
      'algorithm',
      'client_learning_rate',
      'server_learning_rate',
      'server_momentum',
      'proximal_strength',
      'local_epochs',
      'batch_size',
    )
  },
  'session': {'mode': 'secure_sum', 'dropout_rate': 'dropout_rate'},
}
# Options of the run itself, not those of the task.
_OF_THE_RUN = {'no_privacy': bool, 'run_dir': str, 'json': bool}
_KEY_OF = {
  option: (section, key) for section, keys in SECTIONS.items() for key, option in keys.items()
}
# Version 0.1 had no sections, and the names of the options as keys.
_MOVED = {
  option: f'`[{section}] {key}`' + (' = false' if key == 'enabled' else '')
  for option, (section, key) in _KEY_OF.items()
}


def given(args: argparse.Namespace) -> dict[str, Any]:
  """Task options of the file and the command line; the command line wins.

  What the file says of the run itself is put into `args`; `args.flags` names what only the file
  says as the file does.

  Raises:
    ConfigurationError: If the file cannot be read, or holds what no training has.
  """
  names = [option for option in _KEY_OF if option not in _OF_THE_RUN]
  found = {} if args.config is None else _of_file(args.config)
  said = {name: value for name in names if (value := getattr(args, name, None)) is not None}
  args.flags = {
    name: flag if name in said or name not in found else f'{_in_file(name)} of {args.config}'
    for name, flag in args.flags.items()
  }
  args.flags['num_clients'] = args.flags['population']  # of the functions that make the data
  _refuse_unused(found, found, bool(found.get('no_privacy')), of_file=True)
  for name in _OF_THE_RUN:
    value = found.pop(name, None)
    if value is not None:
      setattr(args, name, getattr(args, name) or value)
  if args.run_dir is not None:
    args.run_dir = pathlib.Path(args.run_dir)
  found.update(said)
  _refuse_unused(said, found, args.no_privacy, of_file=False)
  if args.no_privacy:
    found.update(noise_multiplier=None, target_epsilon=None)
  return found


def _of_file(path: pathlib.Path) -> dict[str, Any]:
  """Options of the configuration file, by name."""
  from tff_privacy_agg import _validate
  from tff_privacy_agg._config_file import read_sections

  content = read_sections(path, SECTIONS, _MOVED)
  found = {
    SECTIONS[section][key]: value
    for section, keys in content.items()
    for key, value in keys.items()
  }
  for option, kind in _OF_THE_RUN.items():
    if option in found:
      _validate.instance(kind, **{f'{_in_file(option)[1:]} of {path}': found[option]})
  if 'no_privacy' in found:
    found['no_privacy'] = not found['no_privacy']
  return found


def _in_file(option: str) -> str:
  section, key = _KEY_OF[option]
  return f'`[{section}] {key}`'


def _refuse_unused(
  said: Mapping[str, Any], values: Mapping[str, Any], no_privacy: bool, *, of_file: bool
) -> None:
  """Refuses options that this training would ignore.

  Args:
    said: What one source says.
    values: What counts of all options.
    no_privacy: Whether that source asks for no privacy.
    of_file: Whether the source is a file; it may say defaults, as those that 0.2 printed do.
  """
  from tff_privacy_agg.errors import ConfigurationError
  from tff_privacy_agg.learning import options

  where = 'the configuration file' if of_file else 'the command line'

  def ignored(name: str) -> bool:
    value = said.get(name)
    default = getattr(options.TrainingOptions, name)
    return value is not None and not (of_file and value == default)

  for name in options.OF_PRIVACY:
    if no_privacy and ignored(name) and said[name] not in (0.0, 'none'):
      raise ConfigurationError(
        f'The run has no privacy (`--no-privacy`), but {where} sets `{name}` to {said[name]}. '
        'Leave one of them out.'
      )
  for name, reason in options.unused(values).items():
    if ignored(name):
      raise ConfigurationError(
        f'`{name}` is {said[name]!r} and would do nothing: {reason}. Leave it out.'
      )


def as_toml(config: Mapping[str, Any], path: pathlib.Path, as_json: bool) -> str:
  """The effective configuration as a file that `--config` takes."""
  from tff_privacy_agg.learning import options

  whole = {**config, 'run_dir': str(path), 'json': as_json}
  # In the file the key says whether there is privacy.
  whole['no_privacy'] = config['noise_multiplier'] is not None
  unused = {*options.unused(config), *(() if whole['no_privacy'] else options.OF_PRIVACY)}
  lines = []
  for section, keys in SECTIONS.items():
    lines.append(f'[{section}]')
    for key, option in keys.items():
      value = whole[option]
      if value is None or option in unused:
        lines.append(f'# {key} is not {"set" if value is None else "used"}')
      else:
        lines.append(f'{key} = {json.dumps(value, ensure_ascii=False)}')
  return '\n'.join(lines)
