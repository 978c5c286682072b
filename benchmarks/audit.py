"""How often the bounds of an audit are right, where the true epsilon is known.

    python benchmarks/audit.py [--runs 100] [--demo] [--json FILE]

Each run sums the vectors of 200 canaries, each in or out by a coin, with noise, and asks
whether the audit's lower bound exceeds a claim. `as claimed`: it should do so in at most
5 of 100 runs. `half the noise`: the mechanism adds half of what was claimed; it should
be caught in at least 90 of 100.

Two mechanisms: Gaussian noise on a sum of floats, whose epsilon is exact; and this
package's stack (clipping, rotation, quantization, discrete Gaussian shares, modular sum),
whose epsilon is that of its account.

`--demo` trains the demo with canaries instead: without noise, with its noise, and with canaries
as the only clients; and measures what canaries cost a round.
"""

import argparse
import time

import _measure
import numpy as np
import tensorflow as tf

import tff_privacy_agg as tpa
from tff_privacy_agg import accounting, audit
from tff_privacy_agg.aggregation import binding
from tff_privacy_agg.aggregation.stack import Stack
from tff_privacy_agg.learning.training_task import TrainingTask
from tff_privacy_agg.numerics import modular
from tff_privacy_agg.numerics.randomness import RandomStream

CANARIES, DIM, DELTA, CONFIDENCE = 200, 4096, 1e-6, 0.95
NOISE = 2.0


def gaussian(sent: np.ndarray, noise_multiplier: float, rng) -> np.ndarray:
  return sent.sum(axis=0) + noise_multiplier * rng.standard_normal(DIM)


class Composed:
  """One round of a stack, all clients in one graph."""

  def __init__(self, noise_multiplier: float):
    layers = [
      tpa.Clipping(norm=1.0),
      tpa.HadamardRotation(),
      tpa.Quantization(),
      tpa.DiscreteGaussianNoise(noise_multiplier=noise_multiplier),
      tpa.SecureModularSum(bits=20),
    ]
    bound = binding.bind(layers, tpa.Cohort(expected=CANARIES), DIM, tf.float32)
    self._stack = Stack(binding=bound, delta=DELTA)
    self._round = tf.function(self._build, autograph=False)

  def _build(self, values, keys):
    stack, state = self._stack, self._stack.init()
    params = stack.prepare(state)

    def client(inputs):
      vector, key = inputs
      return dict(stack.client(params, vector, RandomStream(kind='philox', key=key)))

    signature = {'vector': tf.int32, 'channels': tf.int32}
    sent = tf.map_fn(client, (values, keys), fn_output_signature=signature)
    sums = {name: tf.reduce_sum(one, axis=0) for name, one in sent.items()}
    sums['vector'] = modular.wrap(sums['vector'], stack.binding.design.bits)
    sums['channels'] = modular.wrap(sums['channels'], stack.binding.channel_bits)
    _, vector, measurements = stack.server(state, sums, None)
    return vector, measurements['privacy']['epsilon']

  def __call__(self, sent: np.ndarray, rng) -> tuple[np.ndarray, float]:
    keys = rng.integers(-(2**31), 2**31, [CANARIES, 8]).astype(np.int32)
    vector, epsilon = self._round(sent.astype(np.float32), keys)
    return vector.numpy().astype(np.float64), float(epsilon)


def verdicts(mechanism, claim: float, runs: int, seed: int) -> dict[str, float]:
  above = {'one_shot': 0, 'one_run': 0, 'either': 0}
  estimates = []
  each = 1 - (1 - CONFIDENCE) / 2
  for run in range(runs):
    canaries = audit.Canaries(count=CANARIES, norm=1.0, seed=1000 * seed + run)
    directions = canaries.directions(DIM).astype(np.float64)
    observed = mechanism(
      directions * canaries.included[:, None], np.random.default_rng([seed, run])
    )
    scores = audit.cosines(directions, observed)
    shot = audit.estimate_epsilon(
      scores[canaries.included], dimension=DIM, delta=DELTA, confidence=each
    )
    bound = audit.one_run_lower_bound(scores, canaries.included, delta=DELTA, confidence=each)
    estimates.append(shot.epsilon)
    above['one_shot'] += shot.lower > claim
    above['one_run'] += bound.lower > claim
    above['either'] += max(shot.lower, bound.lower) > claim
  return {'claim': claim, 'median_estimate': float(np.median(estimates)), **above}


def million_scores() -> float:
  rng = np.random.default_rng(0)
  included = rng.random(10**6) < 0.5
  scores = rng.normal(size=10**6) + included
  started = time.perf_counter()
  audit.one_run_lower_bound(scores, included, delta=1e-6)
  return time.perf_counter() - started


