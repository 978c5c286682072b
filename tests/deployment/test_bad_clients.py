"""A few clients of the roster that lie, in any way, cost repeats and never the training."""

import itertools
import json
import types

import bad_clients
import deployments
import numpy as np
import pytest
from deployments import Deployment, Running, client_of
from small_facts import facts_of

from tff_privacy_agg import secagg
from tff_privacy_agg.deployment import arrays, participant, served_rounds
from tff_privacy_agg.deployment.keys.authority import make_keys
from tff_privacy_agg.deployment.served_session import LiveSession
from tff_privacy_agg.deployment.standing import Standing
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning.rounds.attempts import ATTEMPTS
from tff_privacy_agg.learning.rounds.source import RoundResult
from tff_privacy_agg.learning.training_loop import TrainingLoop
from tff_privacy_agg.ledger import PrivacyLedger
from tff_privacy_agg.secagg import Blame, wire

pytestmark = pytest.mark.integration

NAMES = ('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h')
ROUNDS, DROP_OUTS, MINIMUM = 2, 2, 3
PROCESS = types.SimpleNamespace(initialize=lambda: np.int32(0))


@pytest.fixture(scope='module')
def keys(tmp_path_factory):
  return make_keys(tmp_path_factory.mktemp('pki') / 'keys', NAMES)


class Rounds(served_rounds.ServedRounds):
  """The rounds of a coordinator, without a process of TFF."""

  deployment = None

  def run(self, state, cohort):
    asked = frozenset(self.ids[name] for name in cohort)
    params = self.deployment.params(**{**self.session, 'leaves': deployments.LEAVES})
    result = self.coordinator.run(params, arrays.encode(deployments.BROADCAST), asked)
    survivors = result.survivors
    np.testing.assert_array_equal(result.values['vector'], sum(2**one for one in survivors))
    return RoundResult(state=state + 1, metrics={}, survivors=len(survivors))


def rounds_of(deployment, mode):
  source = Rounds(
    form=None,
    coordinator=deployment.coordinator,
    book=deployment.book,
    ids=deployment.roster.ids,
    clients=len(NAMES),
    session={
      'task': deployments.TASK,
      'mode': mode,
      'minimum_clients': MINIMUM,
      'maximum_clients': len(NAMES),
      'colluding_fraction': 0.0,
      'dropout_fraction': DROP_OUTS / len(NAMES),
    },
  )
  object.__setattr__(source, 'deployment', deployment)
  return source


def train(keys, folder, mode, bad, monkeypatch):
  """One training with a ledger; gives the ledger's lines, what was reported, and the events."""
  monkeypatch.setattr(participant.secagg, 'Client', bad_clients.among(bad))
  deployment = Deployment(
    keys, folder, mode=mode, limits=deployments.deadlines(join=20.0, work=20.0, round=20.0)
  )
  clients = [Running(client_of(deployment, name)) for name in NAMES]
  lines = []
  path = folder / 'ledger.jsonl'
  try:
    facts = facts_of(clients=len(NAMES), minimum=MINIMUM, threshold=MINIMUM)
    with PrivacyLedger(path, facts) as ledger:
      loop = TrainingLoop(
        process=PROCESS,
        source=rounds_of(deployment, mode),
        rounds=ROUNDS,
        ledger=ledger,
        report=lines.append,
      )
      assert loop.run().rounds_done == ROUNDS
  finally:
    deployment.close()
    for client in clients:
      client.join()
  return [json.loads(line) for line in path.read_text().splitlines()], lines, deployment.log


PAIRS = list(itertools.combinations_with_replacement(bad_clients.KINDS, 2))


@pytest.mark.parametrize('mode', ['semi_honest', 'authenticated'])
@pytest.mark.parametrize(
  'training',
  [pytest.param(number, marks=[] if number % 7 == 0 else pytest.mark.slow) for number in range(20)],
)
def test_twenty_of_twenty_trainings_finish(training, mode, keys, tmp_path, monkeypatch):
  """Two bad clients of eight, of all kinds, which sessions of two drop-outs must bear."""
  kinds = PAIRS[training % len(PAIRS)]
  first, second = np.random.default_rng(training).choice(len(NAMES), 2, replace=False).tolist()
  bad = {first: lambda number: kinds[0], second: lambda number: kinds[1]}
  ledger, lines, log = train(keys, tmp_path, mode, bad, monkeypatch)
  failed = [line for line in lines if 'has no sum' in line]
  charged = [line for line in ledger if line['event'] == 'charge']
  assert len(charged) == ROUNDS + len(failed) <= ROUNDS * (ATTEMPTS + DROP_OUTS)
  # Both are found in the sessions that fail: a round has one that stands after two.
  assert len(failed) <= 2 * ROUNDS
  assert all('costs nothing' in line or 'stays charged: epsilon' in line for line in failed)
  taken_back = sum(line['event'] == 'unopened' for line in ledger)
  assert taken_back == sum('costs nothing' in line for line in failed)
  if mode == 'authenticated':
    assert taken_back == 0
  # Nobody honest has a strike.
  honest = {name for number, name in enumerate(NAMES) if number not in bad}
  assert not honest & {event['name'] for event in log.of('strike')}
  accused = [event['name'] for event in log.of('suspended')]
  assert not honest & set(accused)


