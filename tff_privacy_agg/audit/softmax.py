"""Softmax regression in NumPy: shadow models, and scores of linear models."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from tff_privacy_agg import _validate
from tff_privacy_agg.errors import ConfigurationError


def logits(weights: Sequence[ArrayLike], x: np.ndarray) -> np.ndarray:
  """Logits `[n, classes]` of a linear model.

  Args:
    weights: Trainable weights: kernel `[features, classes]` and bias `[classes]`.
    x: `[n, features]`.
  """
  parts = [np.asarray(part, np.float64) for part in weights]
  if [part.ndim for part in parts] != [2, 1] or parts[0].shape != (x.shape[1], len(parts[1])):
    raise ConfigurationError(
      f'The weights have the shapes {[part.shape for part in parts]}, which is no linear model of '
      f'{x.shape[1]} features. Give kernel and bias, or score the model yourself.'
    )
  return x @ parts[0] + parts[1]


def losses(weights: Sequence[ArrayLike], x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Cross entropy of each example, `[n]`, nats; arguments as for `logits`."""
  values = logits(weights, x)
  values = values - values.max(axis=1, keepdims=True)
  log_total = np.log(np.exp(values).sum(axis=1))
  return log_total - values[np.arange(len(y)), y]


def train(
  x: np.ndarray, y: np.ndarray, classes: int, *, steps: int = 300, learning_rate: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
  """Gradient descent on all examples at once, from zero weights.

  Args:
    x: `[n, features]`.
    y: `[n]`, integers below `classes`.
    classes: Number of classes.
    steps: Steps of descent; the fewer, the less the model memorizes.
    learning_rate: Step size.

  Returns:
    Kernel and bias.
  """
  _validate.at_least(1, steps=steps, classes=classes)
  _validate.positive(learning_rate=learning_rate)
  x = np.hstack([x, np.ones([len(x), 1])]).astype(np.float32)
  target = np.eye(classes, dtype=np.float32)[y]
  weights = np.zeros([x.shape[1], classes], np.float32)
  for _ in range(steps):
    values = x @ weights
    values -= values.max(axis=1, keepdims=True)
    chances = np.exp(values)
    chances /= chances.sum(axis=1, keepdims=True)
    weights -= learning_rate / len(x) * (x.T @ (chances - target))
  return weights[:-1].astype(np.float64), weights[-1].astype(np.float64)
