"""How often, and when, each client has taken part, and who may take part again."""

from collections.abc import Iterable, Sequence

import numpy as np

from tff_privacy_agg._wording import counted
from tff_privacy_agg.errors import LedgerError
from tff_privacy_agg.ledger.facts import LedgerFacts
from tff_privacy_agg.ledger.verification.sampling_evidence import SamplingEvidence

_NEVER = -(2**40)  # the position of who has not taken part


class EligibleClients(list[str]):
  """Clients who may take part in the next round, with what the register knows of them.

  Attributes:
    taken: Rounds that each has taken part in, in order.
    separation: All of them have been away for so many rounds that the next one keeps this
      separation; 1 where the ledger claims none.
  """

  def __init__(self, clients: Iterable[str], taken: Sequence[int], separation: int = 1):
    super().__init__(clients)
    self.taken, self.separation = taken, separation


class ParticipationCounts:
  """The participations of all clients, by their salted hashes.

  Attributes:
    cap: Most rounds of one client; None for no cap.
    separation: Two rounds of one client are at least so far apart; None where that is not claimed.
    most: Most rounds that any client has taken part in.

  Args:
    facts: What the ledger claims: of participations, of their separation, of how cohorts are drawn.
  """

  def __init__(self, facts: LedgerFacts):
    claim = facts.sampling
    self.cap, self.separation = facts.cap, facts.separation
    self.most = 0
    self._numbers: dict[str, int] = {}  # by hash, in the order of first participation
    self._taken = np.zeros(0, np.int64)  # rounds that each has taken part in, by number
    # Position of the last of them, where a separation is claimed.
    self._last = np.zeros(0, np.int64)
    self._evidence = SamplingEvidence(claim) if claim.claims else None

  @property
  def people(self) -> int:
    """Clients that have taken part in a round."""
    return len(self._numbers)

  def free(self, hashed: Sequence[str], position: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Whom cap and separation let take part once more, and the rounds that each has taken part in.

    Args:
      hashed: Clients.
      position: Of that round, where a separation is claimed.
    """
    numbers = self._numbers_of(hashed)
    taken = self._before(numbers)
    free = ~self._too_soon(numbers, position)
    if self.cap is not None:
      free &= taken < self.cap
    return free, taken

  def check_practice(self, hashed: Sequence[str] = ()) -> None:
    """Raises if the cohorts so far, and this one, are not drawn as is claimed.

    Raises:
      LedgerError: If they are not.
    """
    if self._evidence is not None:
      numbers = self._numbers_of(hashed)
      self._evidence.check(numbers, self._before(numbers))

  def check(self, hashed: Sequence[str], population: int, position: int | None = None) -> int:
    """Returns what `most` would be with this cohort.

    Args:
      hashed: The cohort.
      population: Clients that there are, as the ledger states it.
      position: Of its round, where a separation is claimed.

    Raises:
      LedgerError: If a client would take part in more rounds than the cap, or too soon again, or
        there are more clients than the population.
    """
    people = len(self._numbers.keys() | set(hashed))
    if people > population:
      raise LedgerError(
        f'The ledger is of a population of {counted(population, "client")}; with this cohort '
        f'{people} have taken part. Begin a ledger with the true number, which delta is judged by.'
      )
    numbers = self._numbers_of(hashed)
    self._check_apart(numbers, position)
    taken = self._before(numbers)
    if self.cap is not None and taken.max(initial=0) >= self.cap:
      spent = int((taken >= self.cap).sum())
      raise LedgerError(
        f'A client takes part in at most {counted(self.cap, "round")}; {spent} of this cohort of '
        f'{len(hashed)} already did. Draw the cohort from `ledger.eligible(clients)`.'
      )
    return max(self.most, int(taken.max(initial=0)) + 1)

  def add(self, hashed: Sequence[str], position: int | None) -> None:
    """Counts a cohort, and the position of its round if it has one."""
    numbers = np.array([self._numbers.setdefault(one, len(self._numbers)) for one in hashed], int)
    if len(self._numbers) > len(self._taken):
      self._taken = np.append(self._taken, np.zeros(len(self._numbers), np.int64))
      self._last = np.append(self._last, np.full(len(self._numbers), _NEVER))
    if position is not None:
      self._last[numbers] = position
    before = self._taken[numbers]
    if self._evidence is not None:
      self._evidence.add(numbers, before)
    self._taken[numbers] += 1
    self.most = max(self.most, int(before.max(initial=-1)) + 1)

  def check_separation(self, hashed: Sequence[str], position: int | None) -> None:
    """Raises if a client of a cohort would take part again before the separation is over.

    Raises:
      LedgerError: If one would.
    """
    self._check_apart(self._numbers_of(hashed), position)

  def _numbers_of(self, hashed: Sequence[str]) -> np.ndarray:
    """The number of each client; -1 for who has not taken part yet."""
    return np.array([self._numbers.get(one, -1) for one in hashed], int)

  def _before(self, numbers: np.ndarray) -> np.ndarray:
    """Rounds that each has taken part in."""
    known = numbers >= 0
    taken = np.zeros(len(numbers), np.int64)
    taken[known] = self._taken[numbers[known]]
    return taken

  def _too_soon(self, numbers: np.ndarray, position: int | None) -> np.ndarray:
    """Who of the clients would take part again before the separation is over.

    An entry at the same position is of a round that drew no noise: it was never charged, or taken
    back.
    """
    known = numbers >= 0
    near = np.zeros(len(numbers), bool)
    if self.separation is not None and position is not None:
      apart = position - self._last[numbers[known]]
      near[known] = (apart < self.separation) & (apart != 0)
    return near

  def _check_apart(self, numbers: np.ndarray, position: int | None) -> None:
    near = int(self._too_soon(numbers, position).sum())
    if near:
      raise LedgerError(
        f'Two rounds of one client are at least {self.separation} apart; {near} of this cohort of '
        f'{len(numbers)} took part less than that ago. Draw the cohort from '
        '`ledger.eligible(clients)`, as `SeparatedCohorts` does.'
      )