def demo() -> dict[str, object]:
  """Bounds on the demo, and the CPU time of a round with canaries over one without."""
  noisy, clear = TrainingTask(), TrainingTask(noise_multiplier=None)
  return {
    'without noise': bounds(clear, everyone=False),
    'with the noise of the demo': bounds(noisy, everyone=False),
    'canaries alone': bounds(noisy, everyone=True),
    'cost of a round': cost(noisy),
  }


def audited(task: TrainingTask):
  """The task's process with canaries, its input spec, and every client's batches."""

  class Audited(TrainingTask):
    def model_fn(self):
      return audit.with_canaries(super().model_fn())

  beside = Audited(**vars(task))
  spec = beside.model_fn()().input_spec
  examples = task.load().train
  plain = {
    client: task.preprocess(examples.create_tf_dataset_for_client(client))
    for client in examples.client_ids
  }
  marked = {client: audit.mark_ordinary(one, spec) for client, one in plain.items()}
  canaries = audit.Canaries(count=100, norm=4.0)
  held = {canary: canaries.dataset(canary, spec) for canary in canaries.ids}
  return beside.process(), canaries, plain, marked, held


def bounds(task: TrainingTask, *, everyone: bool) -> dict[str, float]:
  process, canaries, _, marked, held = audited(task)
  clients = held if everyone else marked | held
  cohorts = tpa.learning.UniformCohorts(
    client_ids=list(clients), size=task.clients_per_round, seed=task.seed
  )
  found = audit.run_with_canaries(
    process,
    canaries,
    dataset_of=clients.__getitem__,
    cohort_of=cohorts.cohort,
    rounds=task.rounds,
  ).result(delta=task.delta)
  return {
    'lower': found.lower,
    'all_iterates': found.all_iterates.epsilon,
    'final_model': found.final_model.epsilon,
    'one_run': found.one_run.lower,
  }


def cost(task: TrainingTask) -> dict[str, float]:
  process, canaries, plain, marked, held = audited(task)
  bare = task.process()
  third = task.clients_per_round // 3
  mixed = [*marked.values()][: task.clients_per_round - third] + [*held.values()][:third]
  start = process.initialize()
  watch = audit.CanaryAudit(canaries, process.get_model_weights(start))

  def with_canaries(state):
    state = process.next(state, mixed).state
    watch.observe(canaries.ids[:third], process.get_model_weights(state))
    return state

  alone = [*plain.values()][: task.clients_per_round]
  costs, failed = _measure.interleave(
    {
      'without': _measure.stepper(bare.initialize(), lambda state: bare.next(state, alone).state),
      'with': _measure.stepper(start, with_canaries),
    },
    rounds=8,
  )
  if failed:
    raise RuntimeError(failed)
  return {
    'cpu_ratio': costs['with'].cpu / costs['without'].cpu,
    'wall_ratio': costs['with'].wall / costs['without'].wall,
  }


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--runs', type=int, default=100)
  parser.add_argument('--demo', action='store_true')
  parser.add_argument('--json')
  args = parser.parse_args()
  if args.demo:
    with tpa.runtime.simulation_context():
      shown = demo()
    for name, values in shown.items():
      print(name, {key: round(value, 2) for key, value in values.items()})
    _measure.write_json(args.json, {'environment': _measure.environment(), **shown})
    return
  found = {'environment': _measure.environment(), 'runs': args.runs, 'rates': {}}
  for kind in ('gaussian sum', 'composed stack'):
    for case, factor in (('as claimed', 1.0), ('half the noise', 0.5)):
      z = factor * NOISE
      if kind == 'gaussian sum':
        claim = accounting.gaussian_epsilon(1 / NOISE, DELTA)
        mechanism = lambda sent, rng, z=z: gaussian(sent, z, rng)  # noqa: E731
      else:
        zeros = np.zeros([CANARIES, DIM])
        _, claim = Composed(NOISE)(zeros, np.random.default_rng(0))
        stack = Composed(z)
        mechanism = lambda sent, rng, stack=stack: stack(sent, rng)[0]  # noqa: E731
      found['rates'][f'{kind}, {case}'] = verdicts(mechanism, claim, args.runs, seed=1)
  found['seconds_for_a_million_scores'] = million_scores()
  header = ['mechanism', 'claim', 'median estimate', 'one-shot above', 'one-run above', 'either']
  rows = [
    [
      name,
      f'{one["claim"]:.2f}',
      f'{one["median_estimate"]:.2f}',
      *(f'{one[key]}/{args.runs}' for key in ('one_shot', 'one_run', 'either')),
    ]
    for name, one in found['rates'].items()
  ]
  print(_measure.table(header, rows))
  print(f'one-run bound of a million scores: {found["seconds_for_a_million_scores"]:.2f} s')
  _measure.write_json(args.json, found)


if __name__ == '__main__':
  main()
