"""The estimators against closed forms, scipy, brute force and published figures."""

import math

import numpy as np
import pytest
import tensorflow_federated as tff
from scipy import integrate, stats
from sklearn import metrics

from tff_privacy_agg import accounting, audit
from tff_privacy_agg.errors import ConfigurationError


@pytest.mark.parametrize(('successes', 'trials'), [(0, 10), (3, 10), (10, 10), (57, 1000)])
def test_intervals_of_rates_are_those_of_scipy(successes, trials):
  ours = audit.clopper_pearson(successes, trials, 0.9)
  theirs = stats.binomtest(successes, trials).proportion_ci(0.9, method='exact')
  assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
  assert ours.value == successes / trials


def test_epsilon_from_rates_is_the_log_ratio_of_the_bounds():
  found = audit.epsilon_from_rates(
    true_positives=900, members=1000, false_positives=20, non_members=1000, delta=1e-3
  )
  hit = stats.binomtest(900, 1000).proportion_ci(0.95, method='exact').low
  miss = stats.binomtest(20, 1000).proportion_ci(0.95, method='exact').high
  other_hit = stats.binomtest(980, 1000).proportion_ci(0.95, method='exact').low
  other_miss = stats.binomtest(100, 1000).proportion_ci(0.95, method='exact').high
  expected = max(math.log((hit - 1e-3) / miss), math.log((other_hit - 1e-3) / other_miss))
  assert found == pytest.approx(expected)
  assert 2.0 < found < math.log(0.9 / 0.02)
  nothing = audit.epsilon_from_rates(
    true_positives=50, members=1000, false_positives=50, non_members=1000, delta=0.0
  )
  assert nothing == 0.0


def test_the_area_is_that_of_sklearn_and_its_interval_covers():
  """Coverage of a 90 % interval in 400 samples: 4 standard errors (6e-5)."""
  rng = np.random.default_rng(0)
  members, others = rng.integers(0, 9, 70) + 1.0, rng.integers(0, 9, 40) * 1.0
  labels = np.r_[np.ones(70), np.zeros(40)]
  expected = metrics.roc_auc_score(labels, np.r_[members, others])
  assert audit.auc_interval(members, others).value == pytest.approx(expected)
  truth = stats.norm.cdf(1 / math.sqrt(2))
  covered = 0
  for _ in range(400):
    found = audit.auc_interval(rng.normal(1, 1, 100), rng.normal(0, 1, 100), 0.9)
    covered += found.low <= truth <= found.high
  assert abs(covered / 400 - 0.9) < 4 * math.sqrt(0.09 / 400)


def reference_p_value(m, r, v, epsilon, delta):
  """Theorem 5.2 of arXiv:2305.08846, every term."""
  law = stats.binom(r, 1 / (1 + math.exp(-epsilon)))
  alpha = max([(law.cdf(v - 1) - law.cdf(v - i - 1)) / i for i in range(1, v + 1)], default=0.0)
  return min(1.0, law.sf(v - 1) + 2 * m * delta * alpha)


def test_p_values_are_those_of_the_theorem():
  rng = np.random.default_rng(1)
  for _ in range(300):
    m = int(rng.integers(1, 400))
    r = int(rng.integers(0, m + 1))
    v = int(rng.integers(0, r + 1))
    epsilon, delta = rng.uniform(0, 5), 10 ** rng.uniform(-8, -2)
    found = audit.one_run_p_value(canaries=m, guesses=r, correct=v, epsilon=epsilon, delta=delta)
    assert found == pytest.approx(reference_p_value(m, r, v, epsilon, delta), rel=1e-7, abs=1e-13)


def test_right_guesses_alone_give_the_closed_form():
  """All guesses right at delta 0: e^eps / (1 + e^eps) = significance^(1 / guesses)."""
  included = np.arange(1000) % 2 == 0
  bound = audit.one_run_lower_bound(included.astype(float), included)
  chance = (0.05 / bound.candidates) ** (1 / 1000)
  assert (bound.guesses, bound.correct) == (1000, 1000)
  assert bound.lower == pytest.approx(math.log(chance / (1 - chance)), abs=1e-4)
  needed = audit.canaries_for_bound(bound.lower)
  assert needed == pytest.approx(1000, rel=0.01)


@pytest.mark.parametrize('delta', [0.0, 1e-5])
def test_the_one_run_bound_is_valid_for_randomized_response(delta):
  """The worst case of the theorem: 400 runs, at most 5 % of them above, 4 standard errors."""
  epsilon, canaries = 1.0, 200
  rng = np.random.default_rng(2)
  truth = 1 / (1 + math.exp(-epsilon))
  above, positive = 0, 0
  for _ in range(400):
    included = rng.random(canaries) < 0.5
    answers = included ^ (rng.random(canaries) > truth)
    bound = audit.one_run_lower_bound(answers.astype(float), included, delta=delta)
    above += bound.lower > epsilon
    positive += bound.lower > 0.2
  assert above <= 20 + 4 * math.sqrt(400 * 0.05 * 0.95)
  assert positive > 350  # of the test: the bound is not trivially zero


