"""DP-SGD on the clients: the gradient that TFF's loops take is clipped and noised by example."""

import json

import cases
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_federated as tff

import tff_privacy_agg as tpa
from tff_privacy_agg.learning import ExampleLevel
from tff_privacy_agg.ledger import verify

pytestmark = pytest.mark.integration

BATCH = next(iter(cases.client_dataset(0).unbatch().batch(4)))


def gradient_of(setting, factor=1.0):
  model = setting.wrap(cases.model_fn)() if setting else cases.model_fn()
  batch = {key: part * factor for key, part in BATCH.items()}

  @tf.function
  def gradient():
    with tf.GradientTape() as tape:
      output = model.forward_pass(batch)
    return output.loss, tape.gradient(output.loss, list(model.trainable_variables))

  return gradient


def flat(gradients):
  return np.concatenate([np.asarray(g).ravel() for g in gradients])


def test_without_clip_and_noise_it_is_the_plain_gradient():
  loss, plain = gradient_of(None)()
  wide = ExampleLevel(l2_norm_clip=1e6, noise_multiplier=1e-12)
  same_loss, same = gradient_of(wide)()
  np.testing.assert_allclose(same_loss, loss, rtol=1e-5)
  np.testing.assert_allclose(flat(same), flat(plain), rtol=1e-4)


@pytest.mark.parametrize('factor', [1.0, 1e4])
def test_no_example_moves_the_gradient_by_more_than_the_clip(factor):
  """Each gradient is far above the clip: four of them sum to 4 clips, averaged over 4."""
  narrow = ExampleLevel(l2_norm_clip=1e-3, noise_multiplier=1e-9)
  _, found = gradient_of(narrow, factor)()
  assert np.linalg.norm(flat(found)) <= 1e-3 * (1 + 1e-5)
  _, plain = gradient_of(None, factor)()
  assert np.linalg.norm(flat(plain)) > 0.1


@pytest.mark.parametrize('value', [np.nan, np.inf, 3e38, 1e20])
def test_an_example_without_a_finite_gradient_adds_nothing(value):
  """Else its NaN replaces the noise of the whole update: that one example decides what is sent.

  The gradient is that of the other three examples, which are the same in both batches.
  """
  setting = ExampleLevel(l2_norm_clip=1e3, noise_multiplier=1e-12)
  model = setting.wrap(cases.model_fn)()

  def gradient(batch):
    with tf.GradientTape() as tape:
      loss = model.forward_pass(batch).loss
    size = len(batch['y'])
    return size * flat(tape.gradient(loss, list(model.trainable_variables)))

  spoilt = dict(BATCH, x=tf.concat([BATCH['x'][:3], tf.fill(BATCH['x'][3:].shape, value)], axis=0))
  others = {key: part[:3] for key, part in BATCH.items()}
  found = gradient(spoilt)
  assert np.all(np.isfinite(found))
  np.testing.assert_allclose(found, gradient(others), rtol=1e-5, atol=1e-6)


def test_noise_has_the_promised_size():
  """3 x 600 draws: the deviation of the standard deviation is 1.7 %; 5 of them, 6e-7."""
  setting = ExampleLevel(l2_norm_clip=2.0, noise_multiplier=5.0)
  gradient = gradient_of(setting)
  draws = np.stack([flat(gradient()[1]) for _ in range(600)])
  noise = draws - draws.mean(axis=0)
  assert np.std(noise, ddof=3) == pytest.approx(2.0 * 5.0 / 4, rel=0.085)


def private_process(setting):
  return tpa.build_private_learning_process(
    'fed_avg',
    cases.model_fn,
    aggregator=tpa.ddp_secure_aggregator(1.0, 3),
    accounting=tpa.Accounting(population=100, minimum_clients=3),
    client_optimizer_fn=cases.sgd(0.1),
    example_level=setting,
  )


