"""A client's own conditions, whatever parameters it is offered."""

import dataclasses

from tff_privacy_agg import _validate
from tff_privacy_agg.secagg.errors import UnsafeParameters, WrongRound
from tff_privacy_agg.secagg.layout import VERSIONS
from tff_privacy_agg.secagg.params import SessionParams, basis_points, check_bits

# A round may be this much above the last one that a client served: a number cannot lock it out.
LARGEST_STEP = 2**20


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
  """Least values that a client accepts.

  Args:
    minimum_clients: Fewest clients whose inputs hide one another.
    colluding_fraction: Part of the clients that may help the server.
    sigma: Bits of privacy of the graph.
    authenticated: Whether only the authenticated mode is good enough.
    version: Version of the protocol; by default the newest, so that a server cannot talk a
      client down to an older one.
  """

  minimum_clients: int = 3
  colluding_fraction: float = 0.0
  sigma: int = 40
  authenticated: bool = False
  version: int = VERSIONS[-1]

  def __post_init__(self) -> None:
    _validate.at_least(3, minimum_clients=self.minimum_clients)
    check_bits(sigma=self.sigma)
    _validate.one_of(VERSIONS, version=self.version)
    basis_points('colluding_fraction', self.colluding_fraction)

  def check(self, params: SessionParams, last_round: int | None) -> None:
    """Raises unless the parameters are good enough, and their round is a new one.

    Raises:
      UnsafeParameters: If a value is below the policy's.
      WrongRound: If this client has served the round number, or a later one, before, or the
        number is more than 2**20 above its last.
    """
    for name in ('minimum_clients', 'colluding_fraction', 'sigma', 'authenticated', 'version'):
      offered, least = getattr(params, name), getattr(self, name)
      if offered < least:
        raise UnsafeParameters(
          f'The session offers {name}={offered!r}; this client asks for {least!r} or more. Change '
          'the session, or the policy.'
        )
    if last_round is None:
      return
    if params.round_number <= last_round:
      raise WrongRound(
        f'The session is round {params.round_number} of task {params.task!r}, of which this '
        f'client has served round {last_round}. Numbers must grow.'
      )
    if params.round_number > last_round + LARGEST_STEP:
      raise WrongRound(
        f'The session is round {params.round_number} of task {params.task!r}; the last that this '
        f'client served is {last_round}, and it goes at most 2**20 beyond. Restore the '
        "server's `sessions.json`, or the client's `rounds.json`."
      )
