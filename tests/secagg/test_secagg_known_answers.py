import hashlib
import json
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tff_privacy_agg import secagg
from tff_privacy_agg.secagg import graph, thresholds
from tff_privacy_agg.secagg.primitives import decoding, keys, packing, prg, shamir

REFERENCE = json.loads((pathlib.Path(__file__).parent / 'secagg-reference.json').read_text())
ANSWERS = REFERENCE['known_answers']
KEY = bytes(range(32))


def count(fraction, n):
  return round(fraction * 10_000) * n // 10_000


def test_hkdf_gives_the_known_answers():
  assert keys.derive(b'\x22' * 32, b'\x11' * 32, 'pair', 3, 7).hex() == ANSWERS['hkdf']['out']


@pytest.mark.parametrize('way', prg._STREAMS, ids=lambda way: way.__name__)
@pytest.mark.parametrize('answer', ANSWERS['prg'])
def test_the_key_stream_gives_the_known_answers(monkeypatch, way, answer):
  monkeypatch.setattr(prg, '_fastest', lambda: way)
  data = prg.keystream(KEY, answer['leaf'], answer['segment'])
  assert data[:16].hex() == answer['first16']
  assert hashlib.sha256(data).hexdigest() == answer['sha256_of_segment_262144']


@pytest.mark.parametrize('bits', [3, 9, 20, 40])
def test_masks_are_the_keystream_on_all_paths(monkeypatch, bits):
  dtype = prg.word_dtype(bits)
  size = prg.SEGMENT // dtype.itemsize + 100
  expected = np.frombuffer(
    prg.keystream(KEY, 0, 0) + prg.keystream(KEY, 0, 1, 100 * dtype.itemsize), dtype
  )
  assert len(prg._STREAMS) == 3
  for way in prg._STREAMS:
    monkeypatch.setattr(prg, '_fastest', lambda way=way: way)
    vector = np.zeros(size, dtype)
    prg.add_masks([vector], [KEY], [])
    np.testing.assert_array_equal(vector, expected)
    prg.add_masks([vector], [], [KEY])
    assert not vector.any()


def test_seeds_that_fold_to_the_same_32_bits_give_different_masks():
  # Flower 1.42 draws masks from the XOR of a seed's 32-bit words.
  first = bytes(32)
  second = b'\x01\0\0\0' * 2 + bytes(24)
  fold = [np.bitwise_xor.reduce(np.frombuffer(seed, '<u4')) for seed in (first, second)]
  assert fold[0] == fold[1]
  assert prg.keystream(first, 0, 0, 64) != prg.keystream(second, 0, 0, 64)