def test_it_trains_in_tffs_algorithms_and_its_ledger_states_both_units(tmp_path):
  setting = ExampleLevel(l2_norm_clip=1.0, noise_multiplier=4.0, local_epochs=2)
  process = private_process(setting)
  tff.test.assert_not_contains_unsecure_aggregation(process.next)
  state = process.initialize()
  with process.open_ledger(tmp_path / 'ledger.jsonl') as ledger:
    charge = ledger.charge(1)
    output = process.next(state, [cases.client_dataset(c) for c in range(3)])
    ledger.settle(charge, survivors=3, counted_by='runtime')
    fields = {f['name']: f for f in json.loads(ledger.statement('json'))['fields']}
  before, after = (process.get_model_weights(s).trainable[0] for s in (state, output.state))
  assert np.any(before != after)
  found = fields['example_level']['value']
  assert found['epsilon'] == pytest.approx(setting.epsilon(1, process.facts.delta))
  assert found['unit'] == 'example'
  assert verify(tmp_path / 'ledger.jsonl').ok
  process.open_ledger(tmp_path / 'ledger.jsonl').close()
  other = private_process(ExampleLevel(l2_norm_clip=1.0, noise_multiplier=5.0, local_epochs=2))
  with pytest.raises(tpa.LedgerError, match='example-level noise'):
    other.open_ledger(tmp_path / 'ledger.jsonl')


def test_a_ledger_states_an_example_s_epsilon_of_all_its_rounds_or_of_none(tmp_path):
  setting = ExampleLevel(l2_norm_clip=1.0, noise_multiplier=4.0)
  plain, noised = private_process(None), private_process(setting)
  for first, second in ((plain, noised), (noised, plain)):
    path = tmp_path / f'{first is plain}.jsonl'
    with first.open_ledger(path) as ledger:
      ledger.charge(1)
    first.open_ledger(path).close()
    before = path.read_bytes()
    with pytest.raises(tpa.LedgerError, match='no example-level noise'):
      second.open_ledger(path)
    assert path.read_bytes() == before
  begun = tmp_path / 'begun.jsonl'
  plain.open_ledger(begun).close()  # as a crash before the note leaves it
  with noised.open_ledger(begun) as ledger:
    assert ledger.state.notes['example_level'] == setting.as_dict()


def test_epsilon_is_that_of_all_passes_over_an_example():
  setting = ExampleLevel(l2_norm_clip=1.0, noise_multiplier=4.0, local_epochs=3)
  found, mu = setting.epsilon(10, 1e-5), np.sqrt(10 * 3**2) / 4.0
  exact = scipy.stats.norm.cdf(mu / 2 - found / mu) - np.exp(found) * scipy.stats.norm.cdf(
    -mu / 2 - found / mu
  )
  assert 1 - 1e-6 < exact / 1e-5 <= 1


def test_copies_of_an_example_in_one_batch_cost_what_they_can_move():
  """k copies far above the clip move the sum by k clips; k separate batches would by sqrt(k)."""
  narrow = ExampleLevel(l2_norm_clip=1e-3, noise_multiplier=1e-9, local_epochs=3)
  model = narrow.wrap(cases.model_fn)()
  copied = {key: tf.repeat(part[:1], 3, axis=0) for key, part in BATCH.items()}
  with tf.GradientTape() as tape:
    loss = model.forward_pass(copied).loss
  moved = 3 * np.linalg.norm(flat(tape.gradient(loss, list(model.trainable_variables)))) / 1e-3
  assert moved == pytest.approx(3, rel=1e-3)
  charged = (
    narrow.epsilon(1, 1e-5),
    ExampleLevel(l2_norm_clip=1.0, noise_multiplier=1e-9 / moved).epsilon(1, 1e-5),
  )
  assert charged[0] >= charged[1] * (1 - 1e-3)


@pytest.mark.parametrize(
  'change', [{'l2_norm_clip': 0.0}, {'noise_multiplier': -1.0}, {'local_epochs': 0}], ids=str
)
def test_bad_settings_are_refused(change):
  with pytest.raises(tpa.ConfigurationError, match=next(iter(change))):
    ExampleLevel(**{'l2_norm_clip': 1.0, 'noise_multiplier': 1.0, **change})


def test_a_model_that_is_no_function_is_refused():
  with pytest.raises(tpa.ConfigurationError, match='VariableModel'):
    ExampleLevel(l2_norm_clip=1.0, noise_multiplier=1.0).wrap('model')
