"""The Keras model inside of a TFF model."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def keras_of(model: Any) -> Any:
  """The Keras model that a model is, or wraps; None if there is none.

  Args:
    model: A Keras model, or what `tff.learning.models.from_keras_model` gives.
  """
  if isinstance(model, tf.keras.Model):
    return model
  # TFF has no public way back to the model that it was given.
  return getattr(model, '_keras_model', None)


def variables_of(model: Any, kind: str) -> Sequence[tf.Variable]:
  """Variables of a Keras model or a TFF model, in the order of its released weights.

  Args:
    model: The model.
    kind: 'trainable' or 'non_trainable'.
  """
  return list(getattr(model, f'{kind}_variables'))
