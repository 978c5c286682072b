"""Measures the central model in integers against the same stack in float64: error and time."""

import argparse
import functools
import os
import sys
from typing import Any

os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'

import _measure as measure
import numpy as np
import tensorflow as tf
from rounds import run_from_python, run_in_worker, value_type

import tff_privacy_agg as tpa
from tff_privacy_agg.aggregation import binding
from tff_privacy_agg.aggregation.stack import Stack
from tff_privacy_agg.numerics import randomness, structures
from tff_privacy_agg.numerics.randomness import RandomStream

INTEGERS, FLOATS = 'integers', 'floats'
NORM = 0.1


class FloatGaussianNoise(tpa.CentralDiscreteGaussianNoise):
  """What the central model was before version 0.2: float64 sums, and a float64 draw on them."""

  def output_domain(self, domain):
    super().output_domain(domain)
    return domain

  def encode(self, slot, params, value):
    return value / tf.maximum(structures.l2_norm(value), 1), {}

  def decode(self, slot, params, total, sums):
    seed = params['randomness'].seed(randomness.MODEL_NOISE)
    noise = tf.random.stateless_normal(total.shape, seed, dtype=total.dtype, alg='philox')
    return total + noise * tf.constant(slot.vector_noise_multiplier, total.dtype)


NOISES = {INTEGERS: tpa.CentralDiscreteGaussianNoise, FLOATS: FloatGaussianNoise}


def layers(name: str, noise_multiplier: float, *, adaptive: bool) -> list[tpa.Layer]:
  quantile = tpa.AdaptiveQuantile(initial=NORM, target=0.5)
  zeroing = tpa.AdaptiveQuantile(initial=10.0, target=0.98, multiplier=2.0, increment=1.0)
  return [
    tpa.Mean(),
    *([tpa.Zeroing(threshold=zeroing)] if adaptive else []),
    tpa.Clipping(norm=quantile if adaptive else NORM),
    NOISES[name](noise_multiplier=noise_multiplier),
    tpa.PlainSum(),
  ]


def _message(stack: Stack, params, value: tf.Tensor):
  return dict(stack.client(params, value, None))


def _mean(stack: Stack, sums, key: tf.Tensor) -> tf.Tensor:
  return stack.server(stack.init(), sums, RandomStream(kind='chacha20', key=key))[1]


def error(clients: int, dim: int, noise_multiplier: float, seeds: int) -> dict[str, Any]:
  """RMSE of the released mean over seeds: of the true mean, the same values and keys for both."""
  squares = {name: 0.0 for name in NOISES}
  cohort = tpa.Cohort(expected=clients, minimum=1)
  for name in NOISES:
    stack_layers = layers(name, noise_multiplier, adaptive=False)
    bound = binding.bind(stack_layers, cohort, dim, tf.float32)
    stack = Stack(binding=bound, delta=1e-6)
    message = tf.function(
      functools.partial(_message, stack, stack.prepare(stack.init())), autograph=False
    )
    mean = tf.function(functools.partial(_mean, stack), autograph=False)
    for seed in range(seeds):
      rng = np.random.default_rng(seed)
      values = rng.standard_normal((clients, dim))
      values *= NORM * rng.random((clients, 1)) / np.linalg.norm(values, axis=1, keepdims=True)
      key = rng.integers(-(2**31), 2**31, 8).astype(np.int32)
      sent = [message(tf.constant(value, bound.dtype)) for value in values]
      sums = {part: tf.add_n([one[part] for one in sent]) for part in sent[0]}
      found = mean(sums, tf.constant(key)).numpy()
      squares[name] += float(np.mean((found - values.mean(axis=0)) ** 2))
  rmse = {name: (square / seeds) ** 0.5 for name, square in squares.items()}
  return {
    'clients': clients,
    'dim': dim,
    'noise_multiplier': noise_multiplier,
    'seeds': seeds,
    'rmse': rmse,
    'ratio': round(rmse[INTEGERS] / rmse[FLOATS], 6),
    # Of the quotient of two independent estimates.
    'standard_error': round((1 / (seeds * dim)) ** 0.5, 6),
    'noise_over_stated': [
      round(rmse[name] * clients / (noise_multiplier * NORM) - 1, 7) for name in NOISES
    ],
  }


def time_of(mode: str, clients: int, dim: int, rounds: int) -> dict[str, Any]:
  candidates = {}
  for name in NOISES:
    process = tpa.compose(
      layers(name, 1.0, adaptive=True), cohort=tpa.Cohort(expected=clients, minimum=1)
    ).create(value_type(dim))
    runner = run_from_python if mode == 'A' else run_in_worker
    candidates[name] = runner(process, dim, clients)
  costs, failed = measure.interleave(candidates, rounds)
  if failed:
    raise RuntimeError(failed)
  return {
    'mode': mode,
    'clients': clients,
    'dim': dim,
    'seconds': {name: cost.rounded(3) for name, cost in costs.items()},
    'wall_ratio': round(costs[INTEGERS].wall / costs[FLOATS].wall, 3),
    'cpu_ratio': round(costs[INTEGERS].cpu / costs[FLOATS].cpu, 3),
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--json', help='where the numbers go')
  parser.add_argument('--seeds', type=int, default=100)
  parser.add_argument('--rounds', type=int, default=9)
  arguments = parser.parse_args()
  errors = [
    error(20, dim, multiplier, arguments.seeds)
    for dim, multiplier in ((1_000, 1.0), (100_000, 1.0), (100_000, 20.0))
  ]
  tpa.runtime.simulation_context()
  times = [
    time_of(mode, clients, dim, arguments.rounds)
    for mode, clients, dim in (
      ('A', 10, 10_000),
      ('A', 10, 100_000),
      ('A', 10, 1_000_000),
      ('B', 10, 1_000_000),
      ('B', 10, 100_000),
      ('B', 100, 10_000),
      ('B', 100, 100_000),
    )
  ]
  for row in (*errors, *times):
    print(row)
  measure.write_json(arguments.json, {**measure.environment(), 'errors': errors, 'times': times})


if __name__ == '__main__':
  sys.exit(main())
