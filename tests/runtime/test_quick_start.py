"""A command's start leaves out what a training does not use, and builds the same graphs."""

import collections
import gc
import subprocess
import sys

import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_privacy_agg._tff import compat
from tff_privacy_agg._tff.quick_start import quick_start

SPEC = collections.OrderedDict(
  x=tf.TensorSpec([None, 3], tf.float32), y=tf.TensorSpec([None, 1], tf.float32)
)
OPTIMIZERS = {
  'adagrad': tff.learning.optimizers.build_adagrad(0.1),
  'adam': tff.learning.optimizers.build_adam(0.1),
  'rmsprop': tff.learning.optimizers.build_rmsprop(0.1),
  'sgdm': tff.learning.optimizers.build_sgdm(0.1, momentum=0.9),
  'yogi': tff.learning.optimizers.build_yogi(0.1),
}


@pytest.fixture(autouse=True)
def _unfrozen():
  yield
  gc.unfreeze()


def test_what_waits_loads_when_it_is_used():
  code = (
    'import sys\n'
    'from tff_privacy_agg._tff.quick_start import quick_start\n'
    'with quick_start():\n'
    '  import tensorflow_federated\n'
    'parts = ["tensorflow_probability.python", "scipy.signal._signaltools", "dp_accounting.pld.common"]\n'
    'for module in [*sys.modules.values()]:\n'
    '  getattr(module, "__file__", None)\n'  # so does autograph, for each function
    'print([part in sys.modules for part in parts])\n'
    'import dp_accounting, scipy.signal, tensorflow_probability as tfp\n'
    'tfp.distributions.Normal, scipy.signal.fftconvolve, dp_accounting.pld.PLDAccountant\n'
    'print([part in sys.modules for part in parts])\n'
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert done.stdout.splitlines() == ['[False, False, False]', '[True, True, True]']


def test_garbage_is_collected_again_afterwards():
  with quick_start():
    assert not gc.isenabled()
  assert gc.isenabled()


def _model():
  layers = [tf.keras.layers.InputLayer(input_shape=[3]), tf.keras.layers.Dense(1)]
  return tff.learning.models.from_keras_model(
    tf.keras.Sequential(layers),
    loss=tf.keras.losses.MeanSquaredError(),
    metrics=[tf.keras.metrics.MeanAbsoluteError()],
    input_spec=SPEC,
  )


def _graphs(optimizer):
  process = tff.learning.algorithms.build_unweighted_fed_avg(
    _model,
    client_optimizer_fn=optimizer,
    server_optimizer_fn=optimizer,
    loop_implementation=tff.learning.LoopImplementation.DATASET_ITERATOR,
  )
  # Functions of a graph come in any order.
  graphs = _operations(compat.serialize_computation(process.next))
  return sorted(sorted(one.items()) for one in graphs)


def _operations(message):
  """How often each operation is in each graph; names count up with every model that Keras makes."""
  if message.DESCRIPTOR.name == 'TensorFlow':
    graph = tf.compat.v1.GraphDef()
    message.graph_def.Unpack(graph)
    for nodes in (graph.node, *(one.node_def for one in graph.library.function)):
      yield collections.Counter((node.op, len(node.input)) for node in nodes)
    return
  for field, value in message.ListFields():
    if field.message_type is not None:
      for one in value if field.label == field.LABEL_REPEATED else [value]:
        yield from _operations(one)


@pytest.mark.integration
@pytest.mark.parametrize('name', OPTIMIZERS)
def test_graphs_are_those_of_a_slow_start(name):
  slow = _graphs(OPTIMIZERS[name])
  with quick_start():
    quick = _graphs(OPTIMIZERS[name])
  assert quick == slow
  assert sum(map(len, slow)) > 100
