"""Nothing leaves a client but one modular sum."""

from collections import OrderedDict

import cases
import numpy as np
import pytest
import tensorflow_federated as tff

import tff_privacy_agg as tpa

pytestmark = pytest.mark.integration

# What TFF calls to move values to the clients, or to compute where they are.
LEAVES_NO_CLIENT = {
  'federated_apply',
  'federated_broadcast',
  'federated_eval_at_server',
  'federated_map',
  'federated_value_at_server',
  'federated_zip_at_clients',
  'federated_zip_at_server',
}


def assert_one_modular_sum(computation):
  tff.test.assert_not_contains_unsecure_aggregation(computation)
  calls = cases.intrinsics(computation)
  assert calls.pop('federated_secure_modular_sum') == 1
  assert set(calls) <= LEAVES_NO_CLIENT


def assert_one_modular_sum_form(form):
  clear, bitwidth, max_input, modular = form.work.type_signature.result
  assert [len(part) for part in (clear, bitwidth, max_input, modular)] == [0, 0, 0, 1]
  assert len(form.report.type_signature.result) == 0


@pytest.mark.parametrize('name', cases.SECURE_PROCESSES)
def test_secure_recipes_hold_one_modular_sum(name):
  process = cases.SECURE_PROCESSES[name]()
  assert_one_modular_sum(process.next)
  assert_one_modular_sum_form(cases.map_reduce_form(process))


def test_learning_process_holds_one_modular_sum():
  process = cases.fed_avg(tpa.ddp_secure_aggregator(1.0, 3))
  assert_one_modular_sum(process.next)
  assert_one_modular_sum_form(
    tff.backends.mapreduce.get_map_reduce_form_for_computation(process.next)
  )


def test_training_metrics_of_tff_are_found_as_a_leak():
  process = cases.fed_avg(tpa.ddp_secure_aggregator(1.0, 3), metrics_aggregator=None)
  with pytest.raises(AssertionError, match='unsecure'):
    assert_one_modular_sum(process.next)


@pytest.mark.parametrize(
  'recipe', [tpa.dp_aggregator, tpa.robust_aggregator], ids=lambda recipe: recipe.__name__
)
def test_recipes_in_the_clear_are_found_as_a_leak(recipe):
  factory = recipe(1.0, 3) if recipe is tpa.dp_aggregator else recipe(weighted=False)
  with pytest.raises(AssertionError, match='unsecure'):
    assert_one_modular_sum(factory.create(cases.WEIGHTS).next)


def round_by_hand(process, state, values):
  form = cases.map_reduce_form(process)
  params = form.prepare(state)
  messages = [form.work([value], params) for value in values]
  return form.update(state, ((), (), (), (cases.modular_sum(form, messages),)))


def client_values(count):
  rng = np.random.default_rng(5)
  return [
    OrderedDict(
      w=0.3 * rng.normal(size=[2, 3]).astype(np.float32),
      b=0.3 * rng.normal(size=[4]).astype(np.float32),
    )
    for _ in range(count)
  ]


def test_round_by_hand_equals_next_without_noise():
  process = tpa.secure_aggregator(weighted=False).create(cases.WEIGHTS)
  state, values = process.initialize(), client_values(3)
  new_state, (result, measurements) = round_by_hand(process, state, values)
  output = process.next(state, values)
  # Rounding is random on both sides: 48 bits make it smaller than float32's.
  for name in ('w', 'b'):
    np.testing.assert_allclose(result[name], output.result[name], atol=1e-6)
  for layer in ('zeroing', 'clipping', 'privacy'):
    for name, value in output.measurements[layer].items():
      assert measurements[layer][name] == value
    for name, value in output.state[layer].items():
      np.testing.assert_array_equal(new_state[layer][name], value)


def test_round_by_hand_has_the_types_of_next_with_noise():
  process = tpa.ddp_secure_aggregator(1.0, 3).create(cases.WEIGHTS)
  state, values = process.initialize(), client_values(3)
  new_state, (result, measurements) = round_by_hand(process, state, values)
  output = process.next(state, values)
  assert {name: value.shape for name, value in result.items()} == {'w': (2, 3), 'b': (4,)}
  assert list(new_state) == list(output.state)
  assert measurements['privacy'] == output.measurements['privacy']