def test_of_the_test_the_best_of_many_thresholds_unpaid_is_not_valid():
  """Taking the best number of guesses without paying for the choice is above in too many runs."""
  rng = np.random.default_rng(3)
  cheated = 0
  for _ in range(200):
    included = rng.random(200) < 0.5
    order = np.argsort(-rng.normal(size=200))
    hits = np.cumsum(included[order])
    best = min(
      audit.one_run_p_value(canaries=200, guesses=k, correct=int(hits[k - 1]), epsilon=0, delta=0)
      for k in range(5, 201, 5)
    )
    cheated += best < 0.05
  assert cheated > 10 + 4 * math.sqrt(200 * 0.05 * 0.95)


def test_equal_scores_in_the_order_of_the_coins_prove_nothing():
  included = np.arange(200) < 100
  assert audit.one_run_lower_bound(np.zeros(200), included).lower == 0.0


def test_two_normal_laws_against_quadrature_and_the_gaussian_mechanism():
  for mu in (0.1, 0.65, 1.85, 25.0):
    found = audit.gaussian_pair_epsilon((0, 1), (mu, 1), 1e-6)
    assert found == pytest.approx(accounting.gaussian_epsilon(mu, 1e-6), rel=1e-6)
  for second in ((0.5, 1.3), (1.0, 0.7), (0.0, 1.2)):
    epsilon = audit.gaussian_pair_epsilon((0, 1), second, 1e-3)
    deltas = []
    for p, q in (((0, 1), second), (second, (0, 1))):

      def gap(x, p=p, q=q, epsilon=epsilon):
        return max(0.0, stats.norm.pdf(x, *p) - math.exp(epsilon) * stats.norm.pdf(x, *q))

      deltas.append(integrate.quad(gap, -15, 15, limit=500, points=(-3, 0, 3))[0])
    assert max(deltas) == pytest.approx(1e-3, rel=1e-3)
  assert math.isfinite(audit.gaussian_pair_epsilon((0, 1), (25, 0.01), 1e-6))


@pytest.mark.parametrize(('sigma', 'published'), [(4.22, 1.0), (1.54, 3.0), (0.541, 10.0)])
def test_the_gaussian_mechanism_as_in_the_published_table(sigma, published):
  """arXiv:2302.03098, Table 1: these deviations have epsilon 1, 3 and 10 at delta 1e-6.

  There k = sqrt(d) canaries give estimates around them; here d = 10,000, 100 canaries: the mean
  of 30 estimates is within four standard errors (6e-5), and no near miss.
  """
  assert accounting.gaussian_epsilon(1 / sigma, 1e-6) == pytest.approx(published, rel=0.005)
  rng = np.random.default_rng(4)
  found = []
  for _ in range(30):
    scores, _ = gaussian_sum_scores(rng, 100, 10_000, sigma)
    estimate = audit.estimate_epsilon(scores, dimension=10_000, delta=1e-6)
    found.append(estimate.mean)
    assert 0.7 < estimate.stddev < 1.3
  # Canaries add to the norm: ||s||^2 = d sigma^2 + k.
  truth = 100 / math.sqrt(10_000 * sigma**2 + 100)
  error = 1 / math.sqrt(30 * 100)
  assert abs(np.mean(found) - truth) < 4 * error * 1.2
  assert abs(np.mean(found) - 1.5 * truth) > 4 * error


def gaussian_sum_scores(rng, canaries, dimension, sigma):
  directions = rng.normal(size=(canaries, dimension))
  directions /= np.linalg.norm(directions, axis=1, keepdims=True)
  observed = directions.sum(axis=0) + sigma * rng.normal(size=dimension)
  return audit.cosines(directions, observed), directions


def test_directions_that_were_not_there_follow_the_null_law():
  """Kolmogorov-Smirnov against N(0, 1/d), 2,000 of them; a law 20 % wider is rejected."""
  rng = np.random.default_rng(5)
  observed = rng.normal(size=1000) ** 3
  directions = rng.normal(size=(2000, 1000))
  directions /= np.linalg.norm(directions, axis=1, keepdims=True)
  scores = audit.cosines(directions, observed) * math.sqrt(1000)
  assert stats.kstest(scores, 'norm').pvalue > 1e-4
  assert stats.kstest(scores / 1.2, 'norm').pvalue < 1e-4


