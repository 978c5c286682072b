"""One round of a statistic: the stack that sums the clients' vectors, and the TFF computation."""

import typing
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_privacy_agg import accounting
from tff_privacy_agg._tff import compat
from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.factories import ComposedFactory, compose
from tff_privacy_agg.aggregation.layers import Quantization, SecureModularSum
from tff_privacy_agg.aggregation.layers.noise import NOISE_LAYERS
from tff_privacy_agg.analytics.base import Query
from tff_privacy_agg.errors import ConfigurationError

_FEWEST_BITS, _MOST_BITS = 2, 62


def vector_type(query: Query) -> compat.Type:
  """TFF type of a client's vector."""
  return compat.TensorType(np.float64, [query.size])


def stack_for(
  query: Query,
  cohort: Cohort,
  *,
  noise_multiplier: float,
  mechanism: str,
  bits: int | None,
  randomness: str,
) -> ComposedFactory:
  """The stack of a statistic; the arguments are those of `private_statistic`."""
  noise = NOISE_LAYERS[mechanism](noise_multiplier=noise_multiplier)
  # Clients are at the bound as a rule (all that answer yes are), where conditional rounding
  # would round all of them the same way: their errors would add up. Beta 0 rejects nothing.
  rounding = Quantization(beta=0.0)

  def composed(bits: int) -> ComposedFactory:
    layers = [query.bound, rounding, noise, SecureModularSum(bits=bits)]
    return compose(layers, cohort=cohort, randomness=randomness)

  return composed(_fewest_bits(composed, vector_type(query)) if bits is None else bits)


def _fewest_bits(composed: Callable[[int], ComposedFactory], value_type: compat.Type) -> int:
  """The fewest bits with which the modulus does not make the steps coarser."""

  def norm(bits: int) -> float:
    try:
      design = composed(bits).bind(value_type).design
    except ConfigurationError:  # too few to carry the noise at all
      return 0.0
    return typing.cast(accounting.IntegerDesign, design).scaled_norm

  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # of designs that are not taken
    wanted = norm(_MOST_BITS)
    least, enough = (_FEWEST_BITS if wanted else _MOST_BITS), _MOST_BITS
    while least < enough:
      middle = (least + enough) // 2
      least, enough = (least, middle) if norm(middle) == wanted else (middle + 1, enough)
  return enough


def round_of(
  process: tff.templates.AggregationProcess, query: Query, stddev_of_one: float
) -> compat.Computation:
  """TFF computation of a round, (state at server, values at clients) -> (state, answer).

  Args:
    process: Sums the clients' vectors.
    query: Makes a vector of a value, and the answer of their sum.
    stddev_of_one: Standard deviation of one client's noise, in the unit of the answer.
  """

  @compat.tensorflow_computation(query.value_type)
  def encode(value: tf.Tensor) -> tf.Tensor:
    return tf.ensure_shape(tf.cast(query.encode(value), tf.float64), [query.size])

  result_type = process.next.type_signature.result

  @compat.tensorflow_computation(result_type.result.member, result_type.measurements.member)
  def decode(sums: tf.Tensor, measurements: Mapping[str, Any]) -> Mapping[str, tf.Tensor]:
    privacy = measurements['privacy']
    survivors = tf.cast(privacy['survivors'], tf.float64)
    stddev = tf.sqrt(survivors) * stddev_of_one
    counts = {name: privacy[name] for name in ('survivors', 'honest', 'accepted')}
    return OrderedDict(**query.cut(query.decode(sums, survivors, stddev), survivors), **counts)

  @compat.federated_computation(
    process.initialize.type_signature.result,
    compat.FederatedType(query.value_type, compat.CLIENTS),
  )
  def next_round(state: compat.Value, values: compat.Value) -> tuple[compat.Value, compat.Value]:
    vectors = compat.federated_map(encode, values)
    output = process.next(state, vectors)
    answer = compat.federated_map(decode, (output.result, output.measurements))
    return output.state, answer

  return next_round
