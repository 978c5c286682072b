"""The command `tff-privacy-agg`."""

import argparse
import contextlib
import dataclasses
import json
import math
import os
import pathlib
import sys
from collections.abc import Sequence

# TensorFlow reads this when it is imported: no start-up notices between progress lines.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  parser = _parser()
  args = parser.parse_args(arguments)
  from tff_privacy_agg.errors import PrivacyAggError

  try:
    return args.run(args)
  except PrivacyAggError as error:
    print(f'tff-privacy-agg: {error}', file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print('\ninterrupted; the same command resumes', file=sys.stderr)
    return 130


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='tff-privacy-agg',
    description='Private federated training with TFF: noise, secure sums and a true epsilon.',
  )
  commands = parser.add_subparsers(dest='command', required=True)
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
  plan = commands.add_parser('plan', help='noise, bits and cost for a target epsilon')
  plan.set_defaults(run=_plan)
  plan.add_argument('--target-epsilon', type=float, required=True)
  plan.add_argument(
    '--target-delta', type=float, help='default: a tenth of one over the population'
  )
  plan.add_argument('--rounds', type=int, required=True)
  plan.add_argument('--clients-per-round', type=int, required=True)
  plan.add_argument('--population', type=int, required=True, help='number of clients')
  plan.add_argument('--parameters', type=int, required=True, help='trainable numbers of the model')
  plan.add_argument('--mechanism', choices=('discrete_gaussian', 'skellam'))
  plan.add_argument('--bits', type=int, help='default: the fewest that are worthwhile')
  plan.add_argument('--dropout', type=float, help='fraction that may drop out')
  plan.add_argument('--colluding-fraction', type=float, help='whose noise the server knows')
  plan.add_argument(
    '--sampling', choices=('none', 'poisson'), help='poisson: for readers of the models only'
  )
  plan.add_argument('--participation-cap', type=int, help='most rounds of one client')
  plan.add_argument('--json', action='store_true', help='for machines')
  for name, run, about in (
    ('epsilon', _epsilon, 'what a ledger has spent, by view'),
    ('verify', _verify, 'check a ledger line by line, and compute it anew'),
    ('statement', _statement, 'the privacy card of a ledger'),
  ):
    command = commands.add_parser(name, help=about)
    command.set_defaults(run=run)
    command.add_argument('ledger', type=pathlib.Path)
    if name == 'epsilon':
      command.add_argument('--delta', type=float, help='default: that of the ledger')
    if name == 'verify':
      command.add_argument('--hash', help='hash of a line as it was once published')
    if name == 'statement':
      command.add_argument('--format', choices=('text', 'json', 'html'), default='text')
  doctor = commands.add_parser('doctor', help='say what is installed and whether it works')
  doctor.set_defaults(run=_doctor)
  doctor.add_argument('--json', action='store_true', help='for machines')
  return parser


def _doctor(args: argparse.Namespace) -> int:
  from tff_privacy_agg import doctor

  return doctor.main(as_json=args.json)


def _plan(args: argparse.Namespace) -> int:
  from tff_privacy_agg import accounting
  from tff_privacy_agg.numerics import hadamard

  chosen = ('mechanism', 'bits', 'dropout', 'colluding_fraction', 'sampling', 'participation_cap')
  delta = args.target_delta or 0.1 / max(args.population, 1)
  result = accounting.plan(
    target_epsilon=args.target_epsilon,
    target_delta=delta,
    rounds=args.rounds,
    clients_per_round=args.clients_per_round,
    population=args.population,
    dimension=hadamard.padded_dimension(max(args.parameters, 1)),
    **{name: getattr(args, name) for name in chosen if getattr(args, name) is not None},
  )
  if args.json:
    print(json.dumps(result.as_dict(), indent=2))
    return 0
  for name, value in result.as_dict().items():
    if name != 'reasons':
      print(f'{name:<20} {f"{value:.6g}" if isinstance(value, float) else value}')
  print(*(f'- {reason}' for reason in result.reasons), sep='\n')
  return 0


def _epsilon(args: argparse.Namespace) -> int:
  from tff_privacy_agg import accounting

  record = accounting.LedgerRecord.read(args.ledger)
  for view in ('server', 'release'):
    spent = record.spent(view, args.delta)
    print(
      f'{view}: epsilon {spent.epsilon:.6g} at delta {spent.delta:g}, unit one '
      f'{record.facts.unit}, adjacency {record.facts.stack["adjacency"]}, {spent.rounds} rounds, '
      f'{spent.unsettled} of them charged at the worst'
    )
  if not record.complete:
    print(f'NOT COMPLETE: {", ".join(record.unaccounted)}')
  return 0


def _verify(args: argparse.Namespace) -> int:
  from tff_privacy_agg import accounting

  found = accounting.verify(args.ledger, expected_hash=args.hash)
  for problem in found.problems:
    print(f'PROBLEM: {problem}')
  for remark in found.remarks:
    print(f'note: {remark}')
  print(f'{"verified" if found.ok else "NOT verified"}: {found.lines} lines, hash {found.hash}')
  return 0 if found.ok else 1


def _statement(args: argparse.Namespace) -> int:
  from tff_privacy_agg import accounting

  print(accounting.LedgerRecord.read(args.ledger).statement(args.format), end='')
  return 0


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
      client_data=examples.train,
      preprocess=task.preprocess,
      cohorts=learning.UniformCohorts(
        client_ids=examples.train.client_ids, size=task.clients_per_round, seed=task.seed
      ),
      rounds=task.rounds,
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
