"""Results of a session."""

import dataclasses
import functools

import numpy as np

from tff_privacy_agg.secagg.errors import SecAggError


@dataclasses.dataclass(frozen=True)
class Aggregate:
  """The result of a session.

  Attributes:
    words: {leaf: array of unsigned integers}, sums over the survivors modulo 2**bits, in
      [0, 2**bits), in the smallest dtype that has so many bits.
    survivors: Ids of the clients in the sum, ascending.
    blamed: {client: holders whose share of its secret was wrong}. Either the client
      or the holders lied; the values are right. No holders, if so many shares were
      wrong that they cannot be told from the others.
  """

  words: dict[str, np.ndarray]
  survivors: tuple[int, ...]
  blamed: dict[int, tuple[int, ...]]

  @functools.cached_property
  def values(self) -> dict[str, np.ndarray]:
    """{leaf: int64 array}, what `words` are, with room to compute."""
    return {name: sums.astype(np.int64) for name, sums in self.words.items()}


@dataclasses.dataclass(frozen=True)
class SessionResult(Aggregate):
  """The result of a session in memory, and what it cost.

  Attributes:
    words: {leaf: array of unsigned integers}, sums over the survivors modulo 2**bits.
    survivors: Ids of the clients in the sum, ascending.
    blamed: {client: holders whose share of its secret was wrong}.
    refused: {error class: messages that the server refused with it}.
    left: {client: the error with which it left the session}.
    silent: {client: first round in which it sent nothing, or left}.
    verdicts: {client: whether it found the result right}.
    bytes_up: {client: bytes it sent in rounds 0 to 5}.
    bytes_down: {client: bytes of the server's messages of rounds 0 to 5 to it}.
    seconds_client: {client: seconds it computed}.
    seconds_server: Seconds that the server computed.
    seconds_work: Seconds in which the inputs were computed.
  """

  refused: dict[str, int]
  left: dict[int, SecAggError]
  silent: dict[int, int]
  verdicts: dict[int, bool]
  bytes_up: dict[int, list[int]]
  bytes_down: dict[int, list[int]]
  seconds_client: dict[int, float]
  seconds_server: float
  seconds_work: float
