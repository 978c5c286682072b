"""Membership inference and memorization: attacks that work where there is something to find."""

import math

import numpy as np
import pytest
from sklearn import linear_model

from tff_privacy_agg import audit
from tff_privacy_agg.audit import digits_membership, memorization, place_names, softmax
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning import data

CLASSES, FEATURES = 5, 40


def overfit(seed, steps=2000):
  """A linear model of random labels: all that it can learn is who its members are."""
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(400, FEATURES))
  y = rng.integers(0, CLASSES, 400)
  is_member = np.arange(400) < 120
  weights = softmax.train(x[is_member], y[is_member], CLASSES, steps=steps)
  margins = audit.label_margins(softmax.logits(weights, x), y)
  shadows, trained_on = [], []
  for _ in range(16):
    chosen = rng.random(400) < 0.3
    shadow = softmax.train(x[chosen], y[chosen], CLASSES, steps=300)
    shadows.append(audit.label_margins(softmax.logits(shadow, x), y))
    trained_on.append(chosen)
  return margins, np.stack(shadows), np.stack(trained_on), is_member


def test_attacks_find_the_members_of_an_overfitted_model():
  margins, shadows, trained_on, is_member = overfit(0)
  ratio = audit.offline_lira(margins, shadows, trained_on)
  by_loss, by_ratio = (
    audit.measure_attack(scores[is_member], scores[~is_member], rates=(0.001, 0.2))
    for scores in (margins, ratio)
  )
  assert by_loss.auc.low > 0.8
  assert by_ratio.auc.value > by_loss.auc.value - 0.05
  assert by_ratio.tpr_at[0.2].low > 0.5
  assert by_ratio.tpr_at[0.001] is None  # 280 others are too few
  owners = np.arange(len(ratio)) // 4  # clients of four examples
  members = audit.client_scores(ratio[is_member], owners[is_member])
  others = audit.client_scores(ratio[~is_member], owners[~is_member] - 30)
  assert audit.measure_attack(members, others).auc.value > by_ratio.auc.value


def test_of_the_test_attacks_find_nothing_where_there_is_nothing():
  """Members and others alike: the area's interval holds one half (5 %, seed fixed)."""
  rng = np.random.default_rng(1)
  found = audit.measure_attack(rng.normal(size=3000), rng.normal(size=3000))
  assert found.auc.low < 0.5 < found.auc.high
  for rate, tpr in found.tpr_at.items():
    assert tpr.low <= rate <= tpr.high


def test_the_rate_at_a_threshold_is_counted_with_ties():
  others = np.repeat([0.0, 1.0, 2.0], [50, 45, 5])
  members = np.repeat([1.0, 2.0], [60, 40])
  found = audit.measure_attack(members, others, rates=(0.05, 0.5, 0.001))
  assert found.tpr_at[0.05].value == 0.4
  assert found.tpr_at[0.5].value == 1.0
  assert found.tpr_at[0.001] is None


def test_a_rate_next_to_one_leaves_out_the_lowest_non_member():
  found = audit.measure_attack(np.arange(20.0), np.arange(20.0), rates=[0.95, 1 - 1e-12])
  assert [rate.value for rate in found.tpr_at.values()] == [0.95, 0.95]


def test_margins_are_the_logit_of_the_probability():
  logits = np.array([[1.0, 2.0, -1.0], [0.0, 0.0, 0.0]])
  chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  p = chances[[0, 1], [1, 2]]
  np.testing.assert_allclose(audit.label_margins(logits, np.array([1, 2])), np.log(p / (1 - p)))


def test_descent_comes_near_the_regression_of_sklearn():
  rng = np.random.default_rng(2)
  x = rng.normal(size=(300, 4))
  y = (x @ np.array([1.0, -1.0, 0.5, 0.0]) + rng.normal(size=300) > 0).astype(int)
  ours = softmax.train(x, y, 2, steps=3000)
  theirs = linear_model.LogisticRegression(C=np.inf).fit(x, y)
  found = ours[0][:, 1] - ours[0][:, 0]
  np.testing.assert_allclose(found, theirs.coef_[0], rtol=0.02, atol=0.01)


def test_the_digits_attack_reports_both_units():
  examples = data.load_digits(60)
  x, y, _, is_member = digits_membership._all_examples(examples)
  assert is_member.sum() == 60 * 23
  weights = softmax.train(x[is_member], y[is_member], 10, steps=50)
  seen = []
  found = digits_membership.attack_digits(
    weights, examples, shadows=8, progress=lambda done, total: seen.append((done, total))
  )
  assert seen[-1] == (8, 8)
  assert (found.lira.members, found.lira.non_members) == (1380, 359)
  assert (found.client_lira.members, found.client_lira.non_members) == (60, 15)
  # A linear model after 50 steps has little to tell.
  assert found.lira.auc.high < 0.65


def test_place_names_are_text_without_digits():
  found = place_names.names()
  assert len(found) > 400
  assert {'france', 'japan'} <= set(found)
  assert not any(character.isdigit() for name in found for character in name)
  x, y = place_names.encode(['oslo'])
  assert x.shape == (5, place_names.FEATURES)
  np.testing.assert_array_equal(x.sum(axis=1), 2)
  assert len(y) == 5
  codes = place_names.codes()
  assert len(set(codes)) == 10_000
  assert codes[4827] == 'code 4827'


@pytest.mark.slow
@pytest.mark.usefixtures('simulation')
def test_what_a_client_repeats_is_memorized_in_the_clear():
  """Twelve codes among few names: without memory their mean is 1.44 bits, deviation 0.42."""
  task = memorization.text_task(20, 12)
  found = memorization.memorized(task, aggregator=None, cohort=32, rounds=6)
  assert found.largest_bits == pytest.approx(math.log2(10_000), abs=0.01)
  assert len(found.bits) == 12
  assert found.mean_bits > 1.44 + 4 * 0.42
  assert found.epsilon == math.inf


def test_what_cannot_be_attacked_is_refused():
  with pytest.raises(ConfigurationError, match=r'finite logits \[n, classes\]'):
    audit.label_margins(np.full([2, 3], np.nan), np.array([0, 1]))
  with pytest.raises(ConfigurationError, match='needs 4 shadow models'):
    audit.offline_lira(np.zeros(5), np.zeros([3, 5]))
  with pytest.raises(ConfigurationError, match='Score the same examples'):
    audit.offline_lira(np.zeros(5), np.zeros([8, 4]))
  with pytest.raises(ConfigurationError, match='every client an example'):
    audit.client_scores(np.zeros(3), np.array([0, 2, 2]))
  with pytest.raises(ConfigurationError, match='linear model of 64 features'):
    digits_membership.attack_digits([np.zeros([3, 3]), np.zeros(3)], data.load_digits(60))
  with pytest.raises(ConfigurationError, match='the number of names'):
    memorization.text_task(10_000, 1)
