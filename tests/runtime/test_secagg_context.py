"""TFF computations whose secure sums run through the real protocol."""

import collections
import types
import weakref
from collections import OrderedDict

import numpy as np
import pytest
import secagg_cases as cases
import tensorflow as tf
import tensorflow_federated as tff

import tff_privacy_agg as tpa
from tff_privacy_agg import secagg
from tff_privacy_agg._tff import compat, structures
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.runtime import SecAggContext, executors, use
from tff_privacy_agg.secagg import wire
from tff_privacy_agg.secagg.local.session import LocalSession

COMPUTATIONS = {
  'modular, unsorted names': (cases.with_state(cases.modular, cases.DATA), cases.values(7)),
  'bitwidth': (cases.with_state(lambda x: tff.federated_secure_sum_bitwidth(x, 8)), [1, 2, 255, 0]),
  'max input': (cases.with_state(lambda x: tff.federated_secure_sum(x, np.int32(99))), [1, 2, 99]),
  'each kind': (cases.with_state(cases.each_kind), [1, 2, 100]),
}


@pytest.fixture(scope='module')
def context():
  made = SecAggContext()
  yield made
  made.close()


@pytest.fixture
def make_context():
  made = []

  def make(**arguments):
    made.append(SecAggContext(**arguments))
    return made[-1]

  yield make
  for context in made:
    context.close()


@pytest.mark.parametrize('name', COMPUTATIONS)
def test_sums_are_those_of_the_simulation(name, context, simulation):
  computation, data = COMPUTATIONS[name]
  want = computation(np.int32(1), data)
  with use(context):
    got = computation(np.int32(1), data)
  cases.assert_same(got, want)
  assert context.last_round.survivors == tuple(range(len(data)))


def test_the_names_of_the_case_are_unsorted():
  # If not, the case above would not see leaves in the order of `tf.nest`.
  value = cases.values(1)[0]
  declared = structures.flatten(value, cases.VALUES)
  assert any(a is not b for a, b in zip(tf.nest.flatten(value), declared, strict=True))


def test_other_computations_run_as_they_are(context):
  plain = tff.federated_computation(lambda x: tff.federated_sum(x), cases.INTEGERS)
  with use(context):
    assert plain([1, 2, 3]) == 6
  assert context.compile(plain) is None


def test_use_puts_the_former_context_back(context):
  before = tff.framework.get_context_stack().current
  with use(context) as same:
    assert same is context
    assert tff.framework.get_context_stack().current is context
  assert tff.framework.get_context_stack().current is before


@pytest.mark.parametrize('mode', ['semi_honest', 'authenticated'])
def test_the_sum_of_survivors_is_right_after_drop_outs_in_every_round(mode, make_context):
  drops = {1: 0, 4: 1, 7: 2, 10: 3, 13: 4, 16: 5}
  context = make_context(mode=mode, drops=drops, dropout_fraction=0.3)
  computation, data = COMPUTATIONS['modular, unsorted names'][0], cases.values(20)
  with use(context):
    new_state, total = computation(np.int32(1), data)
  kept = [index for index in range(20) if index not in (1, 4, 7)]
  assert total['one'] == len(kept)
  np.testing.assert_array_equal(total['q'], sum(data[i]['q'].astype(int) for i in kept) % 2**20)
  assert new_state == 2
  report = context.last_round
  assert report.survivors == tuple(kept)
  silent = {client: at for at, clients in report.dropped.items() for client in clients}
  if mode == 'semi_honest':
    assert silent.pop(10) == 4  # there is no round 3
    assert silent == {client: at for client, at in drops.items() if client != 10}
  else:
    assert silent == drops
  numbers = report.as_dict()
  assert numbers['dropped/2'] == 1
  assert numbers['bytes_up/maximum'] >= numbers['bytes_up/median'] > 0
  assert all(np.isfinite(number) for number in numbers.values())


def test_too_many_drop_outs_give_no_sum(make_context):
  computation, _ = COMPUTATIONS['bitwidth']
  context = make_context(drops={0: 2, 1: 2, 2: 2}, dropout_fraction=0.4)
  with use(context):
    with pytest.raises(secagg.NotEnoughClients, match='3 needed'):
      computation(np.int32(1), [1, 2, 3, 4, 5])
    assert context.last_round is None
    # The context lives on.
    assert computation(np.int32(1), [1] * 9) == (2, 6)


def test_too_few_shares_give_no_sum(make_context):
  computation, _ = COMPUTATIONS['bitwidth']
  context = make_context(drops={0: 4, 1: 4, 2: 4, 3: 4})
  with use(context), pytest.raises(secagg.NotEnoughShares):
    computation(np.int32(1), [1] * 10)


