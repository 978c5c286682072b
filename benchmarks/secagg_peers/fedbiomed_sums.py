"""Fed-BioMed's two secure sums, LOM and Joye-Libert, through its public classes, in one thread.

Runs in an environment of its own, see `../_secagg_peers.py`; needs nothing of this project.

python fedbiomed_sums.py clients elements drop-outs -> a line of JSON for each: CPU seconds, bytes
"""

import json
import secrets
import statistics
import sys
import time
import types

import numpy as np


class Absent(types.ModuleType):
  """Stands for PyTorch, of which helpers on the way name types; nothing of it is called."""

  def __getattr__(self, name):
    if name.startswith('__'):
      raise AttributeError(name)
    return type(name, (), {})


sys.modules['torch'] = Absent('torch')

import gmpy2  # noqa: E402
import msgpack  # noqa: E402
from fedbiomed.common.constants import SAParameters  # noqa: E402
from fedbiomed.common.secagg import (  # noqa: E402
  LOM,
  DHKey,
  DHKeyAgreement,
  EncryptedNumber,
  JoyeLibert,
  SecaggCrypter,
)
from fedbiomed.common.secagg._jls import ServerKey, UserKey  # noqa: E402

BITS = 20
# Nodes whose masking is timed; what the others send is as long.
TIMED = 2
# Joye-Libert is timed on so many elements, and scaled.
SAMPLE = 2000


def timed(call, *args):
  start = time.process_time()
  result = call(*args)
  return time.process_time() - start, result


def lom(clients, elements, values):
  """One round: keys agreed by ECDH, one masked vector each."""
  nodes = [f'NODE_{number:04}' for number in range(clients)]
  nonce = secrets.token_bytes(16)
  keys = {node: DHKey() for node in nodes}
  public = {node: key.export_public_key() for node, key in keys.items()}

  def agreed(node):
    agreement = DHKeyAgreement(node, DHKey(keys[node].export_private_key()), nonce)
    return {other: agreement.agree(other, public[other]) for other in nodes if other != node}

  small = [
    LOM(nonce).protect(node, agreed(node), 1, [number] * 5, nodes)
    for number, node in enumerate(nodes)
  ]
  if LOM(nonce).aggregate(small) != [sum(range(clients))] * 5:
    raise RuntimeError('The sum is wrong.')
  found, masking, sent = [], [], []
  for node in nodes[:TIMED]:
    setup, shared = timed(agreed, node)
    seconds, vector = timed(LOM(nonce).protect, node, shared, 1, values, nodes)
    found.append(setup + seconds)
    masking.append(seconds)
    sent.append(vector)
  uploads = [sent[number % TIMED] for number in range(clients)]
  server, _ = timed(LOM(nonce).aggregate, uploads)
  key = len(public[nodes[0]])
  return {
    'name': 'Fed-BioMed LOM',
    'client': statistics.median(found),
    'mask': statistics.median(masking),
    'server': server,
    'up': key + len(msgpack.packb(sent[0])),
    'down': key * (clients - 1),
    'rounds': 2,
    'drops': 0,
  }


def joye_libert(clients, elements, values):
  """One round with keys that were dealt beforehand: their set-up is not counted."""
  half = SAParameters.KEY_SIZE // 4
  prime = [gmpy2.next_prime(secrets.randbits(half) | 3 << half - 2) for _ in range(2)]
  public = SecaggCrypter._setup_public_param(int(prime[0] * prime[1]))
  keys = [secrets.randbits(SAParameters.KEY_SIZE) for _ in range(clients)]
  scheme, sample = JoyeLibert(), values[:SAMPLE]
  users = [UserKey(public, key) for key in keys]
  seconds, vectors = [], []
  for user in users:
    one, vector = timed(scheme.protect, public, user, 1, sample, clients)
    seconds.append(one)
    vectors.append([EncryptedNumber(public, number) for number in vector])
  server, found = timed(scheme.aggregate, ServerKey(public, -sum(keys)), 1, vectors, len(sample))
  if found != [value * clients for value in sample]:
    raise RuntimeError('The sum is wrong.')
  scale = elements / len(sample)
  return {
    'name': 'Fed-BioMed Joye-Libert',
    'client': statistics.median(seconds) * scale,
    'mask': statistics.median(seconds) * scale,
    'server': server * scale,
    'up': round(len(vectors[0]) * SAParameters.KEY_SIZE // 8 * scale),
    'down': 0,
    'rounds': 1,
    'drops': 0,
    'scaled_from': len(sample),
  }


def main():
  clients, elements, _ = map(int, sys.argv[1:])
  values = np.random.default_rng(0).integers(0, 2**BITS, elements).tolist()
  for measure in (lom, joye_libert):
    print(json.dumps(measure(clients, elements, values)), flush=True)


if __name__ == '__main__':
  main()
