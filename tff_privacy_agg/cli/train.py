"""`tff-privacy-agg train`: a whole private training."""

import argparse
import contextlib
import dataclasses
import json
import math
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tff_privacy_agg._wording import counted
from tff_privacy_agg.cli import _flags, _progress
from tff_privacy_agg.cli._training import arguments, closing, run_config, run_directories
from tff_privacy_agg.learning.options import TrainingOptions

if TYPE_CHECKING:
  from tff_privacy_agg.learning.training_task import TrainingTask
  from tff_privacy_agg.runtime import RoundReport

_EXAMPLES = """examples:
  tff-privacy-agg train
  tff-privacy-agg train --target-epsilon 5 --metrics private --run-dir runs/five
  tff-privacy-agg train --config run.toml --rounds 50
  tff-privacy-agg train --secure-sum semi_honest --dropout-rate 0.05
  tff-privacy-agg train --data emnist --population 3000 --client-learning-rate 0.1
  tff-privacy-agg train --data mymodule:load --model mymodule:model --population 1000

With --config, a training prints its configuration as such a file: sections such as [cohort] with keys
such as `clients_per_round = 100`. Options on the command line win. A training that was interrupted
goes on when the same command is run again; more --rounds continue one that has ended.
"""
_DECIMALS = 10_000  # of the fractions of a session


def add(commands: _flags.Commands) -> None:
  """Adds the command to the parser."""
  train = commands.add_parser(
    'train',
    help='train on the embedded digits or your data, epsilon printed each round',
    epilog=_EXAMPLES,
  )
  train.set_defaults(run=_train, resumes=True)
  arguments.add_options(train)


def _train(args: argparse.Namespace) -> int:
  given = run_config.given(args)
  options = TrainingOptions(**given)
  plans = options.target_epsilon is not None and 'noise_multiplier' not in given
  with _progress.waiting('starting TensorFlow Federated'):
    from tff_privacy_agg import learning, runtime
    from tff_privacy_agg.learning.preparation.target_noise import noise_for_target
    from tff_privacy_agg.learning.run_directory import check_directory
    from tff_privacy_agg.learning.training_task import TrainingTask

  task = TrainingTask(**dataclasses.asdict(options))
  say = sys.stderr if args.json else sys.stdout
  path = args.run_dir or run_directories.default_directory(task, plans)
  planned = run_directories.recorded_noise(path) if plans else None
  if plans and planned is None:
    with _progress.waiting('planning the noise'):
      planned = noise_for_target(task), task.rounds
  if planned is not None:
    task = dataclasses.replace(task, noise_multiplier=planned[0])
    print(
      f'noise multiplier {planned[0]:g}, planned for epsilon {task.target_epsilon:g} over '
      f'{counted(planned[1], "round")}',
      file=say,
    )
  config = {**dataclasses.asdict(task), 'planned_rounds': planned[1] if planned else None}
  check_directory(path, config)
  if args.config:
    print(run_config.as_toml(config, path, args.json), file=say)
  with _context(task) as context, runtime.explained():
    with _progress.waiting(f'reading {task.data} and building the process'):
      examples = task.load()
      process = task.process()  # refuses a design that cannot exist before anything is written
      training: dict[str, Any] = {
        'preprocess': task.preprocess,
        'cohorts': task.cohorts(examples),
        'evaluate': task.evaluator(examples),
      }
      learning.check_training(process, examples.train, task.rounds, **training)
    directory = learning.RunDirectory(path, config)
    print(
      f'{task.data}: {counted(task.population, "client")}, {task.clients_per_round} a round, '
      f'{counted(task.rounds, "round")}; run directory {path}',
      file=say,
    )
    with closing.sums_that_fail(path):
      result = learning.train(
        process,
        examples.train,
        task.rounds,
        run_directory=directory,
        report=lambda line: print(line, file=say, flush=True),
        **training,
      )
    last_sum = getattr(context, 'last_round', None)
  summary = {
    **closing.summary(result, task.rounds),
    'delta': float(result.metrics.get('privacy/delta', task.delta)),
    'population': task.population,
    'secure_sum': task.secure_sum,
  }
  closing.write(path, summary)
  if args.json:
    print(json.dumps({**summary, 'run_dir': str(path)}, indent=2))
  else:
    print(_summary_text(task, summary, path, last_sum))
  return 0


@contextlib.contextmanager
def _context(task: 'TrainingTask') -> Iterator[Any]:
  """The runtime of the training: a simulation, or the protocol with parties of this process."""
  from tff_privacy_agg import runtime, secagg

  if task.secure_sum == 'simulated':
    with runtime.simulation_context() as context:
      yield context
    return
  clients = task.clients_per_round
  dropouts = clients - task.minimum_clients
  dropout_fraction = math.ceil(_DECIMALS * dropouts / clients) / _DECIMALS
  # Refuses what no session of so many clients can keep, before a worker starts.
  secagg.find_parameters(clients, 0.0, dropout_fraction, mode=task.secure_sum)
  drops = None
  if task.dropout_rate:
    drops = runtime.RandomDrops(rate=task.dropout_rate, seed=_drops_seed())
  context = runtime.SecAggContext(
    mode=task.secure_sum,
    minimum_clients=task.minimum_clients,
    maximum_clients=clients,
    drops=drops,
    colluding_fraction=0.0,
    dropout_fraction=dropout_fraction,
  )
  try:
    with runtime.use(context):
      yield context
  finally:
    context.close()


def _drops_seed() -> int:
  """Another one after a resume, so that a round without a sum is not repeated for ever."""
  return int.from_bytes(os.urandom(4))


def _summary_text(
  task: 'TrainingTask',
  summary: Mapping[str, Any],
  path: pathlib.Path,
  last_sum: 'RoundReport | None',
) -> str:
  if task.noise_multiplier is None:
    privacy = 'no privacy: epsilon is infinite'
  else:
    privacy = closing.promise(summary)
    if summary['epsilon'] is not None and task.secure_sum == 'simulated':
      privacy += ' once the sum is secure (here it was simulated, in the clear)'
    privacy += closing.at_delta(summary)
    privacy += '; unit: one client, zero-out adjacency, no amplification by sampling'
    if not summary['complete']:
      privacy += '\nNOT COVERED by it: training metrics, which leave the clients in the clear'
  if last_sum is not None:
    privacy += (
      f'\nsecure sums: {task.secure_sum.replace("_", "-")} protocol, its parties simulated here; '
      f'{len(last_sum.survivors)} of {counted(task.clients_per_round, "client")} in the last'
    )
  files = 'metrics.csv, tensorboard/, checkpoints/, privacy.json, summary.json'
  if task.noise_multiplier is not None:
    files += ', ledger.jsonl'
  ending = closing.ending(summary)
  last = f'{path}: {files}' + (f'; {ending}' if ending else '')
  if task.noise_multiplier is not None and task.secure_sum == 'simulated':
    last = f'the sums were simulated in the clear; {last}'
  return '\n'.join(filter(None, [closing.utility(summary), privacy, last]))
