"""Limits that every secure sum keeps, next to what a ledger counts on."""

import dataclasses
import math

from tff_privacy_agg import accounting
from tff_privacy_agg._tff import compat
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.ledger import LedgerFacts

_STEPS = 10_000  # of the fractions of a session


@dataclasses.dataclass(frozen=True, kw_only=True)
class SessionLimits:
  """Limits that the runtime keeps in every secure sum.

  Attributes:
    minimum_clients: Fewest clients in a sum that is opened.
    maximum_clients: Most clients of a round; None if that is not known beforehand.
    colluding_fraction: At most this part of a round's clients helps the server.
    dropout_fraction: A sum stands if at most this part of a round's clients drops out.
  """

  minimum_clients: int
  maximum_clients: int | None
  colluding_fraction: float
  dropout_fraction: float = 0.0


def running_limits(clients: int | None) -> SessionLimits | None:
  """The limits of the sums of the current TFF context; None for simulated sums, which have none.

  Args:
    clients: Most clients of a round; None if that is not known.
  """
  session = getattr(compat.running_context(), 'session', None)
  if session is None:
    return None
  return SessionLimits(
    minimum_clients=session['minimum_clients'],
    maximum_clients=clients,
    colluding_fraction=session['colluding_fraction'],
    dropout_fraction=session['dropout_fraction'],
  )


def check_limits(facts: LedgerFacts, limits: SessionLimits | None) -> None:
  """Raises unless secure sums keep what a ledger counts on.

  A session's colluding fraction is one of its clients, the ledger's one of the survivors, and
  colluders do not drop out: all of them may be among the fewest survivors.

  Args:
    facts: What the ledger rests on.
    limits: What every sum keeps; None for simulated sums, which have no limits.

  Raises:
    ConfigurationError: If the ledger counts on more clients, or on more honest ones.
  """
  if limits is None:
    return
  fewest = limits.minimum_clients
  if facts.minimum_clients is not None and facts.minimum_clients > fewest:
    raise ConfigurationError(
      f'The ledger counts on sums of at least {facts.minimum_clients} clients (`minimum_clients` '
      f'of the accounting); a session opens sums of {fewest}. Raise `minimum_clients` of the '
      'session, or lower that of the accounting.'
    )
  clients = limits.maximum_clients or facts.maximum
  if clients > facts.maximum:
    raise ConfigurationError(
      f"A session has up to {clients} clients; the ledger's stack admits at most {facts.maximum}. "
      'Set `clients_per_round` to no more, or raise `Cohort.maximum`.'
    )
  colluders = clients - accounting.honest_survivors(clients, limits.colluding_fraction)
  # Of fewer survivors only one is honest for sure; of more, the ledger counts on no more colluders.
  survivors = min(max(fewest, colluders + 1), clients)
  if facts.honest(survivors) > max(survivors - colluders, 1):
    needed = math.ceil(_STEPS * min(colluders / survivors, 0.9999)) / _STEPS
    raise ConfigurationError(
      f'A session assumes that {colluders} of {clients} clients collude, all of whom may be in a '
      f'sum of {survivors} when others drop out; the ledger counts {facts.honest(survivors)} '
      f'honest ones there. Raise `minimum_clients`, or `Cohort.colluding_fraction` to {needed:g}.'
    )
