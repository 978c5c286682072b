"""Threads in mask kernels and packing: the same bits, the same errors, and none is left."""

import threading

import numpy as np
import pytest

from tff_privacy_agg.secagg.primitives import packing, parallel, prg


@pytest.fixture
def cores(monkeypatch):
  """Sets the cores, and has every size be worth a thread."""

  def have(count):
    monkeypatch.setattr(parallel, 'cores', lambda: count)

  monkeypatch.setattr(parallel, '_LEAST_BYTES', 1)
  return have


def masked(bits, sizes):
  rng = np.random.default_rng(1)
  vectors = [packing.pad(rng.integers(0, 2**bits, size), bits) for size in sizes]
  keys = [bytes([number]) * 32 for number in range(5)]
  prg.add_masks(vectors, keys[:3], keys[3:])
  packed = [packing.pack(vector, bits) for vector in vectors]
  sums = [np.full_like(vector, 7) for vector in vectors]
  for total, matrix in zip(sums, packed, strict=True):
    packing.add_packed(total, matrix, bits)
  return vectors, packed, sums


@pytest.mark.parametrize('bits', [1, 8, 13, 20, 26, 32, 61])
@pytest.mark.parametrize('count', [2, 3, 8])
def test_threads_change_no_bit(cores, bits, count):
  # Several segments with a short one at the end, one that is short, and one column.
  sizes = [2 * prg.SEGMENT // prg.word_dtype(bits).itemsize + 100, 1000, 3]
  cores(1)
  alone = masked(bits, sizes)
  cores(count)
  for ours, expected in zip(masked(bits, sizes), alone, strict=True):
    for one, other in zip(ours, expected, strict=True):
      np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize('bits', [13, 20, 26, 64])
@pytest.mark.parametrize('m', [1, 2, 100, 40_000])
@pytest.mark.parametrize('parts', [1, 2, 3, 8])
def test_tiles_take_every_column_once_and_are_enough_for_the_threads(bits, m, parts):
  groups = np.gcd(bits, 64)
  tiles = packing._tiles(groups, m, parts)
  taken = np.zeros((groups, m), int)
  for tile in tiles:
    taken[tile] += 1
  assert (taken == 1).all()
  assert len(tiles) >= min(parts, groups * m // 2)


@pytest.mark.parametrize('count', [1, 2, 8])
def test_each_item_goes_to_one_thread_and_no_thread_is_left(cores, count):
  cores(count)
  seen, before = [], threading.active_count()
  names = set()

  def work(items):
    names.add(threading.get_ident())
    seen.extend(items)

  parallel.share(work, range(1000), 1000)
  assert sorted(seen) == list(range(1000))
  assert threading.active_count() == before
  assert len(names) <= count


def test_small_work_has_no_second_thread(monkeypatch):
  monkeypatch.setattr(parallel, 'cores', lambda: 64)
  assert parallel.threads(0) == parallel.threads(parallel._LEAST_BYTES) == 1
  assert parallel.threads(3 * parallel._LEAST_BYTES) == 3
  assert parallel.threads(2**40) == parallel._MOST_THREADS


@pytest.mark.parametrize('count', [1, 2, 8])
def test_the_error_is_that_of_the_first_item(cores, count):
  cores(count)
  both, before = threading.Barrier(2), threading.active_count()

  def work(items):
    for item in items:
      if item in (3, 4):
        if count > 1:
          # Both threads are in an item that fails before either has.
          both.wait(timeout=30)
        raise ValueError(item)

  with pytest.raises(ValueError, match=r'^3$'):
    parallel.share(work, range(8), 8)
  assert threading.active_count() == before


def test_one_thread_does_it_all_where_no_other_can_be_started(cores, monkeypatch):
  cores(4)

  def refused(self):
    raise RuntimeError("can't start new thread")

  monkeypatch.setattr(threading.Thread, 'start', refused)
  seen = []
  parallel.share(seen.extend, range(10), 10)
  assert seen == list(range(10))
