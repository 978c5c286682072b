"""Large models, little noise, few clients: no epsilon is vacuous for want of exact samplers."""

import bisect
import math

import pytest
import tensorflow as tf

import tff_privacy_agg as tpa
from tff_privacy_agg.aggregation import binding
from tff_privacy_agg.aggregation.privacy_account import PrivacyAccount
from tff_privacy_agg.ledger import LedgerFacts, PrivacyLedger
from tff_privacy_agg.ledger.card import risk


def bound(dim, clients, z, bits):
  layers = [
    tpa.Clipping(norm=1.0),
    tpa.HadamardRotation(),
    tpa.Quantization(),
    tpa.DiscreteGaussianNoise(noise_multiplier=z),
    tpa.SecureModularSum(bits=bits),
  ]
  return binding.bind(layers, tpa.Cohort(expected=clients), dim, tf.float32)


def gaussian_rounds(z, epsilon, delta):
  """Rounds of a central Gaussian that are within a budget."""

  def stated(rounds):
    return tpa.accounting.gaussian_epsilon(math.sqrt(rounds) / z, delta)

  return bisect.bisect_right(range(5000), epsilon, key=stated) - 1


def test_a_budget_of_a_million_parameters_is_used_up_by_noise_alone():
  """Samplers to 2^-77 admitted 154 of these rounds."""
  stack = bound(1_000_000, 1000, 15.0, 24)
  limit = stack.limit(tpa.Budget(epsilon=10.0, delta=1e-6))
  affordable = gaussian_rounds(15.0, 10.0, 1e-6)
  cost = stack.costs[1000].astype(object)
  by_noise = limit.rounds(0 * cost, cost)
  by_samplers = math.floor(limit.most_distance / stack.sampler_distance)
  assert 0.995 * affordable <= by_noise <= affordable
  assert by_samplers > 1000 * by_noise


def test_ledger_and_process_state_one_epsilon_after_nineteen_rounds(tmp_path):
  """The ledger said infinity where the process said 31.1."""
  stack = bound(650, 100, 1.0, 20)
  facts = LedgerFacts(stack=stack.facts(), delta=5e-4, population=200, minimum_clients=100)
  with PrivacyLedger(tmp_path / 'ledger.jsonl', facts) as ledger:
    for number in range(19):
      ledger.settle(ledger.charge(number), survivors=100, counted_by='runtime')
    stated = ledger.epsilon('server')
  account = PrivacyAccount(binding=stack, delta=5e-4, limit=None)
  update, state = tf.function(account.update), account.init()
  for _ in range(19):
    state, measured = update(
      state, tf.constant(100), tf.constant(100), tf.constant(True), tf.constant(False)
    )
  assert stated < 31.1
  assert float(measured['epsilon']) == pytest.approx(stated, rel=1e-9)
  assert float(measured['delta']) == 5e-4


def test_noise_that_protects_hardly_is_said_to(tmp_path):
  """Epsilon 55.75 was printed next to a delta that had become 1."""
  stack = bound(64, 8, 0.3, 20)
  facts = LedgerFacts(stack=stack.facts(), delta=1e-5, population=100, minimum_clients=8)
  with PrivacyLedger(tmp_path / 'ledger.jsonl', facts) as ledger:
    for number in range(10):
      ledger.settle(ledger.charge(number), survivors=8, counted_by='runtime')
    spent = ledger.spent('server')
    words = risk.sentence(risk.attack_bounds(ledger, 'server'))
  assert spent.delta == 1e-5
  assert 50 < spent.epsilon < 200
  assert words.endswith('; this bound excludes almost nothing')