@pytest.mark.parametrize('mode', ['semi_honest', 'authenticated'])
def test_liars_that_take_turns_cost_one_session_each(mode, keys, tmp_path, monkeypatch):
  def when(turn):
    return lambda number: bad_clients.seals_wrongly if number >= turn else lambda client: None

  bad = {2: when(1), 6: when(2)}
  ledger, lines, _ = train(keys, tmp_path, mode, bad, monkeypatch)
  failed = [line.split(':')[0] for line in lines if 'has no sum' in line]
  # In round 2 both lie at once: suspensions are for one round.
  first, *again, last = failed
  assert (first, last) == (
    'round 1 has no sum, attempt 1 of 5',
    'round 2 has no sum, attempt 1 of 5',
  )
  # No repeat is lost where the first liar's complainant, left out with it, is the other liar.
  assert again in ([], ['round 1 has no sum, attempt 2 of 5'])
  settled = [line['survivors'] for line in ledger if line['event'] == 'settle']
  assert len(settled) == ROUNDS
  assert min(settled) >= len(NAMES) - 2 * len(bad)  # each liar evicts at most one other


def test_a_client_is_out_of_the_run_after_its_strikes(keys, tmp_path, monkeypatch):
  bad = {3: lambda number: bad_clients.sends_rubbish}
  monkeypatch.setattr(participant.secagg, 'Client', bad_clients.among(bad))
  deployment = Deployment(keys, tmp_path)
  clients = [Running(client_of(deployment, name)) for name in NAMES]
  source = rounds_of(deployment, 'semi_honest')
  for number in (1, 2, 3):
    cohort = source.select(number)
    assert 'd' in cohort
    source.run(0, cohort)
  assert [(e['name'], e['strikes'], e['effect']) for e in deployment.log.of('strike')] == [
    ('d', 1, 'out of this round'),
    ('d', 2, 'out of this round'),
    ('d', 3, 'out of the run'),
  ]
  cohort = source.select(4)
  assert cohort == [name for name in NAMES if name != 'd']
  # It is told, and goes; the others train on.
  assert clients[3].join() == 0
  assert 'no honest client' in clients[3].client._events.of('ended')[0]['reason']
  source.run(0, cohort)
  deployment.close()
  assert {client.join() for client in clients} == {0, 4}


IDS = {number: name for number, name in enumerate('abcdefgh')}


def test_strikes_outlive_the_server_and_the_operator_forgives(tmp_path):
  path = tmp_path / 'strikes.json'
  standing = Standing(IDS, 2, path)
  for _ in range(2):
    standing.note(Blame(proven=frozenset({1})), failed=False)
  assert Standing(IDS, 2, path).out == {1}
  assert Standing(IDS, 0, path).out == frozenset()
  assert json.loads(path.read_text()) == {'b': 2}
  path.write_text('{}')
  assert Standing(IDS, 2, path).out == frozenset()
  for text in ('[]', '{"b": "x"}', '{', '{"b": -1}'):
    path.write_text(text)
    with pytest.raises(ConfigurationError, match='must hold the strikes'):
      Standing(IDS, 2, path)


def test_shared_blame_suspends_both_for_this_round_only():
  standing, everyone = Standing(IDS, 1), frozenset(IDS)
  standing.begin(1)
  standing.note(Blame(disputes=((0, (1, 2, 3)),)), failed=True)
  left = standing.asked(everyone, 3)
  assert len(left) == 6
  assert 0 not in left
  # Rather an accuser than no round; never the accused.
  assert standing.asked(everyone, 7) == everyone - {0}
  standing.begin(2)
  assert standing.asked(everyone, 3) == everyone
  assert standing.out == frozenset()


