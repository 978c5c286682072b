"""A private process so small that a round takes a moment, served to three clients in threads."""

import contextlib
import socket
import threading
from collections import OrderedDict

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from deployments import Log

import tff_privacy_agg as tpa
from tff_privacy_agg import deployment

NAMES = ('north', 'south', 'east')
TASK = 'tiny'
_SPEC = OrderedDict(x=tf.TensorSpec([None, 2]), y=tf.TensorSpec([None, 1]))


def model():
  keras = tf.keras.Sequential(
    [tf.keras.layers.InputLayer(input_shape=[2]), tf.keras.layers.Dense(1)]
  )
  return tff.learning.models.from_keras_model(
    keras, loss=tf.keras.losses.MeanSquaredError(), input_spec=_SPEC
  )


def process(learning_rate=0.1, **account):
  account = {'minimum_clients': 3, **account}
  return tpa.build_private_learning_process(
    'fed_avg',
    model,
    aggregator=tpa.ddp_secure_aggregator(noise_multiplier=2.0, expected_clients_per_round=3),
    accounting=tpa.Accounting(population=3, delta=0.01, **account),
    client_optimizer_fn=tff.learning.optimizers.build_sgdm(learning_rate),
  )


def batches():
  x = np.arange(8, dtype=np.float32).reshape(4, 2) / 8
  return tf.data.Dataset.from_tensor_slices(OrderedDict(x=x, y=x[:, :1])).batch(2)


def free_address():
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    return f'127.0.0.1:{probe.getsockname()[1]}'


class Client:
  """One client in a thread: `take_part` of the public API, with data of its own."""

  def __init__(self, name, context, folder, address, process):
    self.log, self.outcome = Log(), None
    self._arguments = {
      'name': name,
      'task': TASK,
      'server': address,
      'keys': deployment.Keys.of(folder / 'keys', name),
      'directory': folder / 'state' / name,
      'reconnect_seconds': 60.0,
      'events': self.log,
    }
    self._thread = threading.Thread(target=self._run, args=(context, process), daemon=True)
    self._thread.start()

  def _run(self, context, process):
    try:
      with tff.framework.get_context_stack().install(context):
        self.outcome = deployment.take_part(process, batches(), **self._arguments)
    except BaseException as error:
      self.outcome = error

  def join(self):
    self._thread.join(60)
    assert not self._thread.is_alive(), 'the client hangs'
    return self.outcome


@contextlib.contextmanager
def clients(context, folder, address, process):
  """All three, joined at the end of the block."""
  if not (folder / 'keys').exists():
    deployment.make_keys(folder / 'keys', NAMES)
  made = [Client(name, context, folder, address, process) for name in NAMES]
  yield made
  for client in made:
    client.join()


def serve(process, rounds, folder, address, **changed):
  """`serve` of the public API; gives its result and its events."""
  log = Log()
  arguments = {
    'task': TASK,
    'address': address,
    'keys': deployment.Keys.of(folder / 'keys', 'server'),
    'run_directory': folder / 'run',
    'deadlines': deployment.Deadlines(join=60.0, work=60.0, round=60.0),
    'events': log,
    **changed,
  }
  return deployment.serve(process, rounds, **arguments), log
