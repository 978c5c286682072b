"""`tff-privacy-agg train`: a whole private training."""

import argparse
import dataclasses
import json
import math
import pathlib
import sys
import tomllib
from collections.abc import Mapping
from typing import Any

_EXAMPLES = """examples:
  tff-privacy-agg train
  tff-privacy-agg train --target-epsilon 5 --metrics private --run-dir runs/five
  tff-privacy-agg train --config run.toml --rounds 50
  tff-privacy-agg train --data mymodule:load --model mymodule:model --population 1000

run.toml holds the options without their dashes, such as `clients_per_round = 100`; options on the
command line win. A training that was interrupted goes on when the same command is run again.
"""


def add(commands) -> None:
  """Adds the command to the parser."""
  train = commands.add_parser(
    'train',
    help='train on the embedded digits or your data, epsilon printed each round',
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  train.set_defaults(run=_train)
  train.add_argument('--config', type=pathlib.Path, help='TOML file with any of the options')
  train.add_argument('--data', help="'digits', or module:function that gives FederatedExamples")
  train.add_argument('--model', help="'linear', or module:function that gives a TFF VariableModel")
  train.add_argument('--algorithm', choices=('fed_avg', 'fed_prox', 'fed_sgd', 'mime_lite'))
  train.add_argument('--no-privacy', action='store_true', help='no clipping, no noise')
  train.add_argument('--rounds', type=int)
  train.add_argument('--population', type=int, help='number of clients')
  train.add_argument('--clients-per-round', type=int)
  train.add_argument('--noise-multiplier', type=float, help='effective, of a whole round')
  train.add_argument(
    '--mechanism',
    choices=('discrete_gaussian', 'skellam', 'gaussian'),
    help='gaussian: the server adds the noise and sees the updates',
  )
  train.add_argument('--bits', type=int, help='bits a coordinate of the secure sum')
  train.add_argument('--target-epsilon', type=float, help='budget at which the training stops')
  train.add_argument('--delta', type=float)
  train.add_argument('--participation-cap', type=int, help='most rounds of one client')
  train.add_argument(
    '--metrics', choices=('none', 'private', 'clear'), help='what becomes of training metrics'
  )
  train.add_argument(
    '--randomness', choices=('chacha20', 'philox'), help='philox is for simulations only'
  )
  for name in ('client-learning-rate', 'server-learning-rate', 'server-momentum'):
    train.add_argument(f'--{name}', type=float)
  train.add_argument('--proximal-strength', type=float, help='of fed_prox')
  train.add_argument('--local-epochs', type=int)
  train.add_argument('--batch-size', type=int)
  train.add_argument('--seed', type=int, help='of the split, the cohorts and the model')
  train.add_argument(
    '--run-dir',
    type=pathlib.Path,
    help='where the files go; resumes the training there (default: a directory under runs/)',
  )
  train.add_argument('--json', action='store_true', help='summary for machines on stdout')


def _train(args: argparse.Namespace) -> int:
  given = _given(args)
  from tff_privacy_agg import learning, runtime
  from tff_privacy_agg.learning.training_task import TrainingTask

  say = sys.stderr if args.json else sys.stdout
  task = TrainingTask(**given)
  config = dataclasses.asdict(task)
  if args.config:
    print(*(f'{name} = {json.dumps(value)}' for name, value in config.items()), sep='\n', file=say)
  path = args.run_dir or _default_directory(task, config)
  with runtime.simulation_context(), runtime.explained():
    examples = task.load()
    process = task.process()  # refuses a design that cannot exist before anything is written
    directory = learning.RunDirectory(path, config)
    directory.write_privacy(_facts(task, process))
    each = len(examples.train.create_tf_dataset_for_client(examples.train.client_ids[0]))
    print(
      f'{task.data}: {task.population} clients, the first with {each} examples, '
      f'{task.clients_per_round} a round, {task.rounds} rounds; run directory {path}',
      file=say,
    )
    result = learning.train(
      process,
      examples.train,
      task.rounds,
      preprocess=task.preprocess,
      cohorts=task.cohorts(examples),
      run_directory=directory,
      evaluate=task.evaluator(examples),
      report=lambda line: print(line, file=say, flush=True),
    )
  summary = _summary(task, result)
  learning.run_directory.write_json(directory.path / 'summary.json', summary)
  if args.json:
    print(json.dumps({**summary, 'run_dir': str(path)}, indent=2))
  else:
    print(_summary_text(task, summary, path))
  return 0


def _given(args: argparse.Namespace) -> dict[str, Any]:
  """What the file and the command line say; the command line wins."""
  from tff_privacy_agg.learning.training_task import TrainingTask

  names = [field.name for field in dataclasses.fields(TrainingTask)]
  given = {} if args.config is None else _read(args.config, names)
  given.update({name: value for name in names if (value := getattr(args, name, None)) is not None})
  if args.no_privacy or given.get('noise_multiplier') == 0:
    given['noise_multiplier'] = None
  return given


def _read(path: pathlib.Path, names: list[str]) -> dict[str, Any]:
  from tff_privacy_agg.errors import ConfigurationError

  try:
    found = tomllib.loads(path.read_text(encoding='utf-8'))
  except (OSError, ValueError) as error:
    raise ConfigurationError(
      f'A TOML file was to be read; {path} cannot be: {error}. Correct it.'
    ) from error
  unknown = sorted({*found} - {*names})
  if unknown:
    raise ConfigurationError(
      f'{path} sets {", ".join(unknown)}; a training has {", ".join(names)}. Correct the name.'
    )
  return found


def _facts(task, process) -> Mapping[str, Any]:
  if task.noise_multiplier is None:
    return {'private': False, 'note': 'trained without privacy: epsilon is infinite'}
  return {'private': True, **process.facts.stack, 'delta': process.facts.delta}


def _default_directory(task, config) -> pathlib.Path:
  """The first directory under runs/ that is free, or holds this training unfinished."""
  kind = 'no-privacy' if task.noise_multiplier is None else 'private'
  kind = f'{task.data.rpartition(":")[2]}-{kind}'
  wanted = json.loads(json.dumps(config))
  number = 1
  while True:
    path = pathlib.Path('runs') / (kind + (f'-{number}' if number > 1 else ''))
    if not path.exists():
      return path
    config_file, summary_file = path / 'config.json', path / 'summary.json'
    unfinished = config_file.exists() and not summary_file.exists()
    if unfinished and json.loads(config_file.read_text(encoding='utf-8')) == wanted:
      return path
    number += 1


def _summary(task, result) -> dict[str, Any]:
  def finite(name: str) -> float | None:
    value = float(result.metrics.get(name, math.inf))
    return value if math.isfinite(value) else None

  return {
    'accuracy': finite('accuracy'),
    'loss': finite('loss'),
    'epsilon': finite('ledger/epsilon'),
    'release_epsilon': finite('ledger/release_epsilon'),
    'delta': float(result.metrics.get('privacy/delta', task.delta)),
    'rounds': task.rounds,
    'stopped': result.stopped,
    'complete': bool(result.metrics.get('ledger/complete', False)),
    'population': task.population,
  }


def _summary_text(task, summary, path) -> str:
  lines = []
  if summary['accuracy'] is not None:
    lines.append(f'accuracy {100 * summary["accuracy"]:.1f} % on held-out examples')
  elif summary['loss'] is not None:
    lines.append(f'loss {summary["loss"]:.4g} on held-out examples')
  if task.noise_multiplier is None:
    privacy = 'no privacy: epsilon is infinite'
  else:
    if summary['epsilon'] is None:
      privacy = f'release epsilon {summary["release_epsilon"]:.2f} (the server sees the updates)'
    else:
      privacy = f'epsilon {summary["epsilon"]:.2f}, also against the server'
    privacy += (
      f', at delta {summary["delta"]:.2g}; unit: one client, zero-out adjacency, '
      'no amplification by sampling'
    )
    if not summary['complete']:
      privacy += '\nNOT COVERED by it: training metrics, which leave the clients in the clear'
  files = 'metrics.csv, tensorboard/, checkpoints/, privacy.json, summary.json'
  if task.noise_multiplier is not None:
    files += ', ledger.jsonl'
  return '\n'.join([*lines, privacy, f'{path}: {files}'])
