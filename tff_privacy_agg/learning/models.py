"""The built-in model, and how any model is judged on held-out examples."""

import functools
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_privacy_agg._entry_points import entry_point
from tff_privacy_agg._tff import compat
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning.data import FederatedExamples, named
from tff_privacy_agg.learning.data.digits import NUM_CLASSES, NUM_PIXELS

_EVALUATION_BATCH = 512


def model_of(source: str, data: str) -> Callable[[], Any]:
  """A function that makes the model that a training names.

  Args:
    source: 'linear', or module:function.
    data: The training's data, which say how large a linear model is.
  """
  if source != 'linear':
    return entry_point(source, os.getcwd())
  return functools.partial(softmax_regression, *(named.linear_shape(data) or ()))


def softmax_regression(
  features: int = NUM_PIXELS, classes: int = NUM_CLASSES
) -> tff.learning.models.VariableModel:
  """Softmax regression, by default on the digits, from zero weights.

  Args:
    features: Numbers of an input.
    classes: Number of classes.
  """
  model = tf.keras.Sequential(
    [
      tf.keras.layers.InputLayer(input_shape=[features]),
      tf.keras.layers.Dense(classes, kernel_initializer='zeros'),
    ]
  )
  return tff.learning.models.from_keras_model(
    model,
    loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    input_spec=OrderedDict(
      x=tf.TensorSpec([None, features], tf.float32), y=tf.TensorSpec([None], tf.int32)
    ),
  )


def evaluate_softmax(
  examples: FederatedExamples, weights: tff.learning.models.ModelWeights
) -> Mapping[str, float]:
  """Loss and accuracy of a softmax regression, in float64."""
  kernel, bias = (np.asarray(part, np.float64) for part in weights.trainable)
  logits = examples.test_x @ kernel + bias
  logits -= logits.max(axis=1, keepdims=True)
  log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
  picked = log_probs[np.arange(len(examples.test_y)), examples.test_y]
  correct = log_probs.argmax(axis=1) == examples.test_y
  return OrderedDict(loss=float(-picked.mean()), accuracy=float(correct.mean()))


def held_out_evaluator(
  model_fn: Callable[[], tff.learning.models.VariableModel], examples: FederatedExamples
) -> Callable[[Any], Mapping[str, float]]:
  """A function from model weights to the model's own loss and metrics on held-out examples.

  Args:
    model_fn: Makes the model.
    examples: Whose held-out part is evaluated, by TFF's evaluation process, as one client.

  Raises:
    ConfigurationError: If the model does not take them.
  """
  process = tff.learning.algorithms.build_fed_eval(model_fn)
  held_out = tf.data.Dataset.from_tensor_slices(
    OrderedDict(x=examples.test_x, y=examples.test_y)
  ).batch(_EVALUATION_BATCH)
  wanted = process.next.type_signature.parameter[1].member.element
  found = compat.tensorflow_to_type(held_out.element_spec)
  if not wanted.is_assignable_from(found):
    raise ConfigurationError(
      f'The model takes batches of {wanted}; `test_x` and `test_y` give {found}. Give the held-out '
      'examples the shapes and types of the training examples.'
    )

  def evaluate(weights: Any) -> Mapping[str, float]:
    state = process.set_model_weights(process.initialize(), weights)
    metrics = process.next(state, [held_out]).metrics['client_work']['eval']
    numbers = metrics['current_round_metrics']
    return OrderedDict(
      (name, float(value)) for name, value in numbers.items() if not name.startswith('num_')
    )

  return evaluate
