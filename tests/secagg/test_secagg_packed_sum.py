"""Sums of packed vectors are those of the vectors, for every number of bits and of vectors."""

import numpy as np
import pytest

from tff_privacy_agg.secagg.primitives import packing, parallel
from tff_privacy_agg.secagg.primitives.packed_sum import PackedSum


@pytest.mark.parametrize('bits', range(1, 63))
@pytest.mark.parametrize('count', [1, 8, 19])
def test_the_sum_is_right_modulo_the_modulus(bits, count):
  rng, size = np.random.default_rng(bits), 130
  total, expected = PackedSum(size, bits), np.zeros(size, np.uint64)
  for number in range(count):
    values = rng.integers(0, 2**bits, size, dtype=np.uint64)
    # The largest carries that there are.
    values[: size // 2] = 2**bits - 1 - number % 2
    total.add(packing.pack(packing.pad(values, bits), bits))
    expected += values
  keep = np.uint64(2**bits - 1)
  np.testing.assert_array_equal(total.words()[:size] & keep, expected & keep)


@pytest.mark.parametrize('bits', [8, 20, 26, 61])
def test_threads_change_no_bit(monkeypatch, bits):
  found = []
  for cores in (1, 3):
    monkeypatch.setattr(parallel, 'cores', lambda cores=cores: cores)
    monkeypatch.setattr(parallel, '_LEAST_BYTES', 1)
    rng, total = np.random.default_rng(2), PackedSum(300_000, bits)
    for _ in range(3):
      values = packing.pad(rng.integers(0, 2**bits, 300_000), bits)
      total.add(packing.pack(values, bits))
    found.append(total.words())
  np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(('bits', 'most'), [(1, 2), (2, 4), (3, 8), (20, 8), (62, 8)])
def test_at_most_as_many_wait_as_there_is_room_for(bits, most):
  total = PackedSum(64, bits)
  vector = packing.pack(np.zeros(64, packing.word_dtype(bits)), bits)
  held = set()
  for _ in range(20):
    total.add(vector)
    held.add(len(total._waiting))
  assert max(held) == most - 1


def test_words_may_be_read_between_additions():
  total = PackedSum(64, 20)
  vector = packing.pack(np.arange(64, dtype=np.uint32), 20)
  assert not total.words().any()
  total.add(vector)
  assert (total.words() & 0xFFFFF).tolist() == list(range(64))
  total.add(vector)
  assert (total.words() & 0xFFFFF).tolist() == [2 * value for value in range(64)]


def test_large_vectors_do_not_wait():
  vector = packing.pack(np.ones(64, np.uint32), 20)
  assert PackedSum(2**20, 20)._most == 8
  assert PackedSum(2**26, 20)._most == 1
  total = PackedSum(64, 20)
  total._most = 1
  for count in (1, 2):
    total.add(vector)
    assert not total._waiting
    assert (total.words() & 0xFFFFF).tolist() == [count] * 64
