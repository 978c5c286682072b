"""What the facts of a training may claim of its clients, in their ranges and words."""

import re
from typing import Any

from tff_privacy_agg import _validate
from tff_privacy_agg._wording import counted
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.ledger.notes import check_text
from tff_privacy_agg.ledger.sampling_claims import Sampling

# Words that no report of this package may use of a training.
_FORBIDDEN = re.compile(r'anonym|amplified by sampling|\bsecure(ly)?\b', re.IGNORECASE)


def check_claims(claims: Any) -> None:
  """Raises unless what facts claim of the clients, whatever the stack, is in its range.

  Args:
    claims: `LedgerFacts`, or what makes them and has the same attributes.

  Raises:
    ConfigurationError: If it is not.
  """
  _validate.at_least(1, population=claims.population)
  _validate.delta_of(claims.population, claims.delta)
  for name in ('minimum_clients', 'participation_cap'):
    if getattr(claims, name) is not None:
      _validate.at_least(1, **{name: getattr(claims, name)})
  if claims.tuning_runs is not None:
    _validate.at_least(0, tuning_runs=claims.tuning_runs)
  printable(sampling=Sampling.of(claims.sampling).text, task=claims.task)


def printable(**texts: str) -> None:
  """Raises if a text for the report uses a word that the report must not use.

  Raises:
    ConfigurationError: If it does, or is not a text.
  """
  for name, text in texts.items():
    check_text(name, text)
    found = _FORBIDDEN.search(text)
    if found:
      raise ConfigurationError(
        f'`{name}` is printed in reports and must not promise what the ledger cannot show, got '
        f'the word {found.group()!r}. Say it without that word.'
      )


def participation_promise(facts: Any) -> str:
  """How often clients are said to take part, in words; empty if nothing is said."""
  parts = [] if facts.cap is None else [f'at most {counted(facts.cap, "round")} a client']
  if facts.separation is not None:
    parts.append(f'rounds of one client at least {facts.separation} apart')
  return ' and '.join(parts)


def release_promise(facts: Any) -> str:
  """Conditions of the release view on every round, in words; empty if there are none."""
  parts = []
  if facts.top_up is not None:
    parts.append(f'noise topped up to {counted(facts.top_up, "share")}')
  if facts.sampling.cohort is not None:
    parts.append(f'cohorts of {counted(facts.sampling.cohort, "client")} who all survive')
  return ' and '.join(parts)