def test_random_drops_have_their_rate_and_repeat():
  drops = tpa.runtime.RandomDrops(rate=0.1, seed=3)
  plans = [drops.plan(session, 100) for session in range(200)]
  assert plans == [drops.plan(session, 100) for session in range(200)]
  assert plans[0] != plans[1]
  # Binomial of 20,000: a false alarm has probability below 7e-5.
  assert abs(sum(map(len, plans)) - 2000) < 4 * np.sqrt(20_000 * 0.1 * 0.9)
  assert set().union(*(plan.values() for plan in plans)) == set(range(6))


@pytest.mark.parametrize('drops', [{3: 0}, {0: 6}, {-1: 0}, {0: 1.5}])
def test_a_plan_of_clients_or_rounds_that_are_not_is_refused(drops, make_context):
  computation, _ = COMPUTATIONS['bitwidth']
  with use(make_context(drops=drops)), pytest.raises(ConfigurationError, match='drops'):
    computation(np.int32(1), [1, 2, 3])


@tff.federated_computation(cases.STATE, cases.INTEGERS)
def _dependent(state, values):
  first = tff.federated_secure_sum_bitwidth(values, 8)
  add = tff.tensorflow.computation(lambda a, b: a + b, np.int32, np.int32)
  more = tff.federated_map(add, (values, tff.federated_broadcast(first)))
  return state, tff.federated_secure_sum_bitwidth(more, 20)


def _sum(values):
  return tff.federated_secure_sum_bitwidth(values, 8)


REFUSED = {
  'no state': (
    tff.federated_computation(_sum, cases.INTEGERS),
    ([1, 2, 3],),
    ConfigurationError,
    r'takes \{int32\}@CLIENTS. Add a state, a tff.SERVER-placed',
  ),
  'result at clients': (
    tff.federated_computation(lambda s, x: (s, _sum(x), x), cases.STATE, cases.INTEGERS),
    (1, [1, 2, 3]),
    ConfigurationError,
    'tff.CLIENTS cannot be returned',
  ),
  'no output': (
    tff.federated_computation(lambda s, x: _sum(x), cases.STATE, cases.INTEGERS),
    (1, [1, 2, 3]),
    ConfigurationError,
    'Return the new state and an output',
  ),
  'dependent sums': (_dependent, (1, [1, 2, 3]), ConfigurationError, 'MapReduceForm.*dependent'),
  'clear': (
    cases.with_state(lambda x: tff.federated_zip((_sum(x), tff.federated_sum(x)))),
    (1, [1, 2, 3]),
    secagg.ClearAggregandError,
    r"'0' \(int32\)",
  ),
  'modulus': (
    cases.with_state(
      lambda x: tff.backends.mapreduce.federated_secure_modular_sum(x, np.int32(100))
    ),
    (1, [1, 2, 3]),
    secagg.UnsupportedModulusError,
    'power of two',
  ),
  'capacity': (
    cases.with_state(lambda x: tff.federated_secure_sum_bitwidth(x, 28)),
    (1, [1, 2, 3]),
    secagg.CapacityError,
    'Lower `maximum_clients`',
  ),
  'value above its bound': (
    cases.with_state(_sum),
    (1, [1, 256, 3]),
    secagg.InputOutOfRange,
    'from 0 to 255',
  ),
  'value below zero': (
    cases.with_state(_sum),
    (1, [1, -1, 3]),
    secagg.InputOutOfRange,
    'from 0 to 255',
  ),
}


@pytest.mark.parametrize('name', REFUSED)
def test_computations_that_would_leave_clients_in_the_clear_are_refused(name, context):
  computation, arguments, error, match = REFUSED[name]
  with use(context), pytest.raises(error, match=match):
    computation(*arguments)


def test_more_clients_than_the_context_is_for(make_context):
  computation, _ = COMPUTATIONS['bitwidth']
  context = make_context(maximum_clients=4)
  assert context.compile(computation).leaves[0].bits == 10
  with use(context), pytest.raises(secagg.CapacityError, match='Raise `maximum_clients`'):
    computation(np.int32(1), [1] * 5)


@pytest.mark.parametrize(
  'arguments', [{'maximum_clients': 2}, {'mode': 'x'}, {'allow_clear': 'loss'}, {'verify': 'x'}]
)
def test_arguments_are_checked_before_a_worker_starts(arguments, monkeypatch):
  monkeypatch.setattr(tpa.runtime.simulation, 'Worker', None)
  with pytest.raises(ConfigurationError):
    SecAggContext(**arguments)


def test_results_come_in_parts_and_in_order(context, monkeypatch, simulation):
  monkeypatch.setattr(executors, '_CALL_CLIENTS', 3)
  computation, _ = COMPUTATIONS['modular, unsorted names']
  data = cases.values(8)
  want = computation(np.int32(1), data)
  with use(context):
    cases.assert_same(computation(np.int32(1), data), want)


