"""A connection that breaks in a message shows nothing of the client that sent it."""

import threading

import deployments
import numpy as np
import pytest
from deployments import NAMES, Running, client_of, running

from tff_privacy_agg import secagg
from tff_privacy_agg.deployment import framing, participant

pytestmark = pytest.mark.integration

LARGE = (secagg.Leaf('vector', (400_000,), 20), secagg.Leaf('count', (), 8))


class Breaks(participant.Participant):
  """Its first upload of more than one frame breaks after some of them."""

  frames = 1
  again = True
  broken = False

  def __init__(self, **arguments):
    super().__init__(**arguments)
    self._send_whole, self._connection.send = self._connection.send, self._send

  def _send(self, head, message, seconds, limit):
    if len(message) > framing.CHUNK_BYTES and not self.broken:
      self.broken = True
      sent = threading.Event()

      def some():
        for number, frame in enumerate(framing.frames(head, message)):
          if number == self.frames:
            sent.set()
            threading.Event().wait(20)
          yield frame

      call = self._connection._exchange_call(some(), timeout=20.0)
      sent.wait(10)
      call.cancel()
      if not self.again:
        raise SystemExit
    return self._send_whole(head, message, seconds, limit)


def large(client_id):
  return lambda broadcast, leaves: {'vector': np.full(400_000, 2**client_id), 'count': 1}


@pytest.mark.parametrize('frames', [0, 1, 2])
def test_an_upload_that_broke_is_sent_again_and_counts(frames, deploy):
  deployment = deploy(limits=deployments.deadlines(round=5.0))
  kind = type('BreaksAt', (Breaks,), {'frames': frames})
  breaking = Running(client_of(deployment, 'west', kind), large(3))
  others = {name: large(deployment.roster.ids[name]) for name in NAMES if name != 'west'}
  with running(deployment, ()):
    clients = [Running(client_of(deployment, name), work) for name, work in others.items()]
    result = deployment.session(leaves=LARGE)
  assert result.survivors == tuple(range(5))
  assert (result.values['vector'] == 31).all()
  assert not deployment.log.of('strike')
  assert not deployment.log.of('refused')
  assert {client.join() for client in [breaking, *clients]} == {1}


def test_a_client_that_ends_in_its_upload_has_dropped_out_and_no_strike(deploy):
  deployment = deploy(limits=deployments.deadlines(round=2.0))
  kind = type('Ends', (Breaks,), {'again': False})
  ending = Running(client_of(deployment, 'west', kind), large(3))
  others = [name for name in NAMES if name != 'west']
  with running(deployment, ()):
    clients = [
      Running(client_of(deployment, name), large(deployment.roster.ids[name])) for name in others
    ]
    result = deployment.session(leaves=LARGE)
  assert result.survivors == (0, 1, 2, 4)
  assert deployment.log.of('round closed') == [{'protocol_round': 2, 'missing': 'west'}]
  assert not deployment.log.of('strike')
  for client in [ending, *clients]:
    client.join()
