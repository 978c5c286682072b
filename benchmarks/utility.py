"""Measures what distributed noise costs in accuracy, by bit width, against central noise.

All trainings have the same noise multiplier, and for a seed the same examples and
cohorts. Central noise is Gaussian and is added to the sum of floats: no
quantization, no modulus, but the server sees everything.

The aggregation is the package's, in the TFF runtime. The clients' gradient
descent on the linear model is done in NumPy, for all clients at once, which makes
a round ten times faster; that it does what the TFF process of the task does is
checked at the start.
"""

import argparse
import dataclasses
import os
import statistics
import sys
import time

os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'

import _measure as measure
import numpy as np
import tensorflow_federated as tff

import tff_privacy_agg as tpa
from tff_privacy_agg.learning.data.digits import NUM_CLASSES, NUM_PIXELS
from tff_privacy_agg.learning.rounds import cohorts
from tff_privacy_agg.learning.training_task import TrainingTask

_LAST_ROUNDS = 5
_NOISE_ROUNDS = 20
# The adaptive clip starts at 1 and cannot come down to this in so many rounds.
_SHORT = 0.05
_MOST_BITS = 62
_WEIGHTS = tff.to_type(
  [tff.TensorType(np.float32, [NUM_PIXELS, NUM_CLASSES]), tff.TensorType(np.float32, [NUM_CLASSES])]
)


@dataclasses.dataclass(frozen=True)
class Weights:
  """What `TrainingTask.evaluator` takes."""

  trainable: list[np.ndarray]


class Clients:
  """All clients' examples of one seed, and their local training."""

  def __init__(self, task: TrainingTask):
    self._task = task
    self.examples = task.load()
    self.ids = self.examples.train.client_ids
    data = [
      next(iter(self.examples.train.create_tf_dataset_for_client(one).batch(10_000)))
      for one in self.ids
    ]
    self._x = np.stack([batch['x'].numpy() for batch in data])
    self._y = np.eye(NUM_CLASSES, dtype=np.float32)[[batch['y'].numpy() for batch in data]]

  def updates(self, weights: Weights, chosen: list[str]) -> list[list[np.ndarray]]:
    """What the chosen clients' weights changed by: `[kernel, bias]` each."""
    task = self._task
    rows = [self.ids.index(one) for one in chosen]
    x, y = (np.tile(part[rows], (1, task.local_epochs, 1)) for part in (self._x, self._y))
    kernel, bias = (np.repeat(part[np.newaxis], len(rows), axis=0) for part in weights.trainable)
    for start in range(0, x.shape[1], task.batch_size):
      batch_x, batch_y = (part[:, start : start + task.batch_size] for part in (x, y))
      logits = batch_x @ kernel + bias[:, np.newaxis]
      exponentials = np.exp(logits - logits.max(axis=2, keepdims=True))
      errors = exponentials / exponentials.sum(axis=2, keepdims=True) - batch_y
      step = task.client_learning_rate / batch_x.shape[1]
      kernel = kernel - step * batch_x.transpose(0, 2, 1) @ errors
      bias = bias - step * errors.sum(axis=1)
    changes = (kernel - weights.trainable[0], bias - weights.trainable[1])
    return [[one_kernel, one_bias] for one_kernel, one_bias in zip(*changes, strict=True)]


def zero_weights() -> Weights:
  return Weights(
    [np.zeros([NUM_PIXELS, NUM_CLASSES], np.float32), np.zeros([NUM_CLASSES], np.float32)]
  )


def apply(task: TrainingTask, weights: Weights, mean) -> Weights:
  return Weights(
    [
      old + np.float32(task.server_learning_rate) * np.asarray(change)
      for old, change in zip(weights.trainable, mean, strict=True)
    ]
  )


def check_local_training(task: TrainingTask, clients: int = 5, rounds: int = 2) -> None:
  """Raises unless rounds without privacy end where those of the task's TFF process end."""
  task = dataclasses.replace(task, noise_multiplier=None)
  ours, process = Clients(task), task.process()
  chosen = ours.ids[:clients]
  batches = [
    task.preprocess(ours.examples.train.create_tf_dataset_for_client(one)) for one in chosen
  ]
  state, weights = process.initialize(), zero_weights()
  for _ in range(rounds):
    state = process.next(state, batches).state
    updates = ours.updates(weights, chosen)
    weights = apply(task, weights, [np.mean(part, axis=0) for part in zip(*updates, strict=True)])
  theirs = process.get_model_weights(state).trainable
  for own, other in zip(weights.trainable, theirs, strict=True):
    np.testing.assert_allclose(own, other, rtol=1e-3, atol=1e-5)


def feasible(task: TrainingTask) -> bool:
  try:
    task.process()
  except tpa.ConfigurationError:
    return False
  return True


def smallest_width(task: TrainingTask) -> int | None:
  """The smallest bit width above the task's that can carry its noise."""
  wider = (dataclasses.replace(task, bits=bits) for bits in range(task.bits + 1, _MOST_BITS + 1))
  return next((found.bits for found in wider if feasible(found)), None)


def train(process, task: TrainingTask) -> tuple[float, float | None]:
  """Accuracy, a mean over the last rounds, and epsilon as a release has it."""
  clients = Clients(task)
  evaluate = task.evaluator(clients.examples)
  sampler = cohorts.UniformCohorts(
    client_ids=clients.ids, size=task.clients_per_round, seed=task.seed
  )
  weights, accuracies, epsilon = zero_weights(), [], None
  state = None if process is None else process.initialize()
  for round_number in range(1, task.rounds + 1):
    updates = clients.updates(weights, sampler.cohort(round_number))
    if process is None:
      mean = [np.mean(part, axis=0) for part in zip(*updates, strict=True)]
    else:
      output = process.next(state, updates)
      state, mean = output.state, output.result
      epsilon = float(output.measurements['privacy']['release_epsilon'])
    weights = apply(task, weights, mean)
    if round_number > task.rounds - _LAST_ROUNDS:
      accuracies.append(evaluate(weights)['accuracy'])
  return statistics.mean(accuracies), epsilon


