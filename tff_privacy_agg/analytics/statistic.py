"""A query with noise, a cohort and an account: one round of secure aggregation."""

import dataclasses
import functools
from collections import OrderedDict

import numpy as np
import tensorflow as tf

from tff_privacy_agg import _compat, _validate, accounting, binding
from tff_privacy_agg.analytics.base import Query
from tff_privacy_agg.domains import Cohort
from tff_privacy_agg.factories import ComposedFactory, compose
from tff_privacy_agg.layers import (
  DiscreteGaussianNoise,
  Quantization,
  SecureModularSum,
  SkellamNoise,
)

_MECHANISMS = {'discrete_gaussian': DiscreteGaussianNoise, 'skellam': SkellamNoise}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statistic:
  """A private statistic; from `private_statistic`."""

  query: Query
  cohort: Cohort
  noise_multiplier: float
  mechanism: str = 'discrete_gaussian'
  bits: int = 32
  randomness: str = 'chacha20'

  def __post_init__(self):
    _validate.instance(Query, query=self.query)
    _validate.instance(Cohort, cohort=self.cohort)
    _validate.positive(noise_multiplier=self.noise_multiplier)
    _validate.one_of(tuple(_MECHANISMS), mechanism=self.mechanism)

  @functools.cached_property
  def binding(self) -> binding.Binding:
    """The constants of the release: its integer design, its curve."""
    return self._factory.bind(self._vector_type)

  def epsilon(self, delta: float, answers: int = 1) -> float:
    """Epsilon of one client, at `cohort.minimum` honest survivors, zero-out adjacency.

    Args:
      delta: In (0, 1).
      answers: How often the statistic is computed with the same client.
    """
    _validate.at_least(1, answers=answers)
    curve = self.binding.curve(self.cohort.minimum).scaled(answers)
    return accounting.epsilon(curve, delta)[0]

  def facts(
    self, *, population: int, delta: float, secagg_threshold: int | None = None, task: str = ''
  ) -> accounting.LedgerFacts:
    """What the ledger of this statistic rests on: see `accounting.LedgerFacts`."""
    return accounting.LedgerFacts(
      stack=self.binding.facts(),
      delta=delta,
      population=population,
      randomness=self.randomness,
      secagg_threshold=secagg_threshold,
      task=task or repr(self.query),
    )

  @functools.cached_property
  def computation(self):
    """A TFF computation from the clients' values to the answer at the server.

    Beside the answer: `survivors`, `honest`, and `accepted`: whether there were enough of
    them. If not, the answer is that of no client at all.
    """
    process = self._factory.create(self._vector_type)
    query = self.query

    @_compat.tensorflow_computation(query.value_type)
    def encode(value):
      return tf.ensure_shape(tf.cast(query.encode(value), tf.float64), [query.size])

    result_type = process.next.type_signature.result

    @_compat.tensorflow_computation(result_type.result.member, result_type.measurements.member)
    def decode(sums, measurements):
      privacy = measurements['privacy']
      survivors = tf.cast(privacy['survivors'], tf.float64)
      stddev = privacy['noise_multiplier'] * query.unit
      facts = {name: privacy[name] for name in ('survivors', 'honest', 'accepted')}
      return OrderedDict(**query.decode(sums, survivors, stddev), **facts)

    @_compat.federated_computation(_compat.FederatedType(query.value_type, _compat.CLIENTS))
    def compute(values):
      vectors = _compat.federated_map(encode, values)
      output = process.next(process.initialize(), vectors)
      return _compat.federated_map(decode, (output.result, output.measurements))

    return compute

  @functools.cached_property
  def _factory(self) -> ComposedFactory:
    noise = _MECHANISMS[self.mechanism](noise_multiplier=self.noise_multiplier)
    layers = [self.query.bound, Quantization(), noise, SecureModularSum(bits=self.bits)]
    return compose(layers, cohort=self.cohort, randomness=self.randomness)

  @property
  def _vector_type(self) -> _compat.Type:
    return _compat.TensorType(np.float64, [self.query.size])


def private_statistic(
  query: Query,
  cohort: Cohort,
  *,
  noise_multiplier: float,
  mechanism: str = 'discrete_gaussian',
  bits: int = 32,
  randomness: str = 'chacha20',
) -> Statistic:
  """A statistic of the clients' values with distributed differential privacy.

  One round: every client sends one vector of residues with its share of the noise in it,
  and the server sees their sum. `statistic.computation(values)` runs it in a TFF context
  that can run secure sums, such as `runtime.simulation_context()` or
  `runtime.SecAggContext`.

  Args:
    query: `Count`, `Sum`, `Mean`, `Histogram` or `Quantiles`.
    cohort: How many clients answer.
    noise_multiplier: Effective, at `cohort.minimum` honest survivors: standard deviation
      of the noise over the most that one client can move the vector. Positive.
    mechanism: 'discrete_gaussian' or 'skellam'.
    bits: Bits a number that leave a client, 2 to 62.
    randomness: As in `compose`.

  Raises:
    ConfigurationError: If an argument is outside its range.
  """
  return Statistic(
    query=query,
    cohort=cohort,
    noise_multiplier=noise_multiplier,
    mechanism=mechanism,
    bits=bits,
    randomness=randomness,
  )
