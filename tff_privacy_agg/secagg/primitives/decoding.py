"""Secrets from shares of which some are wrong, and whose they are.

Reference: Massey, "Shift-register synthesis and BCH decoding" (1969).
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from tff_privacy_agg.secagg.primitives import shamir
from tff_privacy_agg.secagg.primitives.keys import Secret

# Sets of t shares that are tried where there are too many wrong ones to decode.
_SETS_TRIED = 5000
# A secret, None if a share is wrong for sure, and the indices of the shares that give it.
_Candidate = tuple[bytes | None, list[int]]


class Recovered(NamedTuple):
  """A secret, whether shares did not fit it, and whose they were if that is known."""

  secret: Secret
  disputed: bool
  wrong: list[int]


def recover(
  points: tuple[int, ...], values: np.ndarray, threshold: int, fits: Callable[[bytes], bool]
) -> Recovered | None:
  """The secret that `fits`, from m >= t shares of which some may be wrong.

  One wrong share of the first t is found by leaving out each in turn, up to floor((m - t) / 2) by
  Berlekamp-Massey, and up to m - t by trying all sets of t shares where these are at most 5000.

  Wrong shares can add up to the right secret: then t of them, taken for good, would
  blame all others. So holders are named only where no second polynomial of the right
  secret could be as close, that is, up to floor((m + 1 - t) / 2) of them.

  Returns:
    None if the secret cannot be told.
  """
  most = (len(points) + 1 - threshold) // 2

  def best(candidates: Iterable[_Candidate]) -> Recovered | None:
    undecided = None
    for secret, chosen in candidates:
      if secret is None or not fits(secret):
        continue
      wrong = [points[i] for i in wrong_shares(points, values, chosen)]
      if len(wrong) <= most:
        return Recovered(Secret(secret), True, wrong)
      undecided = undecided or Recovered(Secret(secret), True, [])
    return undecided

  secret, _ = _from_set(points, values, range(threshold))
  if secret is not None and fits(secret):
    return Recovered(Secret(secret), False, [])
  if len(points) == threshold:
    return None
  sets = (one for one in _from_sets(points, values, threshold) if one[0] and fits(one[0]))
  return best(_decoded(points, values, threshold)) or best(itertools.islice(sets, 1))


def _from_set(points: tuple[int, ...], values: np.ndarray, chosen: Iterable[int]) -> _Candidate:
  indices = list(chosen)
  return shamir.reconstruct(tuple(points[i] for i in indices), values[indices]), indices


def _decoded(points: tuple[int, ...], values: np.ndarray, threshold: int) -> Iterator[_Candidate]:
  """Without each of the first t shares in turn; then without those that decoding finds."""
  first = range(threshold + 1)
  without = leaving_one_out(points[: threshold + 1], values[: threshold + 1])
  for left_out in range(threshold):
    yield without[left_out], [i for i in first if i != left_out]
  suspects = locate_errors(points, values, threshold)
  trusted = [i for i in range(len(points)) if i not in suspects]
  if len(trusted) >= threshold:
    yield _from_set(points, values, trusted[:threshold])


def _from_sets(points: tuple[int, ...], values: np.ndarray, threshold: int) -> Iterator[_Candidate]:
  """From each set of t shares, where these are few and not those that leave one out of t + 1."""
  if len(points) > threshold + 1 and math.comb(len(points), threshold) <= _SETS_TRIED:
    for chosen in itertools.combinations(range(len(points)), threshold):
      yield _from_set(points, values, chosen)


def leaving_one_out(points: tuple[int, ...], values: np.ndarray) -> list[bytes | None]:
  """The secrets from t + 1 shares without the first, without the second, ..., without the last.

  A share that is off by e adds w e to what the weights w of all give at 0, and w e x to the sum of
  w x y, which is 0 for right ones: so that sum over x is what to take off.

  Args:
    points: t + 1 holder numbers.
    values: [t + 1, 16] field elements.
  """
  x = np.asarray(points, np.int64)
  parts = shamir.weights(points)[:, None] * values % shamir.PRIME
  off = x @ parts % shamir.PRIME * shamir.powers(x, -1)[:, None]
  found = (parts.sum(axis=0) - off) % shamir.PRIME
  return [None if (row > 0xFFFF).any() else row.astype('<u2').tobytes() for row in found]


def wrong_shares(points: tuple[int, ...], values: np.ndarray, good: list[int]) -> list[int]:
  """Indices of the shares that are not on the polynomials through the `good` ones."""
  x = np.asarray(points, np.int64)
  chosen, others = x[good], np.setdiff1d(np.arange(len(points)), good)
  away = shamir.LOG[(x[others, None] - chosen) % shamir.PRIME]
  logs = away.sum(axis=1, keepdims=True) - away - shamir.log_differences(chosen)
  expected = shamir.EXP[logs % (shamir.PRIME - 1)] @ values[good] % shamir.PRIME
  return others[(expected != values[others]).any(axis=1)].tolist()


def _recurrence(sequence: list[int]) -> np.ndarray:
  """The shortest c with c[0] = 1 and sum over j of c[j] s[i - j] = 0 mod p, by Berlekamp-Massey."""
  s = np.asarray(sequence, np.int64)
  room = len(s) + 2
  current, before = np.zeros(room, np.int64), np.zeros(room, np.int64)
  current[0] = before[0] = 1
  length, shift, last = 0, 1, 1
  for i in range(len(s)):
    miss = int(current[: length + 1] @ s[i - length : i + 1][::-1] % shamir.PRIME)
    if miss:
      kept = current.copy()
      factor = miss * pow(last, -1, shamir.PRIME) % shamir.PRIME
      current[shift:] = (current[shift:] - factor * before[: room - shift]) % shamir.PRIME
      if 2 * length <= i:
        length, before, last, shift = i + 1 - length, kept, miss, 0
    shift += 1
  return current[: length + 1]


def locate_errors(points: tuple[int, ...], values: np.ndarray, threshold: int) -> set[int]:
  """Indices of up to floor((m - t) / 2) wrong shares of m, in O(m^2).

  x**j f(x) is 0 at 0 for j from 1 to m - t, and of a degree below m: so the weights w of all points
  take right shares to 0, and wrong ones to sums of w e x**j, a sequence in j whose recurrence has
  the x of the wrong shares as roots. That is done for two random combinations of the limbs: a
  wrong share is missed with probability 2**-32. Indices that are right may be named too.

  Args:
    points: The m holder numbers.
    values: [m, 16] field elements.
    threshold: t, at most m.
  """
  x = np.asarray(points, np.int64)
  spare = len(points) - threshold
  powers = shamir.powers(x, np.arange(1, spare + 1)[:, None])
  combined = values @ shamir.uniform(2 * shamir.LIMBS).reshape(shamir.LIMBS, 2) % shamir.PRIME
  syndromes = powers @ (shamir.weights(points)[:, None] * combined % shamir.PRIME) % shamir.PRIME
  located: set[int] = set()
  for sequence in syndromes.T.tolist():
    recurrence = _recurrence(sequence)
    length = len(recurrence) - 1
    if 2 * length > spare:
      continue
    at_points = recurrence[::-1] @ shamir.powers(x, np.arange(length + 1)[:, None]) % shamir.PRIME
    located.update(np.flatnonzero(at_points == 0).tolist())
  return located
