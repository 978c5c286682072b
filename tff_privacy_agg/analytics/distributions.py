"""Histograms and quantiles of what clients hold."""

import dataclasses
import math
from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tff_privacy_agg import _validate
from tff_privacy_agg._tff import compat
from tff_privacy_agg.aggregation.layers import Clipping, Layer
from tff_privacy_agg.analytics import bounds, trees
from tff_privacy_agg.analytics.base import Query
from tff_privacy_agg.analytics.error_law import ErrorLaw
from tff_privacy_agg.errors import ConfigurationError


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class Histogram(Query):
  """Number of clients that hold each of some categories.

  Attributes:
    categories: Names of the categories, at least 1; no two alike.
    contributions: Most categories of one client that count in full: a client in more
      of them counts for less in each. At least 1.
  """

  categories: tuple[str, ...]
  contributions: int = 1

  def __post_init__(self) -> None:
    _validate.several(categories=self.categories)
    object.__setattr__(self, 'categories', tuple(self.categories))
    _validate.at_least(1, contributions=self.contributions)
    _not_empty(categories=self.categories)
    if len(set(self.categories)) != len(self.categories):
      raise ConfigurationError(
        f'`categories` must differ from one another, got {list(self.categories)}. '
        'Remove the duplicates.'
      )

  @property
  def value_type(self) -> compat.Type:
    return compat.TensorType(np.bool_, [self.size])

  @property
  def size(self) -> int:
    return len(self.categories)

  @property
  def bound(self) -> Layer:
    return Clipping(norm=self.unit)

  @property
  def unit(self) -> float:
    # No client is in more categories than there are.
    return math.sqrt(min(self.contributions, self.size))

  def encode(self, value: tf.Tensor) -> tf.Tensor:
    return tf.cast(value, tf.float64)

  def decode(
    self, sums: tf.Tensor, survivors: tf.Tensor, stddev: tf.Tensor
  ) -> Mapping[str, tf.Tensor]:
    return OrderedDict(counts=sums, stddev=stddev)

  def precision(self, law: ErrorLaw, confidence: float) -> Mapping[str, float]:
    return {'counts': law.half_width(confidence)}

  def limits(self, survivors: Any) -> Mapping[str, tuple[Any, Any]]:
    return {'counts': (0.0, survivors)}


def encode_categories(query: Histogram, held: Collection[str]) -> np.ndarray:
  """One client's value for a histogram: whether it holds each category, bool `[size]`."""
  return np.array([category in held for category in query.categories])


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantiles(Query):
  """Quantiles of a number that every client holds.

  Every client counts in one node of each level of a binary tree over [lower, upper]: the
  leaf that its number lies in (at the ends if it lies outside; the lowest if it is none) and
  all above. The noised counts are made consistent with each other and with the number of
  clients, which is public; their cumulated leaves are the answer's `ranks`: how many hold
  less than the right end of each leaf. They are made rising, and each quantile is where they
  reach it, between leaves by straight lines.

  Attributes:
    probabilities: Of the quantiles, in (0, 1).
    lower: Least number.
    upper: Largest number, above `lower`.
    levels: Levels below the root: 2^levels leaves. 1 to 12.

  Reference: arXiv:0904.0942 (hierarchical counts and their consistent estimate).
  """

  probabilities: tuple[float, ...]
  lower: float
  upper: float
  levels: int = 8

  def __post_init__(self) -> None:
    _validate.several(probabilities=self.probabilities)
    object.__setattr__(self, 'probabilities', tuple(self.probabilities))
    for position, one in enumerate(self.probabilities):
      _validate.fraction(**{f'probabilities[{position}]': one})
    bounds.check_range(self.lower, self.upper)
    _validate.at_least(1, levels=self.levels)
    _not_empty(probabilities=self.probabilities)
    if self.levels > 12:
      raise ConfigurationError(f'`levels` must be at most 12, got {self.levels}.')

  @property
  def value_type(self) -> compat.Type:
    return compat.TensorType(np.float64)

  @property
  def size(self) -> int:
    return trees.nodes(self.levels)

  @property
  def bound(self) -> Layer:
    return Clipping(norm=self.unit)

  @property
  def unit(self) -> float:
    return math.sqrt(self.levels)

  def encode(self, value: tf.Tensor) -> tf.Tensor:
    leaves = 2**self.levels
    place = (value - self.lower) / (self.upper - self.lower)
    # What is no number is nowhere; the comparison in `clip_by_value` would let it pass.
    place = tf.where(tf.math.is_nan(place), tf.zeros_like(place), place)
    leaf = tf.cast(tf.clip_by_value(tf.floor(place * leaves), 0, leaves - 1), tf.int32)
    return trees.path(leaf, self.levels)

  def decode(
    self, sums: tf.Tensor, survivors: tf.Tensor, stddev: tf.Tensor
  ) -> Mapping[str, tf.Tensor]:
    ranks = tf.cumsum(trees.consistent_leaves(sums, survivors, self.levels))
    rising = tf.clip_by_value(trees.monotone(ranks), 0, survivors)
    wanted = tf.constant(self.probabilities, tf.float64) * survivors
    places = trees.quantile_places(rising, wanted)
    return OrderedDict(
      quantiles=self.lower + (self.upper - self.lower) * places,
      ranks=ranks,
      stddev=stddev * math.sqrt(trees.rank_variances(self.levels).max()),
    )

  def precision(self, law: ErrorLaw, confidence: float) -> Mapping[str, float]:
    # All ranks at once, so that the quantiles' are among them wherever they fall.
    at_once = 2**self.levels - 1
    worst = math.sqrt(trees.rank_variances(self.levels).max())
    rank = worst * law.normal_half_width(confidence, at_once)
    return {'rank': rank, 'fraction': rank / law.clients, 'leaf': self._leaf}

  def limits(self, survivors: Any) -> Mapping[str, tuple[Any, Any]]:
    return {'quantiles': (self.lower, self.upper)}

  def cut(self, answer: Mapping[str, tf.Tensor], survivors: tf.Tensor) -> Mapping[str, Any]:
    """The answer as it is: no quantile lies beyond the leaves."""
    return answer

  def intervals(
    self, found: Mapping[str, Any], law: ErrorLaw, confidence: float
  ) -> Mapping[str, np.ndarray]:
    """As in `Query`: of the clients' own quantiles, rounded outwards to whole leaves.

    The true quantile's leaf ends at or behind the first right end whose rank, raised by its
    error, reaches the wanted one, and begins at or before the last whose rank, lowered by
    its error, does not: each fails with half of `1 - confidence`.
    """
    margins = np.sqrt(trees.rank_variances(self.levels)) * law.normal_half_width(confidence)
    ranks = np.asarray(found['ranks'])
    rows = []
    for probability in self.probabilities:
      # The last rank is exact but for the arithmetic: at the last leaf's end all is reached.
      reached = np.append((ranks + margins)[:-1] >= probability * law.clients, True)
      missed = np.insert((ranks - margins)[:-1] < probability * law.clients, 0, True)
      rows.append((int(np.argmax(reached)), int(np.flatnonzero(missed)[-1]) + 1))
    return {'quantiles': self.lower + self._leaf * np.array(rows)}

  @property
  def _leaf(self) -> float:
    return (self.upper - self.lower) / 2**self.levels


def _not_empty(**values: Any) -> None:
  ((name, value),) = values.items()
  if not value:
    raise ConfigurationError(f'`{name}` must name at least one, got none.')
