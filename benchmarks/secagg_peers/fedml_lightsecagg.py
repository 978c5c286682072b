"""FedML's LightSecAgg through the functions that its parties call, in one process and one thread.

Runs in an environment of its own, see `../_secagg_peers.py`; needs nothing of this project.
The file with the protocol is loaded by itself: importing the package needs some forty others.

python fedml_lightsecagg.py clients elements drop-outs -> a line of JSON: CPU seconds, bytes
"""

import importlib.util
import json
import math
import pathlib
import statistics
import sys
import time
import types

import numpy as np

BITS = 20
# Of a number in a message: int64.
WORD = 8

# Named at the top of the file; what is called here does without.
sys.modules['torch'] = types.ModuleType('torch')
PACKAGE = pathlib.Path(importlib.util.find_spec('fedml').origin).parent
SPEC = importlib.util.spec_from_file_location('lsa', PACKAGE / 'core' / 'mpc' / 'lightsecagg.py')
lsa = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(lsa)


def timed(call, *args):
  start = time.process_time()
  result = call(*args)
  return time.process_time() - start, result


def prime_above(number):
  """The smallest prime above a number below 2**40."""
  while True:
    number += 1
    if all(number % divisor for divisor in range(2, math.isqrt(number) + 1)):
      return number


def main():
  clients, elements, drops = map(int, sys.argv[1:])
  # As its managers: half of the clients may collude. Those who must stay: all but a tenth.
  active, private = clients - max(drops, clients // 10), clients // 2
  padded = -(-elements // (active - private)) * (active - private)
  # Sums do not wrap, and the products of int64 do not overflow.
  prime = prime_above(clients << BITS)
  if active * prime**2 >= 2**63:
    raise RuntimeError('The field is too large for int64.')
  values = np.random.default_rng(0).integers(0, 2**BITS, (elements, 1))
  client = [0.0] * clients
  masking, shares, uploads = [], [], []
  for number in range(clients):
    start = time.process_time()
    mask = np.random.randint(prime, size=(padded, 1))
    encoded = lsa.mask_encoding(padded, clients, active, private, prime, mask)
    client[number] = time.process_time() - start
    shares.append(encoded)
    seconds, masked = timed(lsa.model_masking, {'v': values.copy()}, [elements], mask, prime)
    client[number] += seconds
    masking.append(client[number])
    uploads.append(masked)
  alive = list(range(drops, clients))
  sums = {}
  for number in alive:
    received = {other: shares[other][number] for other in range(clients)}
    seconds, sums[number] = timed(lsa.compute_aggregate_encoded_mask, received, prime, alive)
    client[number] += seconds
  start = time.process_time()
  answers = alive[:active]
  buffer = np.array([sums[number] for number in answers], np.int64)
  held, wanted = np.arange(clients) + 1, np.arange(active) + clients + 1
  decoded = lsa.LCC_decoding_with_points(buffer, held[answers], wanted, prime)
  total = lsa.aggregate_models_in_finite([uploads[number] for number in alive], prime)['v']
  total = np.mod(total - decoded.reshape(-1, 1)[:elements], prime)
  server = time.process_time() - start
  if not np.array_equal(total, values * len(alive)):
    raise RuntimeError('The sum is wrong.')
  piece = padded // (active - private) * WORD
  print(
    json.dumps(
      {
        'name': 'FedML LightSecAgg',
        'client': statistics.median(client[number] for number in alive),
        'mask': statistics.median(masking),
        'server': server,
        'up': (clients - 1) * piece + elements * WORD + piece,
        'down': (clients - 1) * piece,
        'rounds': 3,
        'drops': drops,
      }
    )
  )


if __name__ == '__main__':
  main()
