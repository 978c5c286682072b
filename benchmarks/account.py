"""Measures what the account adds to a round inside the computation, on the server."""

import os
import statistics
import time

os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'

import tensorflow as tf

import tff_privacy_agg as tpa
from tff_privacy_agg.aggregation import binding
from tff_privacy_agg.aggregation.stack import Stack

CALLS = 300


def main() -> None:
  layers = [
    tpa.Mean(),
    tpa.Clipping(norm=tpa.AdaptiveQuantile(initial=1.0, target=0.5)),
    tpa.HadamardRotation(),
    tpa.Quantization(),
    tpa.DiscreteGaussianNoise(noise_multiplier=2.0),
    tpa.SecureModularSum(bits=20),
  ]
  bound = binding.bind(layers, tpa.Cohort(expected=100, maximum=128), 1000, tf.float32)
  limit = bound.limit(tpa.Budget(epsilon=50.0, delta=1e-6))
  stack = Stack(binding=bound, delta=1e-6, limit=limit)
  account = tf.function(stack.account.update)
  state, survivors = stack.init()['privacy'], tf.constant(100)
  seconds = []
  for _ in range(CALLS):
    start = time.perf_counter()
    account(state, survivors, survivors, tf.constant(True), tf.constant(False))
    seconds.append(time.perf_counter() - start)
  measured = seconds[CALLS // 10 :]  # the first call traces
  print(
    f'account of {bound.account.name}, budget included: median {1e3 * statistics.median(measured):.2f} '
    f'ms, 95 % of the calls below {1e3 * statistics.quantiles(measured, n=20)[-1]:.2f} ms (goal: 2 ms)'
  )


if __name__ == '__main__':
  main()