def test_a_client_that_the_executor_loses_has_dropped_out(make_context):
  class Loses(executors.LocalExecutor):
    def run(self, form, data, broadcast):
      return (one for one in super().run(form, data, broadcast) if one[0] != 2)

  context = make_context()
  context._executor = Loses(context._inner)
  with use(context):
    assert COMPUTATIONS['bitwidth'][0](np.int32(1), [1] * 12) == (2, 11)
  assert context.last_round.dropped == {2: (2,)}


def test_sums_are_checked_by_the_clients(make_context):
  computation, data = COMPUTATIONS['modular, unsorted names']
  with use(make_context(verify='mac')):
    assert computation(np.int32(1), data)[1]['one'] == len(data)


def test_containers_are_flattened_and_packed_in_declared_order():
  Point = collections.namedtuple('Point', 'b a')
  value = OrderedDict(z=Point(b=1, a=[2, 3]), c=(4,))
  of_type = tff.to_type(OrderedDict(z=Point(np.int32, [np.int32, np.int32]), c=(np.int32,)))
  assert structures.flatten(value, of_type) == [1, 2, 3, 4]
  assert structures.pack(iter([1, 2, 3, 4]), of_type) == value
  assert [path for path, _ in structures.paths(of_type)] == ['z/b', 'z/a/0', 'z/a/1', 'c/0']
  assert structures.restore(OrderedDict(z=OrderedDict(b=1, a=(2, 3)), c=[4]), of_type) == value


def test_it_is_a_context_for_programs_too(context):
  assert isinstance(context.program_context(), tff.program.NativeFederatedContext)


def test_one_clients_vector_lives_at_a_time():
  class Vector(np.ndarray):
    pass

  alive, most = weakref.WeakSet(), []

  def inputs(clients):
    for client in clients:
      vector = np.full(1000, client).view(Vector)
      alive.add(Holder(vector))
      most.append(len(alive))
      yield client, {'vector': vector}

  class Holder:
    """Ends with its vector, which cannot be referenced weakly in a set itself."""

    def __init__(self, vector):
      vector.holder = self

  params = secagg.SessionParams(
    task='t', round_number=1, leaves=[secagg.Leaf('vector', (1000,), 20)]
  )
  outcome = LocalSession(params, range(30)).run(inputs)
  assert outcome.values['vector'][0] == sum(range(30))
  assert max(most) <= 2  # the one that is made while the last is let go


def test_a_clients_result_is_let_go_before_its_vector_is_packed(make_context, monkeypatch):
  alive, most = weakref.WeakSet(), []
  encode = wire.encode_masked

  def packs(*arguments):
    most.append(len(alive))
    return encode(*arguments)

  class Result(np.ndarray):
    """An array that can be counted while anything refers to its numbers."""

  class Holder:
    pass

  def made(client):
    result, holder = Result(4, np.int32), Holder()
    result[:] = client
    result.holder = holder
    alive.add(holder)
    return result

  class Makes(executors.LocalExecutor):
    def run(self, form, data, broadcast):
      return ((client, ((), (made(client),), (), ())) for client in data)

  def total(value):
    return tff.federated_secure_sum_bitwidth(value, 8)

  monkeypatch.setattr(wire, 'encode_masked', packs)
  computation = cases.with_state(
    total, tff.FederatedType(tff.TensorType(np.int32, [4]), tff.CLIENTS)
  )
  context = make_context(executor=Makes(None))
  with use(context):
    result = computation(np.int32(1), [np.zeros(4, np.int32)] * 6)
  assert result[1].tolist() == [15] * 4
  assert most == [0] * 6


@pytest.mark.parametrize(('values', 'at_once'), [(1000, 2), (2**23, 2), (2**25, 1)])
def test_large_results_are_computed_no_further_ahead_than_memory_lets(values, at_once):
  begun, done = [], []

  class Form:
    aggregands = (types.SimpleNamespace(size=values, dtype=np.int32),)

    def work(self, data, broadcast):
      begun.append(data)
      return data

  executor = executors.LocalExecutor(compat.get_context_stack().current, concurrency=2)
  for client, _ in executor.run(Form(), dict.fromkeys(range(6), 0), None):
    done.append(client)
    assert len(begun) <= len(done) + at_once - 1
  assert done == list(range(6))


def test_clients_in_processes_of_their_own_give_the_same_sum(make_context, simulation):
  context = make_context(processes=2, drops={2: 2}, dropout_fraction=0.3)
  computation, data = COMPUTATIONS['modular, unsorted names'][0], cases.values(7)
  for _ in range(2):  # in the second round the processes are there
    with use(context):
      _, total = computation(np.int32(1), data)
    _, want = computation(np.int32(1), data[:2] + data[3:])
    cases.assert_same(total, want)
  with pytest.raises(ConfigurationError, match='processes'):
    SecAggContext(processes=-1)
