"""What a client refuses of its own caller, and what it keeps to itself."""

import copy
import pickle

import numpy as np
import pytest
from secagg_sessions import Session, params

from tff_privacy_agg import secagg
from tff_privacy_agg.errors import ConfigurationError


@pytest.mark.parametrize(
  ('policy', 'changes'),
  [
    (secagg.Policy(minimum_clients=10), {}),
    (secagg.Policy(colluding_fraction=0.1), {}),
    (secagg.Policy(), {'sigma': 39}),
    (None, {'sigma': 39}),
    (secagg.Policy(authenticated=True), {}),
  ],
)
def test_parameters_below_the_policy_are_refused(policy, changes):
  with pytest.raises(secagg.UnsafeParameters):
    secagg.Client(params(**changes), 1, policy=policy)


def test_a_round_number_must_be_above_the_last_one():
  for last in (1, 2):
    with pytest.raises(secagg.WrongRound):
      secagg.Client(params(round_number=1), 1, last_round=last)
  secagg.Client(params(round_number=1), 1, last_round=0)


def test_calls_out_of_order_are_refused():
  session = Session(4)
  client = secagg.Client(session.params, 1)
  with pytest.raises(secagg.InvalidMessage):
    client.receive(b'')
  client.start()
  with pytest.raises(secagg.WrongRound):
    client.start()
  session.step()
  fresh = secagg.Client(session.params, 1)
  with pytest.raises(secagg.WrongRound):
    fresh.receive(session.incoming[1])


def test_values_must_be_provided_before_the_vector():
  session = Session(4).steps(2)
  client = session.clients[1]
  values, client._values = client._values, None
  with pytest.raises(ConfigurationError, match='provide'):
    client.receive(session.incoming[1])
  client.provide(session.inputs[1])
  session.finish().assert_exact(range(1, 5))
  assert values is not None


def test_identity_must_be_in_the_roster():
  session = Session(4, mode='authenticated')
  for identity, roster in (
    (None, session.roster),
    (session.identities[1], None),
    (session.identities[2], session.roster),
    (b'short', session.roster),
  ):
    with pytest.raises(ConfigurationError):
      secagg.Client(session.params, 1, identity, roster)
  for client_id in (-1, 2**32, 'one', True):
    with pytest.raises(ConfigurationError):
      secagg.Client(params(), client_id)


def test_secrets_are_neither_pickled_nor_shown():
  session = Session(4).steps(2)
  client = session.clients[1]
  for thing in (client, client._custody, client._custody._mask, client._custody._self_mask):
    with pytest.raises(TypeError):
      pickle.dumps(thing)
    with pytest.raises(TypeError):
      copy.deepcopy(thing)
    text = repr(thing) + str(thing)
    custody = client._custody
    for secret in (custody._mask.seed, custody._self_mask, custody._cipher.seed):
      assert bytes(secret.data).hex() not in text
  assert repr(client) == '<Client 1, sent its shares>'
  assert repr(client._custody._self_mask) == '<Secret>'


def test_secrets_are_erased_after_the_answer():
  session = Session(4).steps(3)
  custody = session.clients[1]._custody
  data = [secret.data for secret in (custody._mask.seed, custody._self_mask, custody._contribution)]
  data += [secret.data for secret in custody._pairs.values()]
  data += [common.data for _, common in custody._mask._peers.values()]
  shares = list(custody._shares)
  assert all(map(any, data))
  session.step()
  assert not any(map(any, data))
  assert not any(map(any, shares))


def test_errors_hold_no_input():
  client = secagg.Client(params(), 1)
  with pytest.raises(secagg.InputOutOfRange) as caught:
    client.provide({'v': np.full(70, 98765432)})
  assert '98765432' not in str(caught.value)
