"""`tff-privacy-agg train`: a whole private training."""

import argparse
import contextlib
import dataclasses
import json
import math
import pathlib


def add(commands) -> None:
  """Adds the command to the parser."""
  train = commands.add_parser(
    'train', help='train on the embedded digits, epsilon printed each round'
  )
  train.set_defaults(run=_train)
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
  train.add_argument('--delta', type=float)
  train.add_argument(
    '--randomness', choices=('chacha20', 'philox'), help='philox is for simulations only'
  )
  train.add_argument('--seed', type=int, help='of the split, the cohorts and the model')
  train.add_argument(
    '--run-dir',
    type=pathlib.Path,
    help='where the files go; resumes the training there (default: a directory under runs/)',
  )


def _train(args: argparse.Namespace) -> int:
  from tff_privacy_agg import accounting, learning, runtime
  from tff_privacy_agg.learning.digits_task import DigitsTask

  given = {
    field.name: getattr(args, field.name)
    for field in dataclasses.fields(DigitsTask)
    if getattr(args, field.name, None) is not None
  }
  if args.no_privacy:
    given['noise_multiplier'] = None
  task = DigitsTask(**given)
  config = dataclasses.asdict(task)
  path = args.run_dir or _default_directory(task, config)
  facts = task.facts()  # refuses a design that cannot exist before anything is written
  directory = learning.RunDirectory(path, config)
  directory.write_privacy(facts)
  ledger = None
  if facts['private']:
    ledger = accounting.PrivacyLedger(
      directory.path / 'ledger.jsonl',
      accounting.LedgerFacts(
        stack=facts,
        delta=task.delta,
        population=task.population,
        randomness=task.randomness,
        secagg_threshold=task.clients_per_round,  # nobody drops out of the simulation
        sampling='uniform, fixed size, without repetition within a round',
        task='linear model on the digits of scikit-learn',
      ),
    )
  examples = task.load()
  each = len(examples.train.create_tf_dataset_for_client(examples.train.client_ids[0]))
  print(
    f'digits: {task.population} clients with {each} examples each, '
    f'{task.clients_per_round} a round, {task.rounds} rounds; run directory {path}'
  )
  with ledger or contextlib.nullcontext(), runtime.simulation_context(), runtime.explained():
    result = learning.train(
      task.process(),
      examples.train,
      task.rounds,
      preprocess=task.preprocess,
      cohorts=learning.UniformCohorts(
        client_ids=examples.train.client_ids, size=task.clients_per_round, seed=task.seed
      ),
      run_directory=directory,
      evaluate=task.evaluator(examples),
      ledger=ledger,
    )
  summary = _summary(task, result.metrics)
  learning.run_directory.write_json(directory.path / 'summary.json', summary)
  print(_summary_text(task, summary, path))
  return 0


def _default_directory(task, config) -> pathlib.Path:
  """The first directory under runs/ that is free, or holds this training unfinished."""
  kind = 'no-privacy' if task.noise_multiplier is None else 'private'
  wanted = json.loads(json.dumps(config))
  number = 1
  while True:
    path = pathlib.Path('runs') / (f'digits-{kind}' + (f'-{number}' if number > 1 else ''))
    if not path.exists():
      return path
    config_file, summary_file = path / 'config.json', path / 'summary.json'
    unfinished = config_file.exists() and not summary_file.exists()
    if unfinished and json.loads(config_file.read_text(encoding='utf-8')) == wanted:
      return path
    number += 1


def _summary(task, metrics) -> dict:
  epsilon = metrics.get('ledger/epsilon', math.inf)
  release = metrics.get('ledger/release_epsilon', math.inf)
  return {
    'accuracy': float(metrics['accuracy']),
    'loss': float(metrics['loss']),
    'epsilon': float(epsilon) if math.isfinite(epsilon) else None,
    'release_epsilon': float(release) if math.isfinite(release) else None,
    'delta': float(metrics.get('privacy/delta', task.delta)),
    'rounds': task.rounds,
    'population': task.population,
  }


def _summary_text(task, summary, path) -> str:
  accuracy = f'accuracy {100 * summary["accuracy"]:.1f} % on held-out digits'
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
  files = 'metrics.csv, tensorboard/, checkpoints/, privacy.json, summary.json'
  if task.noise_multiplier is not None:
    files += ', ledger.jsonl'
  return f'{accuracy}\n{privacy}\n{path}: {files}'
