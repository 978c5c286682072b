"""The sum of a ledger: its lines replayed one by one, in memory, by reader and writer alike."""

from collections.abc import Mapping
from typing import Any, ClassVar

from tff_privacy_agg.accounting.budget import VIEWS
from tff_privacy_agg.errors import LedgerError
from tff_privacy_agg.ledger.costs.kinds import Kind, joint_accounts, with_own
from tff_privacy_agg.ledger.costs.views import ReleaseCosts
from tff_privacy_agg.ledger.line_format import COUNTED_BY, EVENTS
from tff_privacy_agg.ledger.notes import check_note, check_text, whole
from tff_privacy_agg.ledger.totals import LedgerTotals


class LedgerState(LedgerTotals):
  """All rounds so far, and what they cost: the sum of the lines that were applied."""

  def apply(self, record: Mapping[str, Any]) -> None:
    """Takes one line after the header.

    Raises:
      LedgerError: If the line cannot follow the lines before it.
    """
    event = record.get('event')
    if not isinstance(event, str) or event not in self._HANDLERS:
      raise LedgerError(
        f'Line {record.get("seq", -1) + 1} of the ledger holds the event {event!r}, which this '
        'version does not know. Install a later one.'
      )
    try:
      self._HANDLERS[event](self, record)
    except LedgerError:
      raise
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
      raise LedgerError(
        f'Line {record.get("seq", -1) + 1} of the ledger lacks what a {event} says: {error}. '
        'Restore the file.'
      ) from error

  def kind_of(self, charge: int) -> Kind:
    """Kind of round that an open charge is for."""
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
    return kind.honest(1 if self.threshold_broken else kind.facts.worst_survivors)

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

  def takes_back(self, charge: int, mode: str) -> bool:
    """Whether a session of this mode that asked for no share cost its charge nothing."""
    plain = self._says_who_counted and not self.facts.sampling.claims
    return plain and charge in self.open and mode == 'semi_honest'

  def _charge(self, line: Mapping[str, Any]) -> None:
    seq, number = line['seq'], whole(line, 'round', 0)
    kind = self.kinds[whole(line, 'facts', 1) if 'facts' in line else 0]
    planned = whole(line, 'planned_survivors', 1, or_none=True)
    most = None
    if self._says_who_counted or 'most_survivors' in line:
      most = whole(line, 'most_survivors', 1, or_none=True)
    digest, most_rounds = line['participants'], line['most_participations']
    if digest is not None:
      most_rounds = whole(line, 'most_participations', 1)
      self.digests.append(digest)
      self.most = max(self.most, most_rounds)
    elif self.facts.needs_cohorts:
      self.most += 1
    if self.chain is not None:
      self._check_chain(number, digest is not None)
      self.chain.charge(seq, number)
    kind.open += 1
    kind.rounds += 1
    self._kind_of[seq] = kind
    self.open[seq] = number
    if planned is not None:
      self.planned.append(planned)
    if most is not None:
      self._most_survivors[seq] = most
    self.drawn += line.get('sampling') is not None

  def _unopen(self, line: Mapping[str, Any]) -> None:
    """Takes back the charge of a session that never asked for a share: it showed nothing."""
    entry = whole(line, 'of', 1)
    if not self.takes_back(entry, line['mode']):
      raise LedgerError(
        f'Charge {entry} was taken back after a session of mode {line["mode"]!r}; it is not open, '
        'or a session without a sum stays charged in this ledger. Restore the file.'
      )
    kind = self._kind_of.pop(entry)
    del self.open[entry]
    self._most_survivors.pop(entry, None)
    kind.open -= 1
    kind.rounds -= 1
    self.unopened += 1
    if self.chain is not None:
      self.chain.take_back(entry)

  def _check_chain(self, number: int, named: bool) -> None:
    """Raises unless a round may be drawn from the noise of those before it."""
    if not named:
      raise LedgerError(
        f'Round {number} was charged without its cohort, whose separation this ledger counts on. '
        'Restore the file.'
      )
    if self.chain is not None and self.chain.must_restart(number, self.open):
      raise LedgerError(
        f'Round {number} was charged after a round whose noise may have been released and lost, '
        'without a restart of the noise. Restore the file.'
      )

  def _restart(self, line: Mapping[str, Any]) -> None:
    if self.chain is None:
      raise LedgerError('Noise was restarted that is not correlated over rounds. Restore the file.')
    self.chain.restart(line['seq'])

  def _settle(self, line: Mapping[str, Any]) -> None:
    entry, survivors = whole(line, 'of', 1), whole(line, 'survivors', 1)
    honest, top_up = whole(line, 'honest', 0), whole(line, 'top_up', 0) if 'top_up' in line else 0
    if type(line['updated']) is not bool:
      raise ValueError(f'`updated` is {line["updated"]!r}')
    if entry not in self.open:
      raise LedgerError(
        f'Cannot settle charge {entry}: it is not open. Settle each charge once, with the number '
        'that `charge` gave.'
      )
    kind, most_survivors = self._kind_of[entry], self.most_survivors(entry)
    counted_by = self._counted_by(line)
    most = kind.honest(survivors)
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
    if top_up and self.facts.top_up is None:
      raise LedgerError(
        f'{top_up} shares were stated to be topped up; the facts of this ledger know of no top-up. '
        'Restore the file.'
      )
    del self.open[entry], self._kind_of[entry]
    self._most_survivors.pop(entry, None)
    multiplier = kind.noise_multiplier(honest)
    self.settled.append(line['seq'], survivors, counted_by, honest, multiplier, line['updated'])
    release = kind.views['release']
    broken = survivors < kind.facts.worst_survivors
    # Fewer honest clients than open rounds count on are as bad as fewer survivors.
    if self._says_who_counted or counted_by == 'clients':
      broken = broken or honest < self.honest_at_worst(kind)
    if counted_by == 'runtime':
      kind.open -= 1
      kind.views['server'].settle(honest)
      # More than what the cohort lacked is not counted, whatever was stated.
      lacking = max((self.facts.top_up or 0) - survivors, 0)
      release.settle(honest + min(top_up, lacking))
    else:  # it costs what open rounds cost, and if that counted on too many, they all cost more
      self.undiscounted += 1
    claimed = self.meets_claim(survivors, top_up, counted_by)
    if isinstance(release.costs, ReleaseCosts) and not claimed:
      self.claim_broken = True
      release.recost(release.costs.plain)
    self.threshold_broken = self.threshold_broken or broken

  def _counted_by(self, line: Mapping[str, Any]) -> str:
    """Name of who counted the survivors of a settled round; before schema 3 it was the runtime."""
    name = 'survivors_counted_by'
    value = line[name] if self._says_who_counted else line.get(name, 'runtime')
    if value not in COUNTED_BY:
      raise ValueError(f'`{name}` is {value!r}')
    return value

  def _declare(self, line: Mapping[str, Any]) -> None:
    facts = with_own(self.facts, line['facts'], earlier=self.earlier)
    kind, joint = self.new_kind(facts), joint_accounts(self.accounts, facts, self.earlier)
    if any(joint[view] is not self.accounts[view] for view in VIEWS):
      self.accounts = joint
      for one in self.kinds.values():
        one.move(joint)
    self.kinds[line['seq']] = kind

  def _recover(self, line: Mapping[str, Any]) -> None:
    was = line['was']
    if was not in (*EVENTS, 'unknown'):
      raise ValueError(f'`was` is {was!r}')
    self.recovered.append(was)
    if was in ('charge', 'unknown'):
      self.unknown.append(len(self.kinds))
      if self.chain is not None:
        self.chain.lose()
    if was == 'unaccounted':
      self.unaccounted.append('something that was named in a line which was cut off')

  def _leave_out(self, line: Mapping[str, Any]) -> None:
    self.unaccounted.append(check_text('what', line['what']))

  def _note(self, line: Mapping[str, Any]) -> None:
    check_note(line['name'], line['value'])
    self.notes[line['name']] = line['value']

  _HANDLERS: ClassVar = {
    'charge': _charge,
    'settle': _settle,
    'unopened': _unopen,
    'restarted': _restart,
    'facts': _declare,
    'recovered': _recover,
    'unaccounted': _leave_out,
    'note': _note,
  }
