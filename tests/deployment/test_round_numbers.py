"""Numbers of sessions: no client's report, and no server's offer, can poison them."""

import errno
import time
import types

import deployments
import pytest
from deployments import NAMES, Deployment, Running, client_of

from tff_privacy_agg import secagg
from tff_privacy_agg.deployment import arrays, framing, served_rounds
from tff_privacy_agg.deployment.round_numbers import RoundBook

TASK = deployments.TASK


@pytest.mark.parametrize('last', [0, 7, 2**40])
def test_a_client_goes_2_to_the_20_at_a_step(last):
  policy = secagg.Policy()

  def offered(number):
    return types.SimpleNamespace(
      task='t',
      round_number=number,
      minimum_clients=3,
      colluding_fraction=0.0,
      sigma=40,
      authenticated=False,
      version=2,
    )

  policy.check(offered(last + 1), last)
  policy.check(offered(last + 2**20), last)
  for number in (last + 2**20 + 1, 2**64 - 1):
    with pytest.raises(secagg.WrongRound, match='goes at most 2\\*\\*20 beyond'):
      policy.check(offered(number), last)


@pytest.mark.parametrize(
  ('reported', 'liars', 'reached'),
  [
    ({0: 50, 1: 50, 2: 49}, 1, 50),
    ({0: 2**63, 1: 50, 2: 49}, 1, 50),  # one liar cannot push it
    ({0: 0, 1: 50, 2: 50}, 1, 50),  # nor hold it back
    ({0: 2**63, 1: 2**62, 2: 40, 3: 39}, 2, 40),
    ({0: 5, 1: 5, 2: 5}, 1, None),  # the book is not behind
    ({0: 50}, 1, None),
  ],
)
def test_a_lost_book_goes_above_what_more_than_the_liars_report(tmp_path, reported, liars, reached):
  book = RoundBook(tmp_path / 'sessions.json')
  book.record(TASK, 5)
  assert book.catch_up(TASK, reported, liars) == reached
  assert RoundBook(tmp_path / 'sessions.json').last(TASK) == (reached or 5)


def test_a_client_without_a_past_is_not_locked_out_by_a_number(keys, tmp_path):
  deployment = Deployment(keys, tmp_path, limits=deployments.deadlines(work=5.0))
  clients = {name: Running(client_of(deployment, name)) for name in NAMES}
  with pytest.raises(secagg.NotEnoughClients):
    deployment.session(round_number=2**64 - 1)
  assert len(deployment.log.of('declined')) == 5
  deployment.session(round_number=1)
  deployment.close()
  assert {client.join() for client in clients.values()} == {1}


def test_a_client_that_cannot_keep_a_number_declines(keys, tmp_path):
  class Full(RoundBook):
    def record(self, task, number):
      raise OSError(errno.ENOSPC, 'No space left on device', 'rounds.json')

  deployment = Deployment(keys, tmp_path, limits=deployments.deadlines(work=30.0))
  full = Running(client_of(deployment, 'west', book=Full(tmp_path / 'west.json')))
  clients = [Running(client_of(deployment, name)) for name in NAMES if name != 'west']
  started = time.monotonic()
  assert deployment.session().survivors == (0, 1, 2, 4)
  assert time.monotonic() - started < 15  # nobody waits for it
  (declined,) = deployment.log.of('declined')
  assert declined['name'] == 'west'
  assert 'rounds.json' not in declined['reason']
  deployment.close()
  assert isinstance(full.join(), OSError)
  assert {client.join() for client in clients} == {1}


def test_a_server_that_lost_its_numbers_goes_on_at_once(keys, tmp_path):
  for name in NAMES:
    RoundBook(tmp_path / f'{name}.json').record(TASK, 2**63 if name == 'west' else 70)
  deployment = Deployment(keys, tmp_path)
  clients = {name: Running(client_of(deployment, name)) for name in NAMES}
  source = served_rounds.ServedRounds(
    form=None,
    coordinator=deployment.coordinator,
    book=deployment.book,
    ids=deployment.roster.ids,
    clients=5,
    session={'task': TASK, 'minimum_clients': 3, 'colluding_fraction': 0.0},
  )
  cohort = source.select(1)
  assert cohort == [name for name in NAMES if name != 'west']
  (told,) = deployment.log.of('numbers')
  assert told['after'] == 70
  assert deployment.log.of('left out') == [{'name': 'west', 'served': 2**63, 'next': 71}]
  params = deployment.params()
  assert params.round_number == 71
  asked = frozenset(source.ids[name] for name in cohort)
  result = deployment.coordinator.run(params, arrays.encode(deployments.BROADCAST), asked)
  assert len(result.survivors) == 4
  deployment.close()
  assert {name: client.join() for name, client in clients.items()} == {
    name: int(name != 'west') for name in NAMES
  }


@pytest.mark.parametrize('number', [-1, 2**64, True, '7', 1.5, None, []])
def test_what_is_no_number_is_refused(number):
  with pytest.raises(secagg.InvalidMessage, match='`served` must be a round number'):
    framing.served_round({'served': number})
  assert framing.served_round({}) == 0


def test_what_a_killed_writer_left_is_removed(tmp_path):
  (tmp_path / '.rounds.json.abc').write_text('{')
  (tmp_path / '.other.json.abc').write_text('{')
  RoundBook(tmp_path / 'rounds.json').record(TASK, 3)
  assert sorted(file.name for file in tmp_path.iterdir()) == ['.other.json.abc', 'rounds.json']
