"""Membership inference on a linear model of the embedded digits."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from tff_privacy_agg import _validate
from tff_privacy_agg.audit import membership, softmax
from tff_privacy_agg.audit.membership import MembershipResult
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning import data
from tff_privacy_agg.learning.data.digits import NUM_CLASSES


@dataclasses.dataclass(frozen=True, kw_only=True)
class DigitsMembership:
  """Attacks on one model, by example and by client.

  Attributes:
    threshold: By the loss of an example.
    lira: By its offline likelihood ratio.
    client_threshold: By the mean loss of a client's examples.
    client_lira: By their mean likelihood ratio.
    shadows: Shadow models.
  """

  threshold: MembershipResult
  lira: MembershipResult
  client_threshold: MembershipResult
  client_lira: MembershipResult
  shadows: int


def attack_digits(
  weights: Sequence[ArrayLike],
  examples: data.FederatedExamples,
  *,
  shadows: int = 32,
  confidence: float = 0.95,
  seed: int = 0,
  progress: Callable[[int, int], None] = lambda done, total: None,
) -> DigitsMembership:
  """Attacks a trained model of the digits.

  Members are the clients' examples, others the held-out ones, which are dealt into
  clients of the same size. Each shadow model is trained on a random half of all of them: an
  attacker who has such data, stronger than most. The held-out clients are dealt at random
  while the real ones have few labels each, so the client's likelihood ratio, which
  compares each example with itself, is the fairer of the two.

  Args:
    weights: Kernel and bias.
    examples: From `data.load_digits`, with the split that the model was trained on.
    shadows: Shadow models, at least 8.
    confidence: Of the intervals.
    seed: Of the shadows' halves and of the held-out clients.
    progress: Called with the shadow models trained, and their number.

  Raises:
    ConfigurationError: If the weights are not those of a linear model of the digits.
  """
  _validate.at_least(8, shadows=shadows)
  _validate.at_least(0, seed=seed)
  x, y, owners, is_member = _all_examples(examples)
  rng = np.random.default_rng(seed)
  target = membership.label_margins(softmax.logits(weights, x), y)
  # Every example is in exactly half of them.
  trained_on = np.argsort(rng.random([shadows, len(y)]), axis=0) < shadows // 2
  scores = []
  for number, chosen in enumerate(trained_on, start=1):
    shadow = softmax.train(x[chosen], y[chosen], NUM_CLASSES)
    scores.append(membership.label_margins(softmax.logits(shadow, x), y))
    progress(number, shadows)
  ratio = membership.offline_lira(target, np.stack(scores), trained_on)

  def measured(values: np.ndarray) -> MembershipResult:
    return membership.measure_attack(values[is_member], values[~is_member], confidence=confidence)

  def by_client(values: np.ndarray) -> MembershipResult:
    return membership.measure_attack(
      membership.client_scores(values[is_member], owners[is_member]),
      membership.client_scores(values[~is_member], owners[~is_member]),
      confidence=confidence,
    )

  return DigitsMembership(
    threshold=measured(target),
    lira=measured(ratio),
    client_threshold=by_client(target),
    client_lira=by_client(ratio),
    shadows=shadows,
  )


def _all_examples(
  examples: data.FederatedExamples,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Pixels, labels, owners (from 0 among members, and among others), and who is a member."""
  xs, ys, owners = [], [], []
  for number, client in enumerate(examples.train.client_ids):
    batch = next(iter(examples.train.create_tf_dataset_for_client(client).batch(2**20)))
    xs.append(batch['x'].numpy())
    ys.append(batch['y'].numpy())
    owners.append(np.full(len(ys[-1]), number))
  each = len(ys[0])
  if len(examples.test_y) < 2 * each:
    raise ConfigurationError(
      f'The {len(examples.test_y)} held-out examples do not fill one client of {each}. Split the '
      'digits among more clients.'
    )
  held_out = np.arange(len(examples.test_y)) // each
  held_out = np.minimum(held_out, len(examples.test_y) // each - 1)
  is_member = np.r_[np.ones(sum(map(len, ys)), np.bool_), np.zeros(len(held_out), np.bool_)]
  return (
    np.concatenate([*xs, examples.test_x]),
    np.concatenate([*ys, examples.test_y]),
    np.concatenate([*owners, held_out]),
    is_member,
  )