def noise_in_sum(process, clients: int) -> float:
  """Root mean square error of the decoded sum, in units of the clip norm of its round."""
  size = NUM_PIXELS * NUM_CLASSES + NUM_CLASSES
  rng = np.random.default_rng(0)
  vectors = rng.standard_normal((clients, size))
  vectors *= _SHORT / np.linalg.norm(vectors, axis=1, keepdims=True)
  vectors = vectors.astype(np.float32)
  kernels = vectors[:, :-NUM_CLASSES].reshape(clients, NUM_PIXELS, NUM_CLASSES)
  values = [list(pair) for pair in zip(kernels, vectors[:, -NUM_CLASSES:], strict=True)]
  state, squares = process.initialize(), []
  for _ in range(_NOISE_ROUNDS):
    output = process.next(state, values)
    state = output.state
    found = np.concatenate([np.ravel(part) for part in output.result])
    errors = clients * (found - vectors.mean(axis=0)) / output.measurements['clipping']['norm']
    squares.append(np.mean(np.square(errors)))
  return float(np.sqrt(np.mean(squares)))


def measure_variant(task: TrainingTask, seeds: int) -> dict:
  # The seed changes the examples and the cohorts, not the process.
  aggregator = task.aggregator()
  process = None if aggregator is None else aggregator.create(_WEIGHTS)
  found = [train(process, dataclasses.replace(task, seed=seed)) for seed in range(seeds)]
  noise = None if process is None else noise_in_sum(process, task.clients_per_round)
  return {
    'noise_in_sum': None if noise is None else round(noise, 4),
    'accuracies': [round(accuracy, 4) for accuracy, _ in found],
    'accuracy': round(statistics.mean(accuracy for accuracy, _ in found), 4),
    'epsilon': None if found[0][1] is None else round(found[0][1], 3),
  }


def compare(found: dict, central: dict) -> None:
  """Adds the noise over central noise, and the accuracy's difference with its standard error."""
  if found['noise_in_sum'] is not None:
    found['noise_over_central'] = round(found['noise_in_sum'] / central['noise_in_sum'], 3)
  differences = [
    100 * (own - other)
    for own, other in zip(found['accuracies'], central['accuracies'], strict=True)
  ]
  found['points_over_central'] = round(statistics.mean(differences), 2)
  if len(differences) > 1:
    error = statistics.stdev(differences) / len(differences) ** 0.5
    found['standard_error'] = round(error, 2)


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--json', metavar='FILE', help='write the results')
  parser.add_argument('--bits', default='8,10,12,16,20')
  parser.add_argument('--seeds', type=int, default=30)
  parser.add_argument('--rounds', type=int, default=30)
  parser.add_argument('--clients', type=int, default=100)
  parser.add_argument('--population', type=int, default=200)
  parser.add_argument('--noise-multiplier', type=float, default=2.75)
  parser.add_argument('--mechanism', default='discrete_gaussian')
  args = parser.parse_args()

  environment = measure.environment()
  print(environment)
  tpa.runtime.simulation_context()
  task = TrainingTask(
    population=args.population,
    clients_per_round=args.clients,
    rounds=args.rounds,
    noise_multiplier=args.noise_multiplier,
    mechanism=args.mechanism,
    randomness='philox',
  )
  check_local_training(task)
  variants = {
    'no noise, no clipping': dataclasses.replace(task, noise_multiplier=None),
    'central': dataclasses.replace(task, mechanism='central_discrete_gaussian'),
    **{f'{bits} bits': dataclasses.replace(task, bits=int(bits)) for bits in args.bits.split(',')},
  }
  results, refused = {}, {}
  for name, variant in variants.items():
    if not feasible(variant):
      needed = smallest_width(variant)
      refused[name] = 'refused' if needed is None else f'refused: needs {needed} bits'
      continue
    started = time.perf_counter()
    results[name] = measure_variant(variant, args.seeds)
    seconds = time.perf_counter() - started
    print(f'{name}: {results[name]["accuracies"]}, {seconds:.0f} s', file=sys.stderr, flush=True)
  for found in results.values():
    compare(found, results['central'])

  rows = []
  for name in variants:
    if name in refused:
      rows.append([name, refused[name], '', '', ''])
      continue
    found = results[name]
    epsilon = 'infinite' if found['epsilon'] is None else found['epsilon']
    difference = f'{found["points_over_central"]:+.1f}'
    if name == 'central':
      difference = ''
    elif 'standard_error' in found:
      difference += f' (+- {found["standard_error"]:.1f})'
    noise = found.get('noise_over_central', '')
    rows.append([name, f'{100 * found["accuracy"]:.1f} %', difference, noise, epsilon])
  print(
    f'\nDigits, {args.clients} clients a round, {args.rounds} rounds, noise multiplier '
    f'{args.noise_multiplier:g}, {args.mechanism}; accuracy is a mean over {args.seeds} seeds and '
    f'the last {_LAST_ROUNDS} rounds:\n'
  )
  header = ['noise', 'accuracy', 'points over central (standard error)', 'x central noise']
  print(measure.table([*header, 'epsilon'], rows))
  measure.write_json(
    args.json,
    {
      'environment': environment,
      'arguments': {key: value for key, value in vars(args).items() if key != 'json'},
      'delta': task.delta,
      'results': results,
      'refused': refused,
    },
  )
  return 0


if __name__ == '__main__':
  sys.exit(main())
