"""Every number that the lines of a ledger state, computed anew while the lines are replayed."""

import datetime
import pathlib
from collections.abc import Mapping
from typing import Any

from tff_privacy_agg._wording import counted
from tff_privacy_agg.accounting.budget import VIEWS, Filter
from tff_privacy_agg.errors import ConfigurationError, LedgerError
from tff_privacy_agg.ledger.costs.kinds import Kind
from tff_privacy_agg.ledger.notes import check_text
from tff_privacy_agg.ledger.participation.register import Participants
from tff_privacy_agg.ledger.recomputed import alike, same
from tff_privacy_agg.ledger.replay import LedgerState
from tff_privacy_agg.ledger.sampling_claims import Sampling
from tff_privacy_agg.ledger.verification.stated_totals import StatedTotals

# A budget's limits are compared with sums of floating-point numbers.
_ROUNDING = 1 + 1e-9


class Recount:
  """Replays a ledger, and lists what it states otherwise than its facts and rounds give.

  Attributes:
    state: The sum of the lines so far.
    problems: What is stated otherwise, in sentences; complete after `finish`.

  Args:
    header: The first line.
    register: Where the participants of the rounds are kept, if they are.

  Raises:
    LedgerError: If it is no header, or of a later version.
  """

  def __init__(self, header: Mapping[str, Any], register: pathlib.Path):
    self.state = LedgerState(header)
    self.problems: list[str] = []
    self._strict = not self.state.earlier
    self._totals = StatedTotals(self.state)
    self._register = Participants(register, self.state.facts, read=False)
    self._register_name = register.name if register.exists() else ''
    self._cohorts = self._register.replay() if register.exists() else iter(())
    self._lacking = 0
    self._stopped = 0  # cohorts of the register whose rounds a crash stopped before their charge
    self._ahead: Mapping[str, Any] | None = None  # the charge that counts the most rounds too many
    self._ahead_by = 0
    self._as_claimed: tuple = ()  # what was found to be drawn as claimed, and its size
    self._check_header(header)

  def apply(self, line: Mapping[str, Any]) -> None:
    """Takes one line after the header.

    Raises:
      LedgerError: If it cannot follow the lines before it.
    """
    state, event = self.state, line.get('event')
    most, claims = state.most, state.claims
    of_round = state.open.get(line['of']) if event == 'settle' and _is_int(line, 'of') else None
    kind = None if of_round is None else state.kind_of(line['of'])
    state.apply(line)
    if event == 'charge':
      self._check_charge(line, most)
    elif kind is not None:
      self._check_settlement(line, kind, of_round, claims)
    elif event == 'recovered' and not (
      _is_int(line, 'partial_bytes') and line['partial_bytes'] > 0
    ):
      self._differs(line, f'`partial_bytes` is {line.get("partial_bytes")!r}')
    if event in ('charge', 'settle', 'unopened', 'recovered'):
      self._totals.add(line)
    if self._strict:
      self._check_words(line)

  def finish(self) -> list[str]:
    """All problems: those of lines, of the totals, and of the register."""
    of_register: list[str] = []
    if self._lacking:
      of_register.append(
        f'{self._register_name} lacks the participants of {counted(self._lacking, "round")}.'
      )
    elif self._register_name:
      of_register += self._of_the_register()
    return [*self.problems, *self._totals.finish(), *of_register]

  def _of_the_register(self) -> list[str]:
    facts = self.state.facts
    try:
      self._stopped += sum(1 for _ in self._cohorts)
      if self.state.claims:
        self._register.counts.check_practice()
    except LedgerError as error:
      return [str(error)]
    if self._ahead is not None and self._ahead_by > self._stopped:
      self._differs(
        self._ahead,
        f'`most_participations` is {self._ahead["most_participations"]}, {self._ahead_by} above '
        f'what {self._register_name} gives',
      )
    if self._register.counts.people > facts.population:
      return [
        f'{self._register_name} names {counted(self._register.counts.people, "client")}; the ledger is of '
        f'a population of {facts.population}.'
      ]
    return []

  def _check_cohort(self, line: Mapping[str, Any], before: int) -> None:
    """A charge's cohort in the register: its size, and what it makes of the most rounds."""
    chain = self.state.chain
    expected = line['participants'], None if chain is None else chain.position
    for digest, size, position in self._cohorts:
      if (digest, position) == expected:
        self._check_participants(line, before, size)
        return
      self._stopped += 1
    self._lacking += 1

  def _check_participants(self, line: Mapping[str, Any], before: int, size: int) -> None:
    most = max(before, self._register.counts.most)
    if line['most_participations'] - most > self._ahead_by:
      # Of cohorts that are alike, the one before may be of a round that a crash stopped.
      self._ahead, self._ahead_by = line, line['most_participations'] - most
    if line['most_participations'] < most:
      self._differs(
        line,
        f'`most_participations` is {line["most_participations"]}; {self._register_name} gives {most}',
      )
    cap = self.state.facts.cap
    if cap is not None and self._register.counts.most - self._stopped > cap:
      self._differs(
        line,
        f'{self._register_name} has a client in {counted(self._register.counts.most, "round")}; the cap '
        f'is {cap}',
      )
    if self._strict and line['most_survivors'] != size:
      self._differs(
        line,
        f'`most_survivors` is {line["most_survivors"]}; {self._register_name} names '
        f'{counted(size, "client")}',
      )

  def _check_charge(self, line: Mapping[str, Any], before: int) -> None:
    state, facts = self.state, self.state.facts
    honest = state.honest_at_worst(state.kind_of(line['seq']))
    if not same(honest, line.get('honest_at_worst')):
      self._differs(
        line, f'`honest_at_worst` is {line.get("honest_at_worst")!r}; the facts give {honest}'
      )
    digest, most = line['participants'], line['most_participations']
    if digest is None:
      if most is not None:
        self._differs(line, f'`most_participations` is {most!r}, of a cohort that it does not name')
    elif most < max(before, 1):
      # More than there are rounds can be: of cohorts whose charges a crash stopped.
      self._differs(line, f'`most_participations` is {most}, after {before}')
    elif self._register_name:
      self._check_cohort(line, before)
    if not self._strict:
      return
    asked, planned = line['most_survivors'], line['planned_survivors']
    if planned is not None and (asked is None or planned > asked):
      self._differs(line, f'`planned_survivors` is {planned}, of {counted(asked, "client")}')
    if facts.cap is not None and digest is None:
      self._differs(line, 'it does not name its cohort, whose participations are capped')
    if state.claims:
      self._check_drawn(line, asked)
    if state.filter is not None and not self._within(state.filter):
      self._differs(line, 'it passes the budget of the header, which no charge may')

  def _check_drawn(self, line: Mapping[str, Any], size: int | None) -> None:
    claim, drawn = self.state.facts.sampling, line.get('sampling')
    if (drawn, size) == self._as_claimed and line['participants'] is not None:
      return
    try:
      claim.check_round(None if drawn is None else Sampling.of(drawn), size or 0, line['round'])
      self._as_claimed = (drawn, size)
    except (LedgerError, ConfigurationError, TypeError) as error:
      self._differs(line, str(error))
    if line['participants'] is None:
      self._differs(line, 'it does not name its cohort, whose sampling is claimed')

  def _within(self, fixed: Filter) -> bool:
    view = fixed.budget.view
    total = self.state.cost(view)
    parts = zip(fixed.parts, fixed.limit, strict=True)
    within = all(total[part] <= limit * _ROUNDING for part, limit in parts)
    return within and self.state.distance(view) <= fixed.most_distance * _ROUNDING

  def _check_settlement(
    self, line: Mapping[str, Any], kind: Kind, of_round: int | None, claims: bool
  ) -> None:
    honest = line['honest']
    if not same(of_round, line.get('round')):
      self._differs(line, f'`round` is {line.get("round")!r}; its charge is of round {of_round}')
    multiplier = kind.noise_multiplier(honest)
    if not same(multiplier, line.get('z_eff')):
      self._differs(
        line,
        f'`z_eff` is {line.get("z_eff")!r}; with {counted(honest, "honest survivor")} it is '
        f'{multiplier!r}',
      )
    computed = None
    if line.get('survivors_counted_by', 'runtime') == 'runtime':
      computed = kind.divergences(honest, line.get('top_up', 0), claims)
    if not alike(computed, line.get('rdp', 'missing')):
      self._differs(line, 'its `rdp` is not that of a round with so many honest survivors')

  def _check_words(self, line: Mapping[str, Any]) -> None:
    try:
      _time(line['utc'])
      if line['event'] in ('charge', 'settle'):
        check_text('version', line['version'])
    except (KeyError, ValueError, TypeError) as error:
      self._differs(line, f'{error}')

  def _check_header(self, header: Mapping[str, Any]) -> None:
    """Statements of the header on accounts and budget that its facts do not give."""
    fixed = self.state.filter
    if not same(None if fixed is None else fixed.order, header.get('order', 'missing')):
      self.problems.append('Line 1 states another order for its budget than its facts give.')
    if not self._strict:
      return
    self._check_words(header)
    if header.get('accounts') != {view: self.state.accounts[view].name for view in VIEWS}:
      self.problems.append('Line 1 states other accounts than its facts give.')
    given = {} if fixed is None else fixed.as_dict()
    stated = header.get('limits') or {}
    keys_alike = isinstance(stated, dict) and given.keys() == stated.keys()
    if not keys_alike or not all(same(given[name], stated[name]) for name in given):
      self.problems.append('Line 1 states other limits for its budget than its facts give.')

  def _differs(self, line: Mapping[str, Any], what: str) -> None:
    self.problems.append(f'Line {line["seq"] + 1} cannot be as it is: {what.rstrip(".")}.')


def _is_int(line: Mapping[str, Any], name: str) -> bool:
  return type(line.get(name)) is int


def _time(text: Any) -> None:
  if not isinstance(text, str):
    raise ValueError(f'`utc` is {text!r}')
  datetime.datetime.fromisoformat(text)
