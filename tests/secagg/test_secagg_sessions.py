import itertools

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from secagg_sessions import LEAF, MODES, Session, assert_sum, params, random_inputs

from tff_privacy_agg import secagg
from tff_privacy_agg.errors import ConfigurationError


def outcome(session_params, clients, drops):
  """Survivors if the session must complete, by what each round needs; else None."""
  sets = [{c for c in clients if drops.get(c, 6) > r} for r in range(5)]
  u1, u2, u3, u4, u5 = sets
  least = session_params.minimum_clients
  if min(len(u1), len(u2), len(u3)) < least:
    return None
  try:
    parameters = secagg.find_parameters(
      len(u1),
      session_params.colluding_fraction,
      session_params.dropout_fraction,
      mode=session_params.mode,
      graph='complete',
    )
  except secagg.UnsafeParameters:
    return None
  t = parameters.t
  if session_params.authenticated and len(u4) < t + 1:
    return None
  for group in (u2, u3, u5):
    if any(len(group - {v}) < t for v in u2):
      return None
  return tuple(sorted(u3))


def check(session_params, inputs, drops):
  expected = outcome(session_params, set(inputs), drops)
  if expected is None:
    with pytest.raises((secagg.NotEnoughClients, secagg.NotEnoughShares, secagg.UnsafeParameters)):
      secagg.run_in_memory(session_params, inputs, drops)
    return
  result = secagg.run_in_memory(session_params, inputs, drops)
  assert result.survivors == expected
  assert not result.left
  assert not result.refused
  assert_sum(result.values, inputs, expected, session_params.leaves)
  assert all(result.verdicts.values())