def test_rounds_are_combined_over_those_of_a_canary():
  per_round = np.array([[0.1, 0.2], [0.3, -0.4], [0.5, 0.6]])
  took_part = np.array([[True, False], [True, False], [False, False]])
  np.testing.assert_allclose(audit.combine_rounds(per_round, took_part), [0.4 / math.sqrt(2), 0.0])
  np.testing.assert_allclose(audit.combine_rounds(per_round, took_part, 'max'), [0.3, 0.0])
  lengths = np.array([2.0, 0.0])
  found = audit.combine_rounds(per_round, took_part, lengths=lengths)
  np.testing.assert_allclose(found, [0.2, 0.0])
  with pytest.raises(ConfigurationError, match='one number for each of 2 canaries'):
    audit.combine_rounds(per_round, took_part, lengths=np.ones(3))


@pytest.mark.parametrize('momentum', [0.0, 0.9])
def test_a_server_s_momentum_proves_no_more_than_the_noise_admits(momentum):
  """Gaussian noise of 8 canaries' length in 30 rounds; confidence 0.9999, fixed seed."""
  rounds, noise, dimension = 30, 8.0, 2000
  canaries = audit.Canaries(count=200, norm=1.0, seed=3)
  sent = canaries.directions(dimension)[canaries.included].sum(axis=0)
  rng = np.random.default_rng(7)
  weights, moved = np.zeros(dimension), np.zeros(dimension)

  def model():
    return tff.learning.models.ModelWeights(trainable=[weights], non_trainable=[])

  watch = audit.CanaryAudit(canaries, model())
  for _ in range(rounds):
    moved = momentum * moved + sent + noise * rng.standard_normal(dimension)
    weights = weights + moved
    watch.observe(canaries.ids, model())
  found = watch.result(delta=1e-5, confidence=0.9999)
  mu = math.sqrt(rounds) / noise
  assert not found.exceeds(accounting.gaussian_epsilon(mu, 1e-5))
  assert abs(found.absent_stddev - 1) < 4 / math.sqrt(2 * 90)
  assert abs(found.all_iterates.mean - mu) < 4 / math.sqrt(90)


def test_the_number_of_canaries_for_a_resolution_delivers_it():
  """Median lower bound of 200 runs is within the resolution; with a third of them it is not."""
  needed = audit.canaries_for_resolution(3.0, delta=1e-6, resolution=1.0)
  mu = 1 / 1.54
  rng = np.random.default_rng(6)

  def median(canaries):
    scores = rng.normal(mu, 1, size=(200, canaries)) / 100
    return np.median(
      [audit.estimate_epsilon(s, dimension=10_000, delta=1e-6).lower for s in scores]
    )

  assert median(needed) > 1.9
  assert median(needed // 3) < 1.9


def test_exposure_is_the_bits_of_the_rank():
  """A canary likelier than all of n others has log2(n + 1) bits: arXiv:1802.08232, section 4.2.

  Its nine digits of a social security number have at most about 30 bits.
  """
  losses = np.linspace(1, 2, 1023)
  assert audit.exposure(0.5, losses).bits == 10.0
  assert audit.exposure(3.0, losses).bits == 0.0
  assert audit.exposure(float(losses[511]), losses).rank == 513
  assert math.log2(10**9) == pytest.approx(30, abs=0.2)
  rng = np.random.default_rng(7)
  sample = rng.normal(10, 1, size=3000)
  found = audit.extrapolated_exposure(6.0, sample)  # P = 3.2e-5: 14.9 bits
  assert found == pytest.approx(-math.log2(stats.norm.cdf(-4)), abs=1.5)
  assert audit.extrapolated_exposure(10.0, sample) == pytest.approx(1.0, abs=0.1)


def test_what_cannot_be_estimated_is_refused_with_what_is_needed():
  coins = np.array([True, False, True])
  with pytest.raises(ConfigurationError, match=r'3 canaries prove nothing.*at least 6'):
    audit.one_run_lower_bound(np.array([1.0, 2.0, 3.0]), coins)
  with pytest.raises(ConfigurationError, match='boolean for each of the 3 scores'):
    audit.one_run_lower_bound(np.array([1.0, 2.0, 3.0]), np.array([1, 0, 1]))
  with pytest.raises(ConfigurationError, match='needs 10 included canaries, got 4'):
    audit.estimate_epsilon(np.ones(4), dimension=1000, delta=1e-6)
  with pytest.raises(ConfigurationError, match='`dimension` must be at least 100'):
    audit.estimate_epsilon(np.ones(40), dimension=10, delta=1e-6)
  with pytest.raises(ConfigurationError, match='not finite'):
    audit.auc_interval(np.array([1.0, np.nan]), np.array([0.0, 1.0]))
  with pytest.raises(ConfigurationError, match='not finite'):
    audit.cosines(np.ones([2, 3]), np.array([1, np.inf, 0]))
  with pytest.raises(ConfigurationError, match='`successes` must be at most'):
    audit.clopper_pearson(3, 2)
  with pytest.raises(ConfigurationError, match='`resolution` must be below'):
    audit.canaries_for_resolution(1.0, delta=1e-6, resolution=2.0)
