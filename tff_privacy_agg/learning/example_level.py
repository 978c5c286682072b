"""Differential privacy for single examples, in the clients' local training."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy

from tff_privacy_agg import _validate
from tff_privacy_agg.accounting.exact_gaussian import repeated_gaussian_epsilon
from tff_privacy_agg.errors import ConfigurationError


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class ExampleLevel:
  """DP-SGD in every client's local training: its updates hide each of its examples.

  A guarantee of its own, with the example as its unit, against everyone who sees a client's
  update: it needs no trust in server or secure sum, and covers less than the ledger's unit, the
  client. The noise of `tensorflow_privacy` comes from TensorFlow's stateful generator, which is
  seeded with 32 bits a process: for simulations. An example whose gradient is not finite adds
  nothing.

  Args:
    l2_norm_clip: Norm, in units of the loss's gradient, that one example's gradient is
      clipped to. Positive.
    noise_multiplier: Standard deviation of the noise in the sum of a batch's gradients over
      `l2_norm_clip`. Positive.
    local_epochs: Most copies of one example in a client's batches of one round, in the same
      batch or in different ones. At least 1.

  Raises:
    ConfigurationError: If an argument is outside its range.

  Reference: arXiv:1607.00133, Algorithm 1, with batches that are not sampled: no
  amplification is claimed.
  """

  l2_norm_clip: float
  noise_multiplier: float
  local_epochs: int = 1

  def __post_init__(self) -> None:
    _validate.positive(l2_norm_clip=self.l2_norm_clip, noise_multiplier=self.noise_multiplier)
    _validate.at_least(1, local_epochs=self.local_epochs)

  def epsilon(self, rounds: int, delta: float) -> float:
    """Epsilon of one example after its client took part in `rounds` rounds (zero-out).

    Copies in one batch move its sum together: k copies cost at most as much as k^2 batches.

    Args:
      rounds: Rounds, at least 1.
      delta: In (0, 1).
    """
    _validate.at_least(1, rounds=rounds)
    return repeated_gaussian_epsilon(self.noise_multiplier, rounds * self.local_epochs**2, delta)

  def as_dict(self) -> dict[str, Any]:
    """The setting as JSON values, for the ledger."""
    return dataclasses.asdict(self)

  def wrap(
    self, model_fn: Callable[[], tff.learning.models.VariableModel]
  ) -> Callable[[], tff.learning.models.VariableModel]:
    """A model whose loss has the gradient of DP-SGD: any of TFF's algorithms can train it.

    Args:
      model_fn: Makes a `tff.learning.models.VariableModel`.

    Raises:
      ConfigurationError: If `model_fn` is a functional model, whose gradient TFF takes itself.
    """
    if isinstance(model_fn, tff.learning.models.FunctionalModel) or not callable(model_fn):
      raise ConfigurationError(
        'Example-level privacy needs a model made by a function, whose gradients it replaces. Pass '
        'a function that makes a `VariableModel`.'
      )
    return lambda: _ExampleLevelModel(model_fn(), self)


class _ExampleLevelModel(tff.learning.models.VariableModel):
  """A model whose loss is its own in value and DP-SGD's in gradient."""

  def __init__(self, model: tff.learning.models.VariableModel, setting: ExampleLevel):
    self._model = model
    self._query = tensorflow_privacy.GaussianSumQuery(
      setting.l2_norm_clip, setting.l2_norm_clip * setting.noise_multiplier
    )

  @property
  def trainable_variables(self) -> Sequence[tf.Variable]:
    return self._model.trainable_variables

  @property
  def non_trainable_variables(self) -> Sequence[tf.Variable]:
    return self._model.non_trainable_variables

  @property
  def local_variables(self) -> Sequence[tf.Variable]:
    return self._model.local_variables

  @property
  def input_spec(self) -> Any:
    return self._model.input_spec

  def predict_on_batch(self, batch_input: Any, training: bool = True) -> Any:
    return self._model.predict_on_batch(batch_input, training)

  def report_local_unfinalized_metrics(self) -> Mapping[str, Any]:
    return self._model.report_local_unfinalized_metrics()

  def metric_finalizers(self) -> Mapping[str, Any]:
    return self._model.metric_finalizers()

  def reset_metrics(self) -> None:
    self._model.reset_metrics()

  def forward_pass(
    self, batch_input: Any, training: bool = True
  ) -> tff.learning.models.BatchOutput:
    if not training:
      return self._model.forward_pass(batch_input, training)
    weights = list(self._model.trainable_variables)
    size = tf.shape(tf.nest.flatten(batch_input)[0])[0]
    state = self._query.initial_global_state()
    params = self._query.derive_sample_params(state)

    def add_example(
      index: tf.Tensor, loss: tf.Tensor, total: Any
    ) -> tuple[tf.Tensor, tf.Tensor, Any]:
      one = tf.nest.map_structure(lambda part: part[index : index + 1], batch_input)
      with tf.GradientTape() as tape:
        output = self._model.forward_pass(one, training)
      gradients = tape.gradient(output.loss, weights, unconnected_gradients='zero')
      gradients = _finite_or_zeros([tf.convert_to_tensor(g) for g in gradients])
      return index + 1, loss + output.loss, self._query.accumulate_record(params, total, gradients)

    zeros = self._query.initial_sample_state([tf.zeros(w.shape, w.dtype) for w in weights])
    _, loss, total = tf.while_loop(
      lambda index, *_: index < size, add_example, (0, tf.constant(0.0), zeros)
    )
    summed, _, _ = self._query.get_noised_result(total, state)
    count = tf.cast(size, tf.float32)
    gradients = [tf.stop_gradient(g / tf.cast(count, g.dtype)) for g in summed]
    # Zero in value; its gradient with respect to each weight is the one above.
    moved = tf.add_n(
      [
        tf.reduce_sum(g * (w - tf.stop_gradient(w)))
        for g, w in zip(gradients, weights, strict=True)
      ]
    )
    return tff.learning.models.BatchOutput(
      loss=tf.stop_gradient(loss / count) + moved, predictions=None, num_examples=size
    )


def _finite_or_zeros(gradients: list[tf.Tensor]) -> list[tf.Tensor]:
  """One example's gradient, or zeros where its norm is not finite: clipping would make it NaN."""
  finite = tf.math.is_finite(tf.linalg.global_norm(gradients))
  return [tf.where(finite, g, tf.zeros_like(g)) for g in gradients]