@pytest.mark.parametrize(
  'n', [3, 4, 5, *(pytest.param(n, marks=pytest.mark.slow) for n in (6, 7, 8))]
)
def test_every_subset_drops_in_every_round(n):
  leaves = [secagg.Leaf('v', (3,), bits=5)]
  for dropped in itertools.chain.from_iterable(
    itertools.combinations(range(n), size) for size in range(n + 1)
  ):
    for in_round in range(5):
      session_params = params(leaves=leaves)
      inputs = random_inputs(session_params, range(n))
      check(session_params, inputs, dict.fromkeys(dropped, in_round))


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_random_sessions_give_the_sum_of_their_survivors(data):
  n = data.draw(st.integers(3, 40))
  shapes = st.lists(st.integers(1, 9), max_size=2).map(tuple)
  leaves = [
    secagg.Leaf(f'leaf{i}', data.draw(shapes), bits=data.draw(st.integers(1, 62)))
    for i in range(data.draw(st.integers(1, 3)))
  ]
  session_params = params(
    leaves=leaves,
    mode=data.draw(st.sampled_from(MODES)),
    verify=data.draw(st.sampled_from([None, 'mac'])),
    graph='complete',
    dropout_fraction=data.draw(st.sampled_from([0.0, 0.1, 0.25])),
  )
  clients = data.draw(st.sets(st.integers(0, 2**32 - 1), min_size=n, max_size=n))
  drops = data.draw(
    st.dictionaries(st.sampled_from(sorted(clients)), st.integers(0, 5), max_size=n // 3)
  )
  inputs = random_inputs(session_params, clients, seed=n)
  check(session_params, inputs, drops)


@pytest.mark.parametrize('drop_round', range(5))
def test_a_sum_on_the_ring_is_right_after_drop_outs(drop_round):
  session_params = params(graph='ring', dropout_fraction=0.1, leaves=[secagg.Leaf('v', (9,), 11)])
  inputs = random_inputs(session_params, range(100))
  drops = dict.fromkeys(range(0, 80, 10), drop_round)
  result = secagg.run_in_memory(session_params, inputs, drops)
  assert_sum(result.values, inputs, result.survivors, session_params.leaves)
  assert len(result.survivors) == (92 if drop_round < 3 else 100)
  assert all(result.verdicts.values())


@settings(max_examples=8, deadline=None)
@given(st.dictionaries(st.integers(0, 59), st.integers(0, 5), max_size=6))
def test_a_sum_on_the_ring_is_right_after_random_drop_outs(drops):
  session_params = params(graph='ring', dropout_fraction=0.1, leaves=[secagg.Leaf('v', (5,), 33)])
  inputs = random_inputs(session_params, range(60))
  result = secagg.run_in_memory(session_params, inputs, drops)
  assert result.survivors == tuple(c for c in range(60) if drops.get(c, 6) > 2)
  assert_sum(result.values, inputs, result.survivors, session_params.leaves)


def test_a_sum_is_right_where_a_third_vanishes_after_sharing():
  session_params = params(dropout_fraction=0.34)
  inputs = random_inputs(session_params, range(30))
  result = secagg.run_in_memory(session_params, inputs, dict.fromkeys(range(10), 2))
  assert result.survivors == tuple(range(10, 30))
  assert_sum(result.values, inputs, result.survivors, session_params.leaves)


@pytest.mark.parametrize('bits', [1, 8, 16, 31, 32, 33, 62])
def test_sums_wrap_around_and_take_signed_values(bits):
  low, high = -(2 ** (bits - 1)), 2**bits - 1
  session_params = params(leaves=[secagg.Leaf('v', (4,), bits)])
  inputs = {
    1: {'v': np.array([high, low, 0, high], np.int64)},
    2: {'v': np.array([high, low, 0, 1], np.int64)},
    3: {'v': np.array([high, low, 0, 0], np.int64)},
  }
  result = secagg.run_in_memory(session_params, inputs)
  assert_sum(result.values, inputs, (1, 2, 3), session_params.leaves)
  assert result.values['v'][3] == 0
  # What the server holds of a large sum, in as few bytes as it takes, and what one computes with.
  words = result.words['v']
  assert words.dtype.kind == 'u'
  assert words.itemsize == next(size for size in (1, 2, 4, 8) if 8 * size >= bits)
  assert result.values['v'].dtype == np.int64
  np.testing.assert_array_equal(words, result.values['v'])


def test_one_result_over_modes_and_orders():
  values = []
  for mode, verify in itertools.product(MODES, (None, 'mac')):
    session_params = params(mode=mode, verify=verify)
    inputs = random_inputs(session_params, range(9))
    inputs = dict(sorted(inputs.items(), reverse=verify is None))
    values.append(secagg.run_in_memory(session_params, inputs, {4: 2}).values['v'])
  for other in values[1:]:
    np.testing.assert_array_equal(values[0], other)


def test_identities_may_be_given():
  session_params = params(mode='authenticated')
  inputs = random_inputs(session_params, range(4))
  identities = secagg.generate_identities(list(inputs))
  result = secagg.run_in_memory(session_params, inputs, identities=identities)
  assert_sum(result.values, inputs, range(4), session_params.leaves)
  with pytest.raises(ConfigurationError, match='drops'):
    secagg.run_in_memory(session_params, inputs, {99: 1})


def test_no_reused_key_and_no_equal_upload():
  seen = set()
  for _ in range(3):
    session = Session(3).steps(2)
    session.step()
    for client in session.clients.values():
      advert = client._custody.advertisement
      seen |= {advert.cipher_key, advert.mask_key, advert.nonce}
  assert len(seen) == 27


@pytest.mark.parametrize(
  ('values', 'text'),
  [
    ({'v': np.zeros(70)}, 'integers'),
    ({'v': np.full(70, np.nan)}, 'integers'),
    ({'v': np.zeros(70, bool)}, 'integers'),
    ({'v': np.full(70, 2**70, object)}, 'integers'),
    ({'v': np.zeros(71, int)}, 'shape'),
    ({'v': np.full(70, 2**20)}, 'outside'),
    ({'v': np.full(70, -(2**19) - 1)}, 'outside'),
    ({'v': np.full(70, 2**63, np.uint64)}, 'outside'),
    ({'v': [[1, 2], [3]]}, 'rectangular'),
    ({'v': None}, 'integers'),
    ({}, 'leaves'),
    ({1: 0, 'v': np.zeros(70, int)}, 'leaves'),
    ({'v': np.zeros(70, int), 'w': 1}, 'leaves'),
  ],
)
def test_inputs_that_do_not_fit_are_refused(values, text):
  with pytest.raises(secagg.InputOutOfRange, match=text):
    secagg.Client(params(), 1).provide(values)


def test_no_wrap_bounds():
  leaf = secagg.Leaf('v', (2,), bits=10, no_wrap=100)
  session_params = params(leaves=[leaf], maximum_clients=10)
  client = secagg.Client(session_params, 1)
  client.provide({'v': np.array([0, 100])})
  for bad in (-1, 101):
    with pytest.raises(secagg.InputOutOfRange):
      client.provide({'v': np.array([0, bad])})
  with pytest.raises(secagg.CapacityError, match='Give it 11'):
    params(leaves=[leaf], maximum_clients=11)
  with pytest.raises(ConfigurationError, match='maximum_clients'):
    params(leaves=[leaf])


def test_sessions_take_no_more_clients_than_stated():
  session_params = params(maximum_clients=3)
  server = secagg.Server(session_params)
  for i in range(3):
    server.receive(i, secagg.Client(session_params, i).start())
  with pytest.raises(secagg.CapacityError):
    server.receive(3, secagg.Client(session_params, 3).start())
  assert set(server.close_round()) == {0, 1, 2}


@pytest.mark.parametrize('bits', [0, 63, -1, 2.0, True, '8'])
def test_unsupported_bits_are_refused(bits):
  with pytest.raises(secagg.UnsupportedModulusError):
    secagg.Leaf('v', (), bits)


def test_bits_of_tff_sums():
  assert secagg.bits_of_modulus(2**20) == 20
  for modulus in (1, 3, 10**6, 2**63):
    with pytest.raises(secagg.UnsupportedModulusError):
      secagg.bits_of_modulus(modulus)
  assert secagg.bits_of_bitwidth(16, 1024) == 26
  assert secagg.bits_of_bitwidth(16, 1025) == 27
  for most, clients in itertools.product((1, 7, 8, 255), (1, 2, 3, 10)):
    bits = secagg.bits_of_max_input(most, clients)
    assert 2 ** (bits - 1) <= most * clients < 2**bits


@pytest.mark.parametrize(
  'changes',
  [
    {'mode': 'open'},
    {'graph': 'star'},
    {'verify': 'zk'},
    {'minimum_clients': 2},
    {'colluding_fraction': 1.0},
    {'dropout_fraction': 0.12345},
    {'dropout_fraction': -0.1},
    {'round_number': 2**64},
    {'task': 'two words'},
    {'leaves': []},
    {'leaves': [LEAF, LEAF]},
    {'session_id': b'short'},
    {'graph': 'ring', 'mode': 'authenticated'},
    {'graph': 'ring', 'verify': 'mac'},
    {'maximum_clients': 2},
  ],
)
def test_parameters_are_checked(changes):
  with pytest.raises(ConfigurationError):
    params(**changes)


def test_parameters_travel_as_bytes():
  first = params(
    leaves=[LEAF, secagg.Leaf('c', (), 16, no_wrap=3)], maximum_clients=9, context=b'digest'
  )
  assert secagg.SessionParams.from_bytes(first.to_bytes()) == first
  assert params().session_id != params().session_id


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_only_canonical_parameter_bytes_are_read(data):
  good = bytearray(params().to_bytes())
  for _ in range(data.draw(st.integers(1, 3))):
    good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
  try:
    read = secagg.SessionParams.from_bytes(bytes(good))
  except (secagg.SecAggError, ConfigurationError):
    return
  assert read.to_bytes() == bytes(good)


@pytest.mark.parametrize('data', [b'', b'[]', b'{}', b'null', b'[' * 10**5, b'\xff'])
def test_other_bytes_are_no_parameters(data):
  with pytest.raises(secagg.InvalidMessage):
    secagg.SessionParams.from_bytes(data)


def test_context_digest_sees_everything():
  a = np.arange(6, dtype=np.int32)
  digests = [
    secagg.context_digest(arrays)
    for arrays in (
      [a],
      [a.reshape(2, 3)],
      [a.astype(np.int64)],
      [a[:3], a[3:]],
      [a[::-1]],
      [a, a],
      [],
      [b'x'],
      [b'y'],
    )
  ]
  assert len(set(digests)) == len(digests)
  assert secagg.context_digest([a.astype('>i4')]) == digests[0]
  assert secagg.context_digest([np.asfortranarray(a.reshape(2, 3))]) == digests[1]


@pytest.mark.parametrize('drops', [{1: 9}, {1: -1}, {1: '2'}, {9: 1}])
def test_drops_that_there_are_not_are_refused(drops):
  with pytest.raises(ConfigurationError, match='drops'):
    secagg.run_in_memory(params(), {client: {'x': 1} for client in range(4)}, drops)


def test_a_session_without_inputs_is_refused():
  with pytest.raises(ConfigurationError, match='`inputs` is empty'):
    secagg.run_in_memory(params(), {})


@pytest.mark.parametrize('name', ['sigma', 'eta'])
def test_bits_of_security_are_bounded(name):
  with pytest.raises(ConfigurationError, match=f'`{name}` must be at most 256'):
    secagg.find_parameters(100, 0.05, 0.1, mode='semi_honest', **{name: 2**36})
  with pytest.raises(ConfigurationError, match=f'`{name}` must be at most 256'):
    params(**{name: 257})
