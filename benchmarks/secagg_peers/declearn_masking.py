"""declearn's masking through its public encrypter, aggregate and decrypter, in one thread.

Runs in an environment of its own, see `../_secagg_peers.py`; needs nothing of this project.
Its agreement on seeds is left out. It cannot lose a client, so drop-outs are left out too.

python declearn_masking.py clients elements drop-outs -> a line of JSON: CPU seconds, bytes
"""

import dataclasses
import json
import statistics
import sys
import time

import numpy as np
from declearn.secagg.masking import MaskingDecrypter, MaskingEncrypter
from declearn.utils import Aggregate
from declearn.utils.serialize import msgpack_serialize

BITS = 32
# The default path draws one word at a time: measured on so many elements, and scaled.
SAMPLE = 2000


@dataclasses.dataclass
class Update(Aggregate, register=False):
  """What is summed."""

  v: np.ndarray


def main():
  clients, elements, _ = map(int, sys.argv[1:])
  rng = np.random.default_rng(0)
  seeds = {
    (i, j): int.from_bytes(rng.bytes(32), 'little') for j in range(clients) for i in range(j)
  }
  vector = rng.integers(0, 2**20, elements, dtype=np.uint32)
  values = vector.tolist()
  specs = [('v', elements, ([elements], 'uint32'))]
  masking, server, total = [], 0.0, None
  for client in range(clients):
    plus = [seeds[client, other] for other in range(client + 1, clients)]
    minus = [seeds[other, client] for other in range(client)]
    start = time.process_time()
    encrypter = MaskingEncrypter(plus, minus, bitsize=BITS)
    encrypted = encrypter.encrypt_uint_list(values)
    masking.append(time.process_time() - start)
    wrapped = encrypter.wrap_into_secure_aggregate(encrypted, specs, None, Update)
    start = time.process_time()
    total = wrapped if total is None else total.aggregate(wrapped)
    server += time.process_time() - start
  start = time.process_time()
  found = MaskingDecrypter(clients, bitsize=BITS).decrypt_numpy_array(total.encrypted, specs[0][2])
  server += time.process_time() - start
  if not np.array_equal(found.astype(np.uint64) % 2**BITS, vector * np.uint64(clients) % 2**BITS):
    raise RuntimeError('The sum is wrong.')
  start = time.process_time()
  encrypter.encrypt_numpy_array(vector[:SAMPLE])
  default = (time.process_time() - start) / SAMPLE * elements
  mask = statistics.median(masking)
  print(
    json.dumps(
      {
        'name': 'declearn masking',
        'client': mask,
        'mask': mask,
        'mask_default': default,
        'server': server,
        'up': len(msgpack_serialize(wrapped.encrypted)),
        'down': 0,
        'rounds': 1,
        'drops': 0,
      }
    )
  )


if __name__ == '__main__':
  main()
