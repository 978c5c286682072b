"""The sum of a ledger: its lines replayed one by one, in memory, by reader and writer alike."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tff_privacy_agg.accounting.accountant import at_distance, conversion_offsets
from tff_privacy_agg.accounting.budget import VIEWS, Budget, Filter
from tff_privacy_agg.errors import LedgerError
from tff_privacy_agg.ledger.facts import LedgerFacts
from tff_privacy_agg.ledger.round_kinds import Kind, with_own
from tff_privacy_agg.ledger.view_costs import ReleaseCosts

SCHEMA = 3
# Who says how many clients are in a sum: only the runtime's word lowers a charge.
COUNTED_BY = ('runtime', 'clients')
EVENTS = ('charge', 'settle', 'facts', 'recovered', 'unaccounted', 'note')
# Orders at which every settled line states what its round cost.
STATED_ORDERS = (2, 4, 8, 16, 32, 64)


@dataclasses.dataclass
class Settled:
  """What happened in a settled round: line number, survivors, honest ones, noise multiplier."""

  seq: int
  survivors: int
  counted_by: str
  honest: int
  noise_multiplier: float
  updated: bool


class LedgerState:
  """All rounds so far, and what they cost.

  The cost of open (charged, not settled) rounds is that of the fewest honest
  survivors that the threshold allows. Under a participation cap a client pays for
  at most `most` rounds, so the dearest ones are counted; otherwise all are.

  Attributes:
    kinds: What the rounds rest on and cost, by the number of the line that states their facts:
      0 for the header.
    facts: The facts of the header.
    costs: What a round of these facts costs, whatever is claimed of its cohort.
    views: The rounds of these facts as each view pays for them.
    filter: The budget at its fixed order, or None.
    open: Line numbers of charged rounds that are not settled, with their rounds.
    settled: The settled rounds, in order.
    undiscounted: How many of them cost what was charged, as clients counted the survivors.
    planned: Planned survivors of the charged rounds that said them.
    digests: Digest of the cohort of each charged round that recorded one.
    most: Most rounds that any client took part in, as far as was recorded.
    recovered: Lines that were cut off, by what they had begun to say.
    threshold_broken: Whether a round had fewer survivors than the threshold.
    claim_broken: Whether a round was not as the facts claim for the release view.
    drawn: Rounds whose sampler said what it did.
    unaccounted: What left the clients outside this sum.
    notes: Findings recorded for the report.
  """

  def __init__(self, header: Mapping[str, Any]):
    check_header(header)
    first = Kind(LedgerFacts.from_dict(header.get('facts', {})))
    self.kinds: dict[int, Kind] = {0: first}
    self.facts, self.costs, self.views = first.facts, first.costs, first.views
    budget = header.get('budget')
    try:
      self.filter = None if budget is None else self.fix(Budget(**budget))
    except (TypeError, ValueError, OverflowError) as error:
      raise LedgerError(
        f'The header of a ledger states its budget; this one cannot be used: {error} Restore the '
        'file.'
      ) from error
    self.open: dict[int, int] = {}
    self.settled: list[Settled] = []
    self.undiscounted = 0
    self.planned: list[int] = []
    self.digests: list[str] = []
    self.most = 0
    self.recovered: list[str] = []
    self.threshold_broken = False
    self.claim_broken = False
    self.drawn = 0
    self.unaccounted: list[str] = list(self.facts.unaccounted)
    self.notes: dict[str, Any] = {}
    # Rounds of which only a part of the charge is left, each by how many kinds were known then.
    self._unknown: list[int] = []
    self._kind_of: dict[int, Kind] = {}  # of the open charges
    self._most_survivors: dict[int, int] = {}  # of the open charges that say it
    self._says_who_counted = header['schema'] >= 3

  @property
  def rounds(self) -> int:
    """Charged rounds, whatever became of them."""
    return len(self.settled) + self.unsettled

  @property
  def unsettled(self) -> int:
    """Charged rounds that have not settled."""
    return len(self.open) + len(self._unknown)

  @property
  def exposures(self) -> int:
    """Most rounds that one client pays for."""
    if self.facts.participation_cap is None:
      return self.rounds
    return min(self.rounds, self.most + len(self._unknown))

  def apply(self, record: Mapping[str, Any]) -> None:
    """Takes one line after the header.

    Raises:
      LedgerError: If the line cannot follow the lines before it.
    """
    handlers = {
      'charge': self._charge,
      'settle': self._settle,
      'facts': self._declare,
      'recovered': self._recover,
      'unaccounted': lambda line: self.unaccounted.append(line['what']),
      'note': lambda line: self.notes.__setitem__(line['name'], line['value']),
    }
    event = record.get('event')
    if not isinstance(event, str) or event not in handlers:
      raise LedgerError(
        f'Line {record.get("seq", -1) + 1} of the ledger holds the event {event!r}, which this '
        'version does not know. Install a later one.'
      )
    try:
      handlers[event](record)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
      raise LedgerError(
        f'Line {record.get("seq", -1) + 1} of the ledger lacks what a {event} says: {error}. '
        'Restore the file.'
      ) from error

  def worst(self, view: str) -> np.ndarray:
    """RDP of a round of which nothing is known but the threshold, if that ever held."""
    return self.views[view].worst(self.threshold_broken)

  def kind_of(self, charge: int) -> Kind:
    """What an open charge rests on."""
    return self._kind_of[charge]

  def charged_clients(self, charge: int) -> int | None:
    """Clients that were asked in the round of an open charge; None if it does not say."""
    return self._most_survivors.get(charge)

  def most_survivors(self, charge: int) -> int:
    """Most clients that an open charge can settle with."""
    maximum = self._kind_of[charge].facts.maximum
    return min(maximum, self._most_survivors.get(charge, maximum))

  def honest_at_worst(self, kind: Kind) -> int:
    """Honest survivors that a round of this kind is charged with."""
    return kind.facts.honest(1 if self.threshold_broken else kind.facts.worst_survivors)

  def find_kind(self, facts: LedgerFacts) -> int | None:
    """The line that states these facts, or a larger distance of samplers; None if none does."""
    return next(
      (line for line, one in self.kinds.items() if not facts.differences(one.facts)), None
    )

  def rdp(
    self, view: str, *, more: int = 0, most: int | None = None, kind: Kind | None = None
  ) -> np.ndarray:
    """Total RDP of one client's rounds, shape [m]; infinite where a view has no privacy.

    Args:
      view: 'server' or 'release'.
      more: Further rounds at their worst to count in.
      most: `most` after them, under a cap.
      kind: What the further rounds rest on; the header's facts if None.
    """
    broken = self.threshold_broken
    if self.facts.participation_cap is not None:  # then all rounds are of one kind
      taken = (self.most if most is None else most) + len(self._unknown)
      return self.views[view].total(
        exposures=min(self.rounds + more, taken),
        waiting=self.unsettled + self.undiscounted + more,
        threshold_broken=broken,
      )
    total = np.zeros_like(self.views[view].costs.orders)
    for one in self.kinds.values():
      total = total + one.views[view].total(
        exposures=one.rounds, waiting=one.open, threshold_broken=broken
      )
    rows = [one.views[view].worst(broken) for one in self.kinds.values()]
    for known in self._unknown:
      # A charge follows the line of its facts, so what was cut off was of a kind known then.
      total = total + np.max(rows[:known], axis=0)
    if more:
      total = total + more * (kind or self.kinds[0]).views[view].worst(broken)
    return total

  def epsilon(self, view: str, delta: float | None = None) -> tuple[float, float]:
    """Epsilon of all rounds at `delta`, and the order that gives it.

    The distance of the noise samplers from their laws takes its part of `delta`.
    """
    delta = self.facts.delta if delta is None else delta
    total, orders = self.rdp(view), self.views[view].costs.orders
    if self.rounds == 0:
      return (0.0, math.nan) if total[0] == 0 else (math.inf, math.nan)

    def find(remaining: float) -> tuple[float, float]:
      bounds = total + conversion_offsets(orders, remaining)
      best = int(np.argmin(bounds))
      return max(float(bounds[best]), 0.0), float(orders[best])

    return at_distance(find, delta, self.distance(view))

  def distance(self, view: str, *, more: int = 0, kind: Kind | None = None) -> float:
    """Total variation distance of all rounds, and `more`, from the laws of their bounds."""
    kinds = list(self.kinds.values())
    distances = [one.views[view].costs.distance for one in kinds]
    known = [one.rounds * distance for one, distance in zip(kinds, distances, strict=True)]
    cut_off = [max(distances[:count]) for count in self._unknown]
    further = more * (kind or kinds[0]).views[view].costs.distance
    return math.fsum([*known, *cut_off, further])

  def totals(self) -> dict[str, float | str]:
    """Epsilon by view as a line states it; an infinite one is the word 'inf'."""
    values = {view: self.epsilon(view)[0] for view in VIEWS}
    return {view: 'inf' if math.isinf(value) else value for view, value in values.items()}

  def fix(self, budget: Budget) -> Filter:
    """A budget at the order that follows from the facts alone."""
    view = self.views[budget.view]
    return budget.fix(view.costs.orders, view.worst(False))

  def admits(self, fixed: Filter, *, most: int | None = None, kind: Kind | None = None) -> bool:
    """Whether one more round at its worst stays within a budget.

    Args:
      fixed: The budget at its order.
      most: Most rounds of one client after the next round; under a cap, one more if None.
      kind: What that round rests on; the header's facts if None.
    """
    if most is None:
      most = min(self.most + 1, self.facts.participation_cap or self.rounds + 1)
    view = fixed.budget.view
    rdp = self.rdp(view, more=1, most=most, kind=kind)
    return fixed.admits(rdp, self.distance(view, more=1, kind=kind))

  def meets_claim(self, survivors: int, top_up: int, counted_by: str) -> bool:
    """Whether a settled round is as the facts claim it for the release view.

    Args:
      survivors: Clients in the sum.
      top_up: Shares of noise that the server added. A top-up to a number that clients
        inflated adds too few.
      counted_by: Who counted the survivors.
    """
    release, total = self.views['release'].costs, self.facts.top_up
    if total is not None and (counted_by == 'clients' or top_up != total - survivors):
      return False
    size = self.facts.sampling.cohort
    fixed = isinstance(release, ReleaseCosts) and release.dropouts
    return size is None or fixed or survivors == size

  def _charge(self, line: Mapping[str, Any]) -> None:
    kind = self.kinds[int(line.get('facts', 0))]
    kind.open += 1
    kind.rounds += 1
    self._kind_of[int(line['seq'])] = kind
    self.open[int(line['seq'])] = int(line['round'])
    if line['planned_survivors'] is not None:
      self.planned.append(int(line['planned_survivors']))
    most = line['most_survivors'] if self._says_who_counted else line.get('most_survivors')
    if most is not None:
      self._most_survivors[int(line['seq'])] = int(most)
    self.drawn += line.get('sampling') is not None
    if line['participants'] is not None:
      self.digests.append(line['participants'])
      self.most = max(self.most, int(line['most_participations']))
    elif self.facts.participation_cap is not None:
      self.most += 1

  def _settle(self, line: Mapping[str, Any]) -> None:
    entry, survivors, honest = int(line['of']), int(line['survivors']), int(line['honest'])
    if entry not in self.open:
      raise LedgerError(
        f'Charge {entry} was to be settled; it is not open. Settle each charge once, with the '
        'number that `charge` gave.'
      )
    kind, most_survivors = self._kind_of[entry], self.most_survivors(entry)
    counted_by = self._counted_by(line)
    most = kind.facts.honest(survivors)
    if counted_by == 'clients':
      most = min(most, self.honest_at_worst(kind))
    if not 1 <= honest <= most:
      raise LedgerError(
        f'{honest} honest clients were stated among {survivors} survivors whom the {counted_by} '
        f'counted; that admits at most {most}. Restore the file.'
      )
    if survivors > most_survivors:
      raise LedgerError(
        f'{survivors} survivors were stated of a round of at most {most_survivors} clients. '
        'Restore the file.'
      )
    top_up = int(line.get('top_up', 0))
    if top_up < 0 or (top_up and self.facts.top_up is None):
      raise LedgerError(
        f'{top_up} shares were stated to be topped up; the facts of this ledger know of no top-up. '
        'Restore the file.'
      )
    del self.open[entry], self._kind_of[entry]
    self._most_survivors.pop(entry, None)
    self.settled.append(
      Settled(
        seq=int(line['seq']),
        survivors=survivors,
        counted_by=counted_by,
        honest=honest,
        noise_multiplier=kind.costs.noise_multiplier(honest),
        updated=bool(line['updated']),
      )
    )
    release = kind.views['release']
    broken = survivors < kind.facts.worst_survivors
    if counted_by == 'runtime':
      kind.open -= 1
      kind.views['server'].settle(honest)
      # More than what the cohort lacked is not counted, whatever was stated.
      lacking = max((self.facts.top_up or 0) - survivors, 0)
      release.settle(honest + min(top_up, lacking))
    else:  # it costs what open rounds cost, and if that counted on too many, they all cost more
      self.undiscounted += 1
      broken = broken or honest < self.honest_at_worst(kind)
    claimed = self.meets_claim(survivors, top_up, counted_by)
    if isinstance(release.costs, ReleaseCosts) and not claimed:
      self.claim_broken = True
      release.recost(release.costs.plain)
    self.threshold_broken = self.threshold_broken or broken

  def _counted_by(self, line: Mapping[str, Any]) -> str:
    """Who counted the survivors of a settled round; before schema 3 nobody else was asked."""
    name = 'survivors_counted_by'
    value = line[name] if self._says_who_counted else line.get(name, 'runtime')
    if value not in COUNTED_BY:
      raise ValueError(f'`{name}` is {value!r}')
    return value

  def _declare(self, line: Mapping[str, Any]) -> None:
    self.kinds[int(line['seq'])] = Kind(with_own(self.facts, line['facts']))

  def _recover(self, line: Mapping[str, Any]) -> None:
    was = line['was']
    self.recovered.append(was)
    if was in ('charge', 'unknown'):
      self._unknown.append(len(self.kinds))
    if was == 'unaccounted':
      self.unaccounted.append('something that was named in a line which was cut off')


def check_header(header: Mapping[str, Any]) -> None:
  """Raises unless a line is a header that this version reads."""
  if header.get('event') != 'header':
    raise LedgerError(
      f'The first line of a ledger is its header; this one is {header.get("event")!r}. Restore '
      'the file.'
    )
  schema = header.get('schema')
  if not isinstance(schema, int) or schema < 1 or schema > SCHEMA:
    raise LedgerError(
      f'This version reads ledgers of schema 1 to {SCHEMA}; this one has schema {schema!r}, '
      f'written by tff_privacy_agg {header.get("version", "?")}. Install that version or a '
      'later one.'
    )


def begun(partial: bytes) -> str:
  """The event of a line that was cut off; 'unknown' if too little of it is left."""
  for event in EVENTS:
    if partial.startswith(f'{{"event":"{event}"'.encode('ascii')):
      return event
  return 'unknown'
