"""What the tests of real parties share: keys, a coordinator, clients as threads or processes."""

import contextlib
import pathlib
import threading

import numpy as np

from tff_privacy_agg import secagg
from tff_privacy_agg.deployment import arrays, coordinator, event_loop, participant
from tff_privacy_agg.deployment.events import Events
from tff_privacy_agg.deployment.keys import tls
from tff_privacy_agg.deployment.keys.member import Member
from tff_privacy_agg.deployment.keys.roster import Roster
from tff_privacy_agg.deployment.round_numbers import RoundBook
from tff_privacy_agg.deployment.served_session import Deadlines

TASK = 'numbers'
SCHEMA = 'a vector and a count'
NAMES = ('north', 'south', 'east', 'west', 'centre')
LEAVES = (secagg.Leaf('vector', (100,), 20), secagg.Leaf('count', (), 8))
BROADCAST = [np.arange(3, dtype=np.float32)]


class Log(Events):
  """Keeps the events."""

  def __init__(self):
    super().__init__()
    self.seen = []

  def __call__(self, event, **fields):
    self.seen.append((event, fields))

  def of(self, event):
    return [fields for name, fields in self.seen if name == event]


def deadlines(**changed):
  return Deadlines(**{'join': 10.0, 'work': 10.0, 'round': 10.0, **changed})


class Deployment:
  """A coordinator on loopback, and what its clients need to reach it.

  Args:
    keys: Directory of `make_keys`.
    state: Directory for round books.
    mode: Mode of the sessions.
    limits: Deadlines of the coordinator.
    address: Where to listen.
  """

  def __init__(self, keys, state, *, mode='semi_honest', limits=None, address='127.0.0.1:0'):
    self.keys, self.state, self.mode = pathlib.Path(keys), pathlib.Path(state), mode
    self.roster = Roster.read(self.keys / 'roster.json')
    self.log = Log()
    self.book = RoundBook(self.state / 'server.json')
    self.coordinator = coordinator.Coordinator(
      address=address,
      credentials=tls.server_credentials(*self.files('server')),
      clients=self.roster.ids,
      task=TASK,
      schema=SCHEMA,
      deadlines=limits or deadlines(),
      roster=self.roster.keys if mode == 'authenticated' else None,
      identity=tls.read_identity(self.keys / 'server.identity'),
      events=self.log,
      expiry=tls.Expiry(*self.files('server')[:2]),
    )

  def files(self, name):
    return [str(self.keys / one) for one in ('ca.pem', f'{name}.pem', f'{name}.key')]

  def params(self, **changed):
    arguments = {
      'task': TASK,
      'round_number': self.book.draw(TASK),
      'leaves': LEAVES,
      'mode': self.mode,
      'dropout_fraction': 0.25,
      'context': secagg.context_digest(BROADCAST),
    }
    return secagg.SessionParams(**{**arguments, **changed})

  def session(self, expected=5, minimum=3, **changed):
    """Gathers clients and runs one session."""
    cohort = self.coordinator.gather(expected, minimum)
    return self.coordinator.run(self.params(**changed), arrays.encode(BROADCAST), cohort)

  def close(self):
    self.coordinator.close()


def stop(server):
  """Ends a coordinator as a killed process does: no goodbye."""
  event_loop.call(server._grpc.stop(None))


def client_of(deployment, name, kind=participant.Participant, certificate=None, **changed):
  """A participant that is not yet serving."""
  roster = deployment.roster
  member = Member(
    name=name,
    client_id=roster.ids[name],
    identity=tls.read_identity(deployment.keys / f'{name}.identity'),
    roster=roster.keys,
    server_key=roster.server_key,
  )
  arguments = {
    'address': deployment.coordinator.address,
    'credentials': tls.channel_credentials(*deployment.files(certificate or name)),
    'member': member,
    'task': TASK,
    'schema': SCHEMA,
    'book': RoundBook(deployment.state / f'{name}.json'),
    'reconnect_seconds': 5.0,
    'events': Log(),
  }
  return kind(**{**arguments, **changed})


def work_of(client_id):
  """The client's input: 2**client everywhere."""

  def work(broadcast, leaves):
    np.testing.assert_array_equal(broadcast[0], BROADCAST[0])
    return {'vector': np.full(100, 2**client_id), 'count': 1}

  return work


class Running:
  """A participant in a thread; `outcome` is what `serve` gave or raised."""

  def __init__(self, client, work=None):
    self.client, self.outcome = client, None
    work = work or work_of(client._member.client_id)
    self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
    self._thread.start()

  def _run(self, work):
    try:
      self.outcome = self.client.serve(work)
    except BaseException as error:
      self.outcome = error
    finally:
      self.client.close()

  def join(self, seconds=20.0):
    self._thread.join(seconds)
    assert not self._thread.is_alive(), 'the client hangs'
    return self.outcome


@contextlib.contextmanager
def running(deployment, names=NAMES, work=None, **changed):
  """Clients of the deployment as threads; ended with it."""
  clients = {name: Running(client_of(deployment, name, **changed), work) for name in names}
  try:
    yield clients
  finally:
    deployment.close()
    for client in clients.values():
      client.join()


def assert_sum(result, clients):
  """Of inputs 2**client each: the total tells who is in it."""
  assert result.survivors == tuple(clients)
  np.testing.assert_array_equal(result.values['vector'], sum(2**client for client in clients))
  assert result.values['count'] == len(clients)
