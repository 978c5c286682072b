"""What a ledger asks of the cohort of a round before it is charged."""

from collections.abc import Iterable

from tff_privacy_agg import _validate
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.ledger.claims import participation_promise
from tff_privacy_agg.ledger.participation.register import Participants
from tff_privacy_agg.ledger.replay import LedgerState
from tff_privacy_agg.ledger.sampling_claims import Sampling


def admitted(
  state: LedgerState,
  register: Participants,
  cohort: Iterable[str] | None,
  drawn: Sampling | None,
  planned_survivors: int | None,
  round_number: int,
  position: int | None,
) -> tuple[list[str] | None, int | None]:
  """The salted hashes of a cohort, and most rounds of one client with it; None without a cohort.

  Args:
    state: The lines so far.
    register: Who took part in them.
    cohort: As for `PrivacyLedger.charge`, like the next three.
    drawn: What the sampler of the cohort did.
    planned_survivors: How many are expected to survive.
    round_number: The round.
    position: Of the round among those that share noise; None if none do.

  Raises:
    ConfigurationError: If the facts ask for a cohort and there is none.
    LedgerError: If the cohort cannot take part, or was not drawn as the facts claim.
  """
  facts = state.facts
  claim = facts.sampling if state.claims else Sampling()
  if cohort is not None:
    hashed = register.hashes(cohort)
    _validate.at_least(1, cohort_size=len(hashed))
    most = max(state.most, register.counts.check(hashed, facts.population, position))
    if planned_survivors is not None and planned_survivors > len(hashed):
      raise ConfigurationError(
        f'`planned_survivors` must be at most the {len(hashed)} clients of the cohort, got '
        f'{planned_survivors}.'
      )
    if claim.claims:
      claim.check_round(drawn, len(hashed), round_number)
      register.counts.check_practice(hashed)
    return hashed, most
  if claim.claims:
    raise ConfigurationError(
      f'The ledger claims that cohorts are drawn so: {claim.sentence}. Round {round_number} was '
      'to be charged without its cohort. Pass `cohort=` and `drawn=`, from the sampler.'
    )
  if facts.needs_cohorts:
    raise ConfigurationError(
      f'The ledger counts on {participation_promise(facts)}; a round cannot be charged without '
      'its cohort. Pass `cohort=`, the identities of its clients.'
    )
  return None, None
