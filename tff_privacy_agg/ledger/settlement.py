"""What a settlement counts of its round, and which promises the round broke."""

from collections.abc import Mapping
from typing import Any

from tff_privacy_agg import _wording
from tff_privacy_agg.errors import LedgerError
from tff_privacy_agg.ledger.claims import release_promise
from tff_privacy_agg.ledger.costs.kinds import Kind
from tff_privacy_agg.ledger.replay import LedgerState


def counted_survivors(
  state: LedgerState, charge: int, survivors: int, honest: int | None, *, lowers: bool
) -> tuple[int, int]:
  """(survivors, honest ones) that the settlement of an open charge states.

  Args:
    state: The lines so far.
    charge: The number of the charge.
    survivors: Clients in the sum.
    honest: Of these, those whose noise the server does not know; None for what the colluding
      fraction leaves.
    lowers: Whether the runtime counted, so that the cost may fall below what was charged.

  Raises:
    LedgerError: If there are none, or more than were charged.
  """
  kind, most = state.kind_of(charge), state.most_survivors(charge)
  survivors = survivors if lowers else min(survivors, most)
  counted = kind.facts.honest(survivors)
  counted = counted if honest is None else min(counted, honest)
  counted = counted if lowers else min(counted, state.honest_at_worst(kind))
  if counted < 1 or survivors > most:
    raise LedgerError(
      f'Round {state.open[charge]} was charged for at most '
      f'{_wording.counted(most, "client")}; a settlement has 1 to {most} survivors, one of them '
      f'honest, got {survivors} survivors, {counted} of them honest. The round stays charged at '
      'its worst.'
    )
  return survivors, counted


def broken_promise(state: LedgerState, kind: Kind, line: Mapping[str, Any], promised: int) -> str:
  """What a settled round broke of what the ledger counts on, in words; empty if nothing.

  Args:
    state: The lines so far, this one included.
    kind: The kind of the round.
    line: The settlement.
    promised: Honest survivors that it was charged with.
  """
  survivors, counted, top_up = line['survivors'], line['honest'], line['top_up']
  if not state.meets_claim(survivors, top_up, line['survivors_counted_by']):
    return (
      f'The release view counts on {release_promise(state.facts)}; round {line["round"]} had '
      f'{survivors} survivors and {top_up} shares from the server. It is settled, and the claim '
      'is dropped for all rounds. Fix the runtime, or begin a ledger without the claim.'
    )
  if survivors < kind.facts.worst_survivors:
    return (
      f'Round {line["round"]} summed {_wording.counted(survivors, "client")}, but this ledger '
      f'assumes at least {kind.facts.worst_survivors} (`minimum_clients`). The round is recorded '
      f"with {survivors}. Raise the runtime's `minimum_clients`, or begin a ledger with "
      f'`minimum_clients={survivors}`.'
    )
  if line['survivors_counted_by'] == 'runtime' and counted < promised:
    return (
      f'Round {line["round"]} had {_wording.counted(counted, "honest client")}, but this ledger '
      f'counts on at least {promised} in every sum. The round is recorded with {counted}; begin '
      'a ledger with a larger `colluding_fraction`.'
    )
  return ''
