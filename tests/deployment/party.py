"""One party of the process tests, as a program: `party.py server|client KEYS STATE ADDRESS ...`.

Without TensorFlow: a party starts in a fraction of a second.
"""

import json
import os
import pathlib
import resource
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import deployments
import numpy as np

from tff_privacy_agg import secagg
from tff_privacy_agg.deployment import arrays, limits, participant
from tff_privacy_agg.deployment.keys.roster import Roster


def kill_in(round_of_death):
  class Dies(participant.Participant):
    def _exchange(self, offer, at, message, *, last=False):
      if at == round_of_death:
        os.kill(os.getpid(), signal.SIGKILL)
      return super()._exchange(offer, at, message, last=last)

  return Dies


def die_at(round_of_death, close_round=secagg.Server.close_round):
  def dies(server):
    if server.round == round_of_death:
      os.kill(os.getpid(), signal.SIGKILL)
    return close_round(server)

  return dies


def large_work(client_id, dimension):
  random = np.random.default_rng(client_id)
  vector = random.integers(0, 2**20, dimension)

  def work(broadcast, leaves):
    return {'vector': vector, 'count': 1}

  return work


def serve(keys, state, address, options):
  if 'files' in options:
    resource.setrlimit(resource.RLIMIT_NOFILE, (options['files'], options['files']))
  limits.HELLO_SECONDS = options.get('hello', limits.HELLO_SECONDS)
  deployment = deployments.Deployment(
    keys,
    state,
    mode=options.get('mode', 'semi_honest'),
    limits=deployments.deadlines(**options.get('deadlines', {})),
    address=address,
  )
  print(deployment.coordinator.address, flush=True)
  leaves = deployments.LEAVES
  if 'dimension' in options:
    leaves = [secagg.Leaf('vector', (options['dimension'],), 20), leaves[1]]
  if 'kill_in' in options:
    secagg.Server.close_round = die_at(options['kill_in'])
  for _ in range(options['sessions']):
    cohort = deployment.coordinator.gather(options['clients'], 3)
    params = deployment.params(leaves=leaves)
    result = deployment.coordinator.run(params, arrays.encode(deployments.BROADCAST), cohort)
    told = {'round': params.round_number, 'survivors': result.survivors}
    told['count'] = int(result.values['count'])
    print(json.dumps(told), flush=True)
  deployment.close()


def take_part(keys, state, address, options):
  class Known:
    pass

  deployment = Known()
  deployment.keys, deployment.state = pathlib.Path(keys), pathlib.Path(state)
  deployment.roster = Roster.read(deployment.keys / 'roster.json')
  deployment.coordinator = Known()
  deployment.coordinator.address = address
  deployment.files = lambda name: deployments.Deployment.files(deployment, name)
  name = options['name']
  client = deployments.client_of(
    deployment, name, kill_in(options.get('kill_in')), reconnect_seconds=options.get('patience', 20)
  )
  client_id = deployment.roster.ids[name]
  work = deployments.work_of(client_id)
  if 'dimension' in options:
    work = large_work(client_id, options['dimension'])
  done = client.serve(work)
  failed = [str(fields['reason']) for fields in client._events.of('session failed')]
  print(json.dumps({'name': name, 'done': done, 'failed': failed}), flush=True)


if __name__ == '__main__':
  kind, keys, state, address, options = sys.argv[1:]
  {'server': serve, 'client': take_part}[kind](keys, state, address, json.loads(options))
