"""Shamir sharing of 32-byte secrets over GF(65537), with decoding of wrong shares.

A secret is 16 little-endian 16-bit limbs. A share is 16 field elements in 34
bytes: the 16 low parts, then the 16 high bits. References: Shamir, "How to share
a secret" (1979); Massey, "Shift-register synthesis and BCH decoding" (1969), for decoding.
"""

import functools
import os

import numpy as np

PRIME = 65537
LIMBS = 16
SHARE_BYTES = 34
# Every element but 0 is a power of 3: products of many become sums, inverses negations.
_EXP = np.ones(PRIME - 1, np.int64)
for _size in (2**i for i in range(16)):
  _EXP[_size : 2 * _size] = _EXP[:_size] * pow(3, _size, PRIME) % PRIME
_LOG = np.zeros(PRIME, np.int64)
_LOG[_EXP] = np.arange(PRIME - 1)


def _uniform(count: int) -> np.ndarray:
  """`count` uniform field elements, by rejection from 32-bit words of the system."""
  bound = 2**32 // PRIME * PRIME
  found = np.empty(0, np.int64)
  while found.size < count:
    # All but 1 in 65537 * 65535 words are kept.
    words = np.frombuffer(os.urandom(4 * (count - found.size + 1)), '<u4')
    found = np.concatenate([found, words[words < bound].astype(np.int64) % PRIME])
  return found[:count]


@functools.lru_cache(maxsize=16)
def _powers(holders: int, threshold: int) -> np.ndarray:
  """V[h - 1, a] = h**a mod p, as float64 for an exact product by BLAS."""
  points = np.arange(1, holders + 1)
  return _EXP[_LOG[points][:, None] * np.arange(threshold) % (PRIME - 1)].astype(np.float64)


def evaluate(coefficients: np.ndarray, holders: int) -> np.ndarray:
  """Values of polynomials at 1 .. `holders`.

  Args:
    coefficients: [t, columns] field elements, the constant terms first.
    holders: Number of points; t * 2**32 must stay below 2**53, so t < 2**21.

  Returns:
    [holders, columns] int64.
  """
  product = _powers(holders, len(coefficients)) @ coefficients.astype(np.float64)
  return np.remainder(product, PRIME).astype(np.int64)


def limbs(secret: bytes | bytearray) -> np.ndarray:
  """The 16 limbs of a 32-byte secret."""
  return np.frombuffer(secret, '<u2').astype(np.int64)


def split(secrets: list[bytearray], threshold: int, holders: int) -> np.ndarray:
  """Shares each of the secrets among `holders`, any `threshold` of which recover it.

  Returns:
    [holders, secrets, 34] bytes.
  """
  width = LIMBS * len(secrets)
  coefficients = np.empty((threshold, width), np.int64)
  coefficients[0] = np.concatenate([limbs(secret) for secret in secrets])
  coefficients[1:] = _uniform((threshold - 1) * width).reshape(threshold - 1, width)
  values = evaluate(coefficients, holders).reshape(holders, len(secrets), LIMBS)
  coefficients[:] = 0
  return encode(values)


def encode(values: np.ndarray) -> np.ndarray:
  """Field elements [..., 16] as bytes [..., 34]."""
  out = np.empty((*values.shape[:-1], SHARE_BYTES), np.uint8)
  out[..., :32] = (values & 0xFFFF).astype('<u2').view(np.uint8)
  out[..., 32:] = np.packbits((values >> 16).astype(np.uint8), axis=-1, bitorder='little')
  return out


def decode(data: np.ndarray) -> np.ndarray:
  """Bytes [..., 34] as integers [..., 16]; one above 65536 is no field element."""
  low = np.ascontiguousarray(data[..., :32]).view('<u2').astype(np.int64)
  high = np.unpackbits(data[..., 32:], axis=-1, bitorder='little')
  return low + (high.astype(np.int64) << 16)


@functools.lru_cache(maxsize=256)
def weights(points: tuple[int, ...]) -> np.ndarray:
  """Lagrange weights w of 1 or more points: f(0) = sum w[i] f(points[i]), degree < len(points)."""
  x = np.asarray(points, np.int64)
  logs = _LOG[-x % PRIME]
  return _EXP[(logs.sum() - logs - _log_differences(x)) % (PRIME - 1)]


def _log_differences(x: np.ndarray) -> np.ndarray:
  """Logarithms of each point's product of differences from all others."""
  return _LOG[(x[:, None] - x[None, :]) % PRIME].sum(axis=1)


