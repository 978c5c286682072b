"""The privacy ledger: what every round of a training may have revealed, on disk."""

from collections.abc import Iterable, Mapping
from typing import Any

import tff_privacy_agg
from tff_privacy_agg import _validate
from tff_privacy_agg.errors import ConfigurationError, LedgerError
from tff_privacy_agg.ledger import line_format as ledger_lines
from tff_privacy_agg.ledger.claims import printable
from tff_privacy_agg.ledger.costs.kinds import own_facts
from tff_privacy_agg.ledger.facts import LedgerFacts
from tff_privacy_agg.ledger.opening import OpenedLedger
from tff_privacy_agg.ledger.participation.admission import admitted
from tff_privacy_agg.ledger.sampling_claims import Sampling
from tff_privacy_agg.ledger.settlement import broken_promise, counted_survivors


class PrivacyLedger(OpenedLedger):
  """Writes the ledger of one training: a charge before each round, a settlement after it.

  Each line is on the disk before the call that writes it returns. A round is
  charged at the most it can cost, and settled with what happened; a round that is never
  settled, because the program was killed, the sum was thrown away or the
  round ran again, stays charged. So no earlier checkpoint, and no second attempt, lowers
  epsilon. A charge is taken back only for a session that showed nothing: `settle_unopened`.

  The most that a round can cost. The server sees the sum of the survivors
  whatever their number: a round below `Cohort.minimum` leaves the model as it was,
  but the server has seen its sum, with less noise. So neither the plan nor
  `Cohort.minimum` bounds the cost from above; only the runtime can, by not
  opening the sum of fewer than `minimum_clients` survivors. A charge therefore
  counts the honest ones among `minimum_clients` survivors. Without a threshold it
  counts one: a client that this guarantee speaks of is honest, and if its
  message is in the sum its own noise is; if it is not, the round costs it nothing.
  (Where more shares of narrow discrete noise cost more, the dearest number from
  there up is taken.) A settlement states at least one honest survivor and, if the
  threshold holds, never more than was charged. If a round breaks the threshold, that
  is written first, then refused aloud, and from then on open rounds count one honest
  survivor.

  Who counted the survivors. The sum contains a count too, but each client adds its own
  term to it, and a client may add more than one. Such a count never lowers a charge: see
  `settle`. No round settles with more survivors than it was charged with clients.

  One writer at a time; a second one is refused. Use it in the process that runs
  the rounds, not in a fork of it.

  Args:
    path: The JSON-lines file. Made if missing; `NAME.head` and `NAME.participants`
      belong to it.
    facts: What the training rests on. An existing ledger must have been begun
      with the same facts; None takes those of the file, which must exist.
    budget: The most to spend; as with the facts.

  Raises:
    LedgerError: If the file does not verify, has another writer, was begun with other
      facts, or comes from a later version.
  """

  def charge(
    self,
    round_number: int,
    *,
    planned_survivors: int | None = None,
    cohort: Iterable[str] | None = None,
    drawn: Sampling | None = None,
    facts: LedgerFacts | None = None,
  ) -> int:
    """Charges a round at its worst, before it runs.

    Args:
      round_number: The round, at least 0; one that runs again is charged again.
      planned_survivors: Clients that are asked, if `cohort` does not name them; the round
        settles with no more. With `cohort`, how many are expected to survive, for the report.
      cohort: Identities of the clients. Needed under a participation cap, where noise is correlated
        over rounds and where the sampling is claimed; only salted hashes of them are kept, next to
        the ledger.
      drawn: What the sampler of the cohort did; must be what the facts claim, if they claim
        anything.
      facts: What this round rests on, if not the facts of the ledger: its stack, threshold and
        task may be its own; the rest must agree.

    Returns:
      The number of the charge, for `settle`.

    Raises:
      BudgetExceededError: If the round could spend more than the budget; nothing is
        charged, and the round must not run.
      LedgerError: If the cohort repeats a client, one of it has reached the cap or returns before
        the separation is over, it was not drawn as the facts claim, the noise must be restarted, or
        `facts` cannot stand in this ledger; nothing is charged then.
    """
    _validate.at_least(0, round_number=round_number)
    if planned_survivors is not None:
      _validate.at_least(1, planned_survivors=planned_survivors)
    if drawn is not None:
      _validate.instance(Sampling, drawn=drawn)
      printable(drawn=drawn.text)
    if facts is not None:
      _validate.instance(LedgerFacts, facts=facts)
    self._writer.check()
    line = 0 if facts is None else self.state.find_kind(facts)
    kind = self.state.new_kind(facts) if facts and line is None else self.state.kinds[line or 0]
    kind.facts.check(earlier=self.state.earlier)
    if self.must_restart(round_number):
      raise LedgerError(
        f'Round {round_number} would be drawn from noise of a round that may have been released and '
        'lost. Call `process.restart_noise(state)` and `ledger.restart_noise()` first.'
      )
    position = self._next_position()
    hashed, most = admitted(
      self.state, self._register, cohort, drawn, planned_survivors, round_number, position
    )
    self.check_budget(round_number, most=most, kind=kind)
    if line is None:
      line = self._append({'event': 'facts', 'facts': own_facts(kind.facts)})['seq']
    digest = None if hashed is None else self._register.record(hashed, position)
    seq = self._writer.next_seq
    self._append(
      {
        'event': 'charge',
        'round': int(round_number),
        'planned_survivors': None if planned_survivors is None else int(planned_survivors),
        'most_survivors': planned_survivors if hashed is None else len(hashed),
        'honest_at_worst': self.state.honest_at_worst(kind),
        **({'facts': line} if line else {}),
        'participants': digest,
        'sampling': None if drawn is None else drawn.as_dict(),
        'most_participations': most,
        'version': tff_privacy_agg.__version__,
      }
    )
    return seq

  def settle(
    self,
    charge: int,
    *,
    survivors: int,
    counted_by: str = 'clients',
    honest: int | None = None,
    accepted: bool = True,
    top_up: int = 0,
  ) -> Mapping[str, Any]:
    """Records what happened in a charged round, and lowers its cost if the runtime counted.

    Args:
      charge: The number that `charge` returned.
      survivors: Clients in the sum.
      counted_by: Who counted them. 'runtime': the protocol, or the program that ran exactly
        these clients; the round then costs what it costs with so many. 'clients': the sum,
        to which a client may add what it likes; the round then costs what was charged, and
        more if fewer survived than the threshold.
      honest: Of these, those whose noise the server does not know, if fewer than the
        colluding fraction leaves.
      accepted: Whether the model took the sum. If not, the server has seen it all the
        same, so it costs the same.
      top_up: Shares of noise that the server added to the sum; they count in the release
        view alone.

    Returns:
      The line that was written.

    Raises:
      LedgerError: If the charge is not open, if nobody survived or the runtime counted more
        than were charged: the round stays charged at its worst. Or if fewer survived than
        the threshold, or the round was not as the facts claim: the line is written
        first, and from then on the claim is dropped.
    """
    _validate.at_least(0, charge=charge, survivors=survivors, top_up=top_up)
    _validate.one_of(ledger_lines.COUNTED_BY, counted_by=counted_by)
    if top_up and self.facts.top_up is None:
      raise ConfigurationError(
        f'{top_up} shares were stated to be topped up; the facts of this ledger know of no top-up. '
        "Begin a ledger with `stack['top_up']`."
      )
    if honest is not None:
      _validate.at_least(0, honest=honest)
    if charge not in self.state.open:
      raise LedgerError(
        f'Cannot settle charge {charge}: it is not open. Settle each charge once, with the number '
        'that `charge` gave.'
      )
    lowers = counted_by == 'runtime'
    kind = self.state.kind_of(charge)
    promised = self.state.honest_at_worst(kind)
    survivors, counted = counted_survivors(self.state, charge, survivors, honest, lowers=lowers)
    line = self._append(
      {
        'event': 'settle',
        'of': charge,
        'round': self.state.open[charge],
        'survivors': int(survivors),
        'survivors_counted_by': counted_by,
        'honest': int(counted),
        'updated': bool(accepted),
        'top_up': int(top_up),
        'z_eff': kind.noise_multiplier(counted),
        'rdp': kind.divergences(counted, top_up, self.state.claims) if lowers else None,
        'version': tff_privacy_agg.__version__,
      }
    )
    broken = broken_promise(self.state, kind, line, promised)
    if broken:
      raise LedgerError(broken)
    return line

  def settle_unopened(self, charge: int, *, mode: str) -> bool:
    """Takes a charge back if its session released nothing, and says whether it did.

    In a semi-honest session whose server asked no client for a share, the server has masked vectors
    only, and they tell nothing. In the authenticated mode the server is not trusted to say that it
    did not ask: the charge stays. It stays too where the ledger claims a sampling, since sessions
    that fail may change how cohorts are drawn, and in ledgers before schema 3.

    Args:
      charge: The number that `charge` returned.
      mode: The session's mode, 'semi_honest' or 'authenticated'.

    Raises:
      LedgerError: If the charge is not open.
    """
    _validate.at_least(0, charge=charge)
    if charge not in self.state.open:
      raise LedgerError(f'Charge {charge} is not open. Settle each charge once.')
    if not self.state.takes_back(charge, mode):
      return False
    self._append(
      {
        'event': 'unopened',
        'of': charge,
        'round': self.state.open[charge],
        'mode': mode,
        'version': tff_privacy_agg.__version__,
      }
    )
    return True
