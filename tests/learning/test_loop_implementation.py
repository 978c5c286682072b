"""The loop over a client's batches: the fast one by default, and the same weights from both."""

import inspect
from collections import OrderedDict

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

import tff_privacy_agg as tpa
from tff_privacy_agg._names import ALGORITHMS
from tff_privacy_agg.learning.training_task import TrainingTask

pytestmark = pytest.mark.integration

LOOPS = tff.learning.LoopImplementation
CLIENTS = 3


@pytest.mark.parametrize('names', ALGORITHMS.values(), ids=ALGORITHMS)
def test_every_builder_takes_the_argument_and_has_the_slow_default(names):
  for name in names:
    build = getattr(tff.learning.algorithms, name)
    default = inspect.signature(build).parameters['loop_implementation'].default
    assert default is LOOPS.DATASET_REDUCE


def asked(monkeypatch, algorithm, make):
  """The `loop_implementation` that TFF's builder was given."""
  name = ALGORITHMS[algorithm][0]
  build, given = getattr(tff.learning.algorithms, name), []

  def spy(*arguments, **options):
    given.append(options.get('loop_implementation'))
    return build(*arguments, **options)

  spy.__signature__ = inspect.signature(build)
  spy.__name__ = name
  monkeypatch.setattr(tff.learning.algorithms, name, spy)
  make()
  return given


@pytest.mark.parametrize('algorithm', ALGORITHMS)
def test_the_fast_loop_is_the_default_and_an_argument_keeps_the_other(monkeypatch, algorithm):
  task = TrainingTask(algorithm=algorithm)
  assert asked(monkeypatch, algorithm, task.process) == [LOOPS.DATASET_ITERATOR]
  monkeypatch.undo()

  def slow():
    tpa.build_private_learning_process(
      algorithm,
      task.model_fn(),
      aggregator=task.aggregator(),
      accounting=task.accounting(),
      loop_implementation=LOOPS.DATASET_REDUCE,
      **task._options(),
    )

  assert asked(monkeypatch, algorithm, slow) == [LOOPS.DATASET_REDUCE]


def test_a_training_without_privacy_has_it_too(monkeypatch):
  task = TrainingTask(noise_multiplier=None)
  assert asked(monkeypatch, 'fed_avg', task.process) == [LOOPS.DATASET_ITERATOR]


def datasets():
  rng = np.random.default_rng(0)
  x = rng.normal(size=[CLIENTS, 30, 64]).astype(np.float32)
  y = rng.integers(0, 10, [CLIENTS, 30]).astype(np.int32)
  return [
    tf.data.Dataset.from_tensor_slices(OrderedDict(x=a, y=b)).batch(7)
    for a, b in zip(x, y, strict=True)
  ]


@pytest.mark.parametrize('algorithm', ALGORITHMS)
def test_weights_after_two_rounds_are_equal_bit_for_bit(simulation, algorithm):
  task = TrainingTask(algorithm=algorithm, server_momentum=0.9)
  builders = ALGORITHMS[algorithm]
  build = getattr(tff.learning.algorithms, builders[0])
  found = []
  for loop in LOOPS:
    process = build(task.model_fn(), loop_implementation=loop, **task._options())
    state = process.initialize()
    for _ in range(2):
      state = process.next(state, datasets()).state
    found.append(process.get_model_weights(state).trainable)
  first, second = found
  assert any(np.any(part) for part in first)
  for one, other in zip(first, second, strict=True):
    np.testing.assert_array_equal(one, other)