def reconstruct(points: tuple[int, ...], values: np.ndarray) -> bytes | None:
  """The secret from exactly the threshold's number of shares.

  Args:
    points: Holder numbers, distinct, 1 or more.
    values: [len(points), 16] field elements.

  Returns:
    32 bytes, or None if a limb is 65536: then a share is wrong.
  """
  return reconstruct_all(points, values[None])[0]


def reconstruct_all(points: tuple[int, ...], values: np.ndarray) -> list[bytes | None]:
  """Secrets of which the same holders gave shares: [secrets, len(points), 16] field elements."""
  total = np.remainder(weights(points).astype(np.float64) @ values.astype(np.float64), PRIME)
  limbs_of = total.astype('<u2')
  wrong = (total > 0xFFFF).any(axis=1).tolist()
  return [None if bad else row.tobytes() for bad, row in zip(wrong, limbs_of, strict=True)]


def leaving_one_out(points: tuple[int, ...], values: np.ndarray) -> list[bytes | None]:
  """The secrets from t + 1 shares without the first, without the second, ..., without the last.

  A share that is off by e adds w e to what the weights w of all give at 0, and w e x to the sum of
  w x y, which is 0 for right ones: so that sum over x is what to take off.

  Args:
    points: t + 1 holder numbers.
    values: [t + 1, 16] field elements.
  """
  x = np.asarray(points, np.int64)
  parts = weights(points)[:, None] * values % PRIME
  off = x @ parts % PRIME * _inverses(x)[:, None]
  found = (parts.sum(axis=0) - off) % PRIME
  return [None if (row > 0xFFFF).any() else row.astype('<u2').tobytes() for row in found]


def _inverses(elements: np.ndarray) -> np.ndarray:
  """1 / x mod p, of elements other than 0."""
  return _EXP[-_LOG[elements] % (PRIME - 1)]


def wrong_shares(points: tuple[int, ...], values: np.ndarray, good: list[int]) -> list[int]:
  """Indices of the shares that are not on the polynomials through the `good` ones."""
  x = np.asarray(points, np.int64)
  chosen, others = x[good], np.setdiff1d(np.arange(len(points)), good)
  away = _LOG[(x[others, None] - chosen) % PRIME]
  logs = away.sum(axis=1, keepdims=True) - away - _log_differences(chosen)
  expected = _EXP[logs % (PRIME - 1)] @ values[good] % PRIME
  return others[(expected != values[others]).any(axis=1)].tolist()


def _recurrence(sequence: list[int]) -> np.ndarray:
  """The shortest c with c[0] = 1 and sum over j of c[j] s[i - j] = 0 mod p, by Berlekamp-Massey."""
  s = np.asarray(sequence, np.int64)
  room = len(s) + 2
  current, before = np.zeros(room, np.int64), np.zeros(room, np.int64)
  current[0] = before[0] = 1
  length, shift, last = 0, 1, 1
  for i in range(len(s)):
    miss = int(current[: length + 1] @ s[i - length : i + 1][::-1] % PRIME)
    if miss:
      kept = current.copy()
      factor = miss * pow(last, -1, PRIME) % PRIME
      current[shift:] = (current[shift:] - factor * before[: room - shift]) % PRIME
      if 2 * length <= i:
        length, before, last, shift = i + 1 - length, kept, miss, 0
    shift += 1
  return current[: length + 1]


def locate_errors(points: tuple[int, ...], values: np.ndarray, threshold: int) -> set[int]:
  """Indices of up to floor((m - t) / 2) wrong shares of m, in O(m^2).

  x**j f(x) is 0 at 0 for j from 1 to m - t, and of a degree below m: so the weights of all points
  take right shares to 0, and wrong ones to the sums of w e x**j. These satisfy the
  recurrence with the roots x of the wrong shares. They are computed for two random combinations of the
  limbs: a wrong share is missed with probability 2**-32. Indices that are right may be named too.

  Args:
    points: The m holder numbers.
    values: [m, 16] field elements.
    threshold: t, at most m.
  """
  x = np.asarray(points, np.int64)
  spare = len(points) - threshold
  powers = _EXP[_LOG[x] * np.arange(1, spare + 1)[:, None] % (PRIME - 1)]
  combined = values @ _uniform(2 * LIMBS).reshape(LIMBS, 2) % PRIME
  syndromes = powers @ (weights(points)[:, None] * combined % PRIME) % PRIME
  located: set[int] = set()
  for sequence in syndromes.T.tolist():
    recurrence = _recurrence(sequence)
    length = len(recurrence) - 1
    if 2 * length > spare:
      continue
    at_points = recurrence[::-1] @ _EXP[_LOG[x] * np.arange(length + 1)[:, None] % (PRIME - 1)]
    located.update(np.flatnonzero(at_points % PRIME == 0).tolist())
  return located
