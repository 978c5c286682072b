"""What the secure aggregation protocol cannot do without: keystream, additions, packing."""

import os
import statistics
import time

import numpy as np

from tff_privacy_agg.secagg import tags
from tff_privacy_agg.secagg.primitives import packing, prg

BITS = 20


def timed(call, *args):
  """CPU seconds, wall seconds, result."""
  cpu, wall = time.process_time(), time.perf_counter()
  result = call(*args)
  return time.process_time() - cpu, time.perf_counter() - wall, result


def keystream(expansions, elements, itemsize):
  """CPU and wall seconds of so many masks' keystream, by the loop of `prg.add_masks` without sums."""
  scratch = memoryview(bytearray(prg.SEGMENT + 16))
  streams = [prg.stream(os.urandom(32)) for _ in range(expansions)]
  size = itemsize * 64 * packing.columns(elements)
  sizes = [min(prg.SEGMENT, size - start) for start in range(0, size, prg.SEGMENT)]

  def fill():
    for segment, length in enumerate(sizes):
      for stream in streams:
        stream.fill(0, segment, scratch, length)

  return timed(fill)[:2]


def additions(expansions, elements, itemsize):
  """CPU seconds of the additions of so many masks, from one segment that stays in cache."""
  total = np.zeros(elements, f'<u{itemsize}')
  mask = np.frombuffer(os.urandom(prg.SEGMENT), total.dtype)

  def add():
    for first in range(0, elements, mask.size):
      piece = total[first : first + mask.size]
      for _ in range(expansions):
        np.add(piece, mask[: piece.size], out=piece)

  return timed(add)[0]


def plain_sum(clients, elements):
  """CPU seconds of the sum of so many vectors in the clear."""
  vector, total = np.ones(elements, np.uint32), np.zeros(elements, np.uint32)

  def add():
    for _ in range(clients):
      np.add(total, vector, out=total)

  return timed(add)[0]


def kernel_ratio(repeat, elements=10**6, masks=32):
  """The mask kernel over keystream plus additions, all on one core."""
  vector = np.zeros(elements, np.uint32)
  seeds = [os.urandom(32) for _ in range(masks)]
  ratios = []
  cores = os.sched_getaffinity(0)
  os.sched_setaffinity(0, {min(cores)})  # two threads would take each other's caches
  try:
    for _ in range(repeat):
      whole = timed(prg.add_masks, [vector], seeds, [])[0]
      ratios.append(whole / (keystream(masks, elements, 4)[0] + additions(masks, elements, 4)))
  finally:
    os.sched_setaffinity(0, cores)
  return statistics.median(ratios)


def packing_ns(repeat, elements=10**6):
  """Nanoseconds per element to pack, and to unpack into a sum."""
  words = packing.pad(np.arange(elements) % 2**BITS, BITS)
  packed, total = packing.pack(words, BITS), np.zeros_like(words)
  calls = {
    'pack': (packing.pack, words, BITS),
    'add_packed': (packing.add_packed, total, packed, BITS),
  }
  return {
    name: min(timed(*call)[0] for _ in range(repeat)) / elements * 1e9
    for name, call in calls.items()
  }


def tag_ns(repeat, elements=10**6):
  """Nanoseconds per element of the tag of verify='mac'."""
  words = packing.pad(np.arange(elements) % 2**BITS, BITS)
  seconds = min(timed(tags.tag, bytes(32), 0, words, BITS)[0] for _ in range(repeat))
  return seconds / elements * 1e9
