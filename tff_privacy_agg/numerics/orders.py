"""Small Hadamard matrices, and the orders that are products of theirs; NumPy alone."""

import functools
import itertools

import numpy as np

# Order -> (prime q, kind): kind 1 has order q + 1 (q = 3 mod 4), kind 2 has
# order 2 (q + 1) (q = 1 mod 4). Paley, J. Math. Phys. 12 (1933).
_PALEY = {12: (11, 1), 20: (19, 1), 28: (13, 2), 36: (17, 2), 44: (43, 1)}
_PALEY_COUNTS = (0, 1, 2, 3)
_LARGEST_FACTOR = 64


def _paley(order: int) -> np.ndarray:
  q, kind = _PALEY[order]
  squares = {x * x % q for x in range(1, q)}
  character = np.array([0] + [1 if x in squares else -1 for x in range(1, q)])
  jacobsthal = character[(np.arange(q)[:, None] - np.arange(q)[None, :]) % q]
  bordered = np.zeros((q + 1, q + 1), int)
  bordered[0, 1:] = 1
  bordered[1:, 0] = -1 if kind == 1 else 1
  bordered[1:, 1:] = jacobsthal
  if kind == 1:
    return bordered + np.eye(q + 1, dtype=int)
  return np.kron(bordered, [[1, 1], [1, -1]]) + np.kron(
    np.eye(q + 1, dtype=int), [[1, -1], [-1, -1]]
  )


@functools.cache
def matrix(order: int) -> np.ndarray:
  """A Hadamard matrix `[order, order]` of +-1 for a power of two or a Paley order."""
  if order in _PALEY:
    return _paley(order)
  if order == 1:
    return np.ones((1, 1), int)
  return np.kron(matrix(order // 2), [[1, 1], [1, -1]])


@functools.cache
def padded_dimension(dim: int) -> int:
  """The smallest order n >= dim of the form 2^a times at most three Paley orders."""
  best = 1 << max(dim - 1, 0).bit_length()
  for count in _PALEY_COUNTS[1:]:
    for paley in itertools.combinations_with_replacement(_PALEY, count):
      odd_part = int(np.prod(paley))
      power = 1
      while odd_part * power < dim:
        power *= 2
      best = min(best, odd_part * power)
  return best


@functools.cache
def factors(order: int) -> tuple[int, ...]:
  """Orders of the small matrices whose Kronecker product has the given order."""
  found: list[int] = []
  remaining = order
  for count in _PALEY_COUNTS:
    for paley in itertools.combinations_with_replacement(_PALEY, count):
      rest, left_over = divmod(order, int(np.prod(paley, dtype=int)))
      if left_over == 0 and rest & (rest - 1) == 0:
        found, remaining = list(paley), rest
        break
    else:
      continue
    break
  bits = remaining.bit_length() - 1
  largest = _LARGEST_FACTOR.bit_length() - 1
  if bits:
    parts = -(-bits // largest)
    found += [1 << (bits // parts + (i < bits % parts)) for i in range(parts)]
  return tuple(found) or (1,)