def test_who_was_waited_for_in_vain_is_not_asked_again_in_the_round():
  standing, everyone = Standing(IDS), frozenset(IDS)
  standing.begin(1)
  standing.note(Blame(silent=frozenset({4, 5})), failed=False)
  assert standing.asked(everyone, 3) == everyone
  standing.note(Blame(silent=frozenset({4, 5})), failed=True)
  assert standing.asked(everyone, 3) == everyone - {4, 5}
  assert standing.asked(everyone, 8) == everyone


def test_a_round_without_enough_honest_clients_says_whom_to_look_at():
  source = served_rounds.ServedRounds(
    form=None,
    coordinator=types.SimpleNamespace(standing=Standing(IDS)),
    book=None,
    ids={name: number for number, name in IDS.items()},
    clients=8,
    session={'minimum_clients': 7, 'colluding_fraction': 0.0},
  )
  standing = source.coordinator.standing
  standing.begin(1)
  standing.note(Blame(proven=frozenset({1, 2})), failed=True)
  with pytest.raises(secagg.NotEnoughClients, match=r'needs 7 clients; 6 are left .* `strike`'):
    source.select(1)


def declines(session, client):
  session.let_go(client.client_id)


def leaves(session, client):
  aborted = client.abort(secagg.InputOutOfRange('on purpose'))
  assert session.receive(client.client_id, {}, aborted) == 2


def complains_of_nobody(session, client):
  aborted = client.abort(secagg.BadShares('on purpose', clients=(client.client_id, 99)))
  assert session.receive(client.client_id, {}, aborted) == 2


def sends_another_round(session, client):
  early = wire.encode(wire.Kind.UNMASK, client.params.session_id, client.client_id, b'')
  with pytest.raises(secagg.WrongRound):
    session.receive(client.client_id, {}, early)


def speaks_for_another(session, client):
  other = wire.encode(wire.Kind.MASKED, client.params.session_id, 0, b'')
  with pytest.raises(secagg.SenderMismatch):
    session.receive(client.client_id, {}, other)


def to_round_2(spoil=lambda client: None):
  """A session without drop-outs whose client 2 has shared; and what the server sent for round 2."""
  params = secagg.SessionParams(
    task='t',
    round_number=1,
    leaves=deployments.LEAVES,
    colluding_fraction=0.0,
    dropout_fraction=0.0,
  )
  clients = {number: secagg.Client(params, number) for number in range(5)}
  session = LiveSession(secagg.Server(params), b'', frozenset(clients))
  for client in clients.values():
    client.provide({'vector': np.ones(100, np.int64), 'count': 1})
  spoil(clients[2])
  messages = {number: client.start() for number, client in clients.items()}
  for at in range(2):
    for number, message in messages.items():
      session.receive(number, {}, message)
    session.close_round()
    if at == 0:
      messages = {number: clients[number].receive(one) for number, one in session.sent[0].items()}
  return session, clients


def test_only_the_answers_of_the_last_round_are_kept():
  session, clients = to_round_2()
  assert {at: len(messages) for at, messages in session.sent.items()} == {0: 0, 1: 5}
  # Who asks again for an answer of the round before has dropped out.
  with pytest.raises(secagg.LateMessage):
    session.receive(2, {'round': 0}, secagg.Client(session.server.params, 2).start())
  assert 2 not in session.pending
  for number in (0, 1, 3, 4):
    session.receive(number, {}, clients[number].receive(session.sent[1][number]))
  assert not session.pending


@pytest.mark.parametrize(
  'way', [declines, leaves, complains_of_nobody, sends_another_round, speaks_for_another]
)
def test_who_leaves_in_any_way_counts_as_silent_where_the_session_fails(way):
  session, clients = to_round_2()
  way(session, clients.pop(2))
  for number, client in clients.items():
    session.receive(number, {}, client.receive(session.sent[1][number]))
  assert not session.pending
  with pytest.raises(secagg.NotEnoughShares):
    session.close_round()
  assert session.blame() == Blame(silent=frozenset({2}))


def test_whom_a_false_offer_drives_out_does_not_count_as_silent():
  session, clients = to_round_2(bad_clients.offers_falsely)
  for number, client in clients.items():
    try:
      message = client.receive(session.sent[1][number])
    except secagg.BadShares as error:
      message = client.abort(error)
    session.receive(number, {}, message)
  with pytest.raises(secagg.BadShares) as failed:
    session.close_round()
  assert failed.value.blame.disputes == ((2, (3, 4)),)
  assert session.blame() == Blame()
