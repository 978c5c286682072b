"""Three hospitals, one model: what the server and the clients of the example compute.

The data are the 569 tumours of Wisconsin's breast cancer set, which scikit-learn ships. A fifth
is held out for the evaluation; the rest is split by size of the tumour, so that no hospital
has seen what the others see.

Here nothing but the sum leaves a hospital, and the sum is not noised: epsilon is infinite. With
three clients, noise that hides one of them hides the model too. See docs/runtime.md.
"""

from collections import OrderedDict

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from sklearn.datasets import load_breast_cancer

import tff_privacy_agg as tpa

NAMES = ('north', 'south', 'east')
_SPEC = OrderedDict(x=tf.TensorSpec([None, 30], tf.float32), y=tf.TensorSpec([None, 1], tf.float32))


def _examples():
  """Features, labels (1: benign), and which examples are held out."""
  data = load_breast_cancer()
  held_out = np.arange(len(data.target)) % 5 == 0
  x = np.log1p(data.data)
  x = (x - x[~held_out].mean(0)) / x[~held_out].std(0)
  return x.astype(np.float32), data.target[:, None].astype(np.float32), held_out


def _dataset(name):
  x, y, held_out = _examples()
  x, y = x[~held_out], y[~held_out]
  # Every third example at random, the others by the tumour's radius.
  random = np.random.default_rng(0)
  order = np.argsort(np.where(random.random(len(x)) < 1 / 3, random.normal(size=len(x)), x[:, 0]))
  mine = np.array_split(order, len(NAMES))[NAMES.index(name)]
  examples = tf.data.Dataset.from_tensor_slices(OrderedDict(x=x[mine], y=y[mine]))
  return examples.shuffle(len(mine), seed=1).repeat(2).batch(16)


def north():
  return _dataset('north')


def south():
  return _dataset('south')


def east():
  return _dataset('east')


def _model():
  model = tf.keras.Sequential(
    [
      tf.keras.layers.InputLayer(input_shape=[30]),
      tf.keras.layers.Dense(1, kernel_initializer='zeros'),
    ]
  )
  return tff.learning.models.from_keras_model(
    model, loss=tf.keras.losses.BinaryCrossentropy(from_logits=True), input_spec=_SPEC
  )


def process():
  return tff.learning.algorithms.build_unweighted_fed_avg(
    _model,
    client_optimizer_fn=tff.learning.optimizers.build_sgdm(0.1),
    model_aggregator=tpa.secure_aggregator(weighted=False),
    metrics_aggregator=tpa.no_metrics,
    loop_implementation=tff.learning.LoopImplementation.DATASET_ITERATOR,
  )


def evaluate():
  x, y, held_out = _examples()
  x, y = x[held_out], y[held_out]

  def run(weights):
    kernel, bias = (np.asarray(part) for part in weights.trainable)
    logits = x @ kernel + bias
    loss = np.mean(np.logaddexp(0, np.where(y > 0, -logits, logits)))
    return {'accuracy': np.mean((logits > 0) == (y > 0)), 'loss': loss}

  return run