def test_every_bit_of_a_seed_changes_the_mask():
  masks = {prg.keystream(KEY, 0, 0, 64)}
  for bit in range(256):
    seed = bytearray(KEY)
    seed[bit // 8] ^= 1 << bit % 8
    masks.add(prg.keystream(seed, 0, 0, 64))
  assert len(masks) == 257


def test_packing_gives_the_known_answers():
  answer = ANSWERS['pack']
  packed = packing.pack(packing.pad(7919 * np.arange(200) % 2**20, 20), 20)
  assert packed.shape == (20, answer['columns'])
  assert packed.nbytes == answer['bytes'] == packing.packed_bytes(200, 20)
  assert hex(packed[0, 0]) == answer['first_word_hex'].replace('0x', '0x')
  assert hashlib.sha256(packed.tobytes()).hexdigest() == answer['sha256']


@pytest.mark.parametrize('bits', range(1, 63))
def test_packed_values_unpack_to_themselves(bits):
  rng = np.random.default_rng(bits)
  for size in (1, 63, 64, 65, 1000):
    values = rng.integers(0, 2**bits, size, dtype=np.int64)
    packed = packing.pack(packing.pad(values, bits), bits)
    np.testing.assert_array_equal(packing.unpack(packed, bits)[:size], values)


@pytest.mark.parametrize('bits', [20, 21])
def test_packing_of_more_than_one_block(monkeypatch, bits):
  values = np.random.default_rng(0).integers(0, 2**bits, 5000)
  whole = packing.pack(packing.pad(values, bits), bits)
  monkeypatch.setattr(packing, '_BLOCK', 28)
  np.testing.assert_array_equal(packing.pack(packing.pad(values, bits), bits), whole)
  np.testing.assert_array_equal(packing.unpack(whole, bits)[:5000], values)


def test_columns_are_bit_strings():
  for bits in (1, 5, 20, 24, 62):
    values = np.random.default_rng(bits).integers(0, 2**bits, 128, dtype=np.int64)
    packed = packing.pack(packing.pad(values, bits), bits)
    for column in range(2):
      text = int.from_bytes(packed[:, column].tobytes(), 'little')
      expected = sum(int(values[2 * i + column]) << bits * i for i in range(64))
      assert text == expected


def test_shamir_gives_the_known_answers():
  answer = ANSWERS['shamir']
  coefficients = [(1000 * a + 7 * np.arange(16) + 1) % shamir.PRIME for a in (1, 2)]
  values = shamir.evaluate(np.array([shamir.limbs(KEY), *coefficients]), 5)
  assert [row.tobytes().hex() for row in shamir.encode(values)] == answer['shares_packed34']
  np.testing.assert_array_equal(shamir.decode(shamir.encode(values)), values)
  assert shamir.weights((2, 4, 5)).tolist() == answer['lagrange0_points_2_4_5']


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_shamir_recovers_from_any_threshold_of_shares(data):
  holders = data.draw(st.integers(2, 60))
  threshold = data.draw(st.integers(2, holders))
  secrets = [bytearray(data.draw(st.binary(min_size=32, max_size=32))) for _ in range(2)]
  shares = shamir.decode(shamir.split(secrets, threshold, holders))
  chosen = data.draw(st.permutations(range(holders)))[:threshold]
  points = tuple(index + 1 for index in chosen)
  for i, secret in enumerate(secrets):
    assert shamir.reconstruct(points, shares[chosen, i]) == bytes(secret)


def test_fewer_shares_than_the_threshold_are_uniform():
  # 2000 sharings of one secret; a holder's value falls in one of 16 equal bins.
  shares = np.array([shamir.split([bytearray(KEY)], 3, 4)[:2, 0] for _ in range(2000)])
  values = shamir.decode(shares)
  for holder in range(2):
    bins = np.bincount((values[:, holder] * 16 // shamir.PRIME).ravel(), minlength=16)
    chi = ((bins - 2000.0) ** 2 / 2000).sum()
    assert chi < 15 + 6 * np.sqrt(30)  # false alarm below 1e-5
  # Two shares together: their difference modulo p is uniform as well.
  difference = (values[:, 0] - values[:, 1]) % shamir.PRIME
  bins = np.bincount((difference * 16 // shamir.PRIME).ravel(), minlength=16)
  assert ((bins - 2000.0) ** 2 / 2000).sum() < 15 + 6 * np.sqrt(30)


def test_large_elements_survive_encoding():
  values = np.full((2, 16), 65536)
  np.testing.assert_array_equal(shamir.decode(shamir.encode(values)), values)
  assert shamir.reconstruct((1,), np.full((1, 16), 65536)) is None


@pytest.mark.parametrize('wrong', [0, 1, 2, 5])
def test_berlekamp_massey_locates_wrong_shares(wrong):
  rng = np.random.default_rng(wrong)
  values = shamir.decode(shamir.split([bytearray(KEY)], 9, 20))[:, 0]
  bad = rng.choice(20, wrong, replace=False)
  values[bad] = rng.integers(0, shamir.PRIME, (wrong, 16))
  located = decoding.locate_errors(tuple(range(1, 21)), values, 9)
  assert set(bad) <= located
  assert len(located) <= 5


@pytest.mark.parametrize('row', REFERENCE['parameters_sigma40_eta30'], ids=str)
def test_ring_parameters(row):
  n = row['n']
  found = thresholds.ring_parameters(
    n,
    count(row['gamma'], n),
    count(row['delta'], n),
    authenticated=row['malicious'],
    sigma=40,
    eta=30,
  )
  expected = (row['k'], row['t_min'], row['t_max'])
  assert ((found.k, found.t_min, found.t_max) if found else (None,) * 3) == expected


@pytest.mark.parametrize(
  'row', REFERENCE['parameters_sigma80_eta30_malicious_transcript_graph'], ids=str
)
def test_ring_parameters_at_80_bits(row):
  n = row['n']
  found = thresholds.ring_parameters(
    n, count(row['gamma'], n), count(row['delta'], n), authenticated=True, sigma=80, eta=30
  )
  assert (found.k, found.t_min) == (row['k'], row['t'])


@pytest.mark.parametrize('row', REFERENCE['papers']['fcp_parameter_table']['rows'], ids=str)
def test_rows_of_the_public_table(row):
  n = row['n']
  found = thresholds.ring_parameters(
    n,
    count(row['gamma'], n),
    count(row['delta'], n),
    authenticated=row['semi_malicious'],
    sigma=40,
    eta=20,
  )
  same = found is not None and (found.k, found.t_min) == (row['k'], row['t'])
  assert same == row['our_exact_finder_agrees']


def test_complete_graph_parameters():
  found = secagg.find_parameters(10, 0.05, 0.1, mode='semi_honest')
  assert (found.graph, found.k, found.t) == ('complete', 9, 8)
  # 49 clients are the last without a ring.
  assert secagg.find_parameters(49, 0.05, 0.1, mode='semi_honest').graph == 'complete'
  assert secagg.find_parameters(50, 0.05, 0.1, mode='semi_honest').graph == 'ring'
  assert secagg.find_parameters(100, 0.05, 0.1, mode='authenticated').graph == 'complete'
  # No ring at these fractions: the complete graph takes over.
  assert secagg.find_parameters(60, 0.47, 0.5, mode='semi_honest').graph == 'complete'


@pytest.mark.parametrize(
  ('n', 'gamma', 'delta', 'mode', 'graph'),
  [
    (3, 0.05, 0.4, 'semi_honest', 'auto'),  # t = 1
    (10, 0.9, 0.1, 'semi_honest', 'complete'),  # 9 colluders, t = 8
    (10, 0.3, 0.3, 'authenticated', 'auto'),  # 2 t = 12 <= k + c = 12
    (1025, 0.05, 0.1, 'authenticated', 'auto'),
    (100, 0.05, 0.1, 'authenticated', 'ring'),
    (10, 0.6, 0.5, 'semi_honest', 'ring'),
    (65_538, 0.05, 0.1, 'semi_honest', 'complete'),  # no 65,537 points without zero
  ],
)
def test_unsafe_parameters_are_refused(n, gamma, delta, mode, graph):
  with pytest.raises(secagg.UnsafeParameters) as caught:
    secagg.find_parameters(n, gamma, delta, mode=mode, graph=graph)
  assert caught.value.code == 10


def test_authenticated_threshold_excludes_both_kinds_of_shares():
  for n in range(3, 200):
    try:
      found = secagg.find_parameters(n, 0.1, 0.2, mode='authenticated')
    except secagg.UnsafeParameters:
      continue
    # c corrupt holders give both kinds, the others one.
    assert 2 * found.t > (found.k - found.colluding) + 2 * found.colluding


@pytest.mark.parametrize('seed', range(3))
def test_ring_is_regular_and_mirrored(seed):
  parameters = secagg.find_parameters(120, 0.05, 0.1, mode='semi_honest')
  ids = list(range(1000, 1120))
  built = graph.build(parameters, ids, bytes([seed]) * 32, bytes(32))
  again = graph.build(parameters, ids, bytes([seed]) * 32, bytes(32))
  np.testing.assert_array_equal(built.neighbours, again.neighbours)
  other = graph.build(parameters, ids, bytes([seed]) * 32, bytes([1] * 32))
  assert (built.neighbours != other.neighbours).any()
  for v in range(120):
    row = built.neighbours[v]
    assert len(set(row)) == parameters.k
    assert v not in row
    assert (np.diff(row) > 0).all()
    for rank, neighbour in enumerate(row):
      assert built.neighbours[neighbour, built.slots[v, rank]] == v


@pytest.mark.parametrize('bits', [1, 7, 8, 20, 32, 33, 48, 62])
@pytest.mark.parametrize('size', [64 * 1000 + 1, 64 * 33_000 + 7])
def test_packing_across_tiles(bits, size):
  """Vectors of more than one tile; what is above the bits is cut off, and sums are modular."""
  words = packing.pad(np.random.default_rng(bits).integers(0, 2**62, size), bits)
  keep = words.dtype.type(2**bits - 1)
  packed = packing.pack(words, bits)
  np.testing.assert_array_equal(packing.unpack(packed, bits), words & keep)
  total = np.full_like(words, keep)
  packing.add_packed(total, packed, bits)
  np.testing.assert_array_equal(total & keep, (words + keep) & keep)
