"""Shamir sharing of 32-byte secrets over GF(65537).

A secret is 16 little-endian 16-bit limbs. A share is 16 field elements in 34
bytes: the 16 low parts, then the 16 high bits. Wrong shares are a matter of `decoding`.
Reference: Shamir, "How to share a secret" (1979).
"""

import functools
import os

import numpy as np

PRIME = 65537
LIMBS = 16
SHARE_BYTES = 34
# Every element but 0 is a power of 3: products of many become sums, inverses negations.
EXP = np.ones(PRIME - 1, np.int64)
for _size in (2**i for i in range(16)):
  EXP[_size : 2 * _size] = EXP[:_size] * pow(3, _size, PRIME) % PRIME
LOG = np.zeros(PRIME, np.int64)
LOG[EXP] = np.arange(PRIME - 1)


def uniform(count: int) -> np.ndarray:
  """`count` uniform field elements, by rejection from 32-bit words of the system."""
  bound = 2**32 // PRIME * PRIME
  found = np.empty(0, np.int64)
  while found.size < count:
    # All but 1 in 65537 * 65535 words are kept.
    words = np.frombuffer(os.urandom(4 * (count - found.size + 1)), '<u4')
    found = np.concatenate([found, words[words < bound].astype(np.int64) % PRIME])
  return found[:count]


def powers(x: np.ndarray, exponents: np.ndarray | int) -> np.ndarray:
  """x**exponents mod p, of elements other than 0; both are broadcast."""
  return EXP[LOG[x] * exponents % (PRIME - 1)]


@functools.lru_cache(maxsize=16)
def _vandermonde(holders: int, threshold: int) -> np.ndarray:
  """V[h - 1, a] = h**a mod p, as float64 for an exact product by BLAS."""
  return powers(np.arange(1, holders + 1)[:, None], np.arange(threshold)).astype(np.float64)


def evaluate(coefficients: np.ndarray, holders: int) -> np.ndarray:
  """Values of polynomials at 1 .. `holders`.

  Args:
    coefficients: [t, columns] field elements, the constant terms first.
    holders: Number of points; t * 2**32 must stay below 2**53, so t < 2**21.

  Returns:
    [holders, columns] int64.
  """
  product = _vandermonde(holders, len(coefficients)) @ coefficients.astype(np.float64)
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
  coefficients[1:] = uniform((threshold - 1) * width).reshape(threshold - 1, width)
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
  logs = LOG[-x % PRIME]
  return EXP[(logs.sum() - logs - log_differences(x)) % (PRIME - 1)]


def log_differences(x: np.ndarray) -> np.ndarray:
  """Logarithms of each point's product of differences from all others."""
  return LOG[(x[:, None] - x[None, :]) % PRIME].sum(axis=1)


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
