"""What a client insists on, whatever parameters it is offered."""

import dataclasses

from tff_privacy_agg import _validate
from tff_privacy_agg.secagg.errors import UnsafeParameters, WrongRound
from tff_privacy_agg.secagg.layout import VERSIONS
from tff_privacy_agg.secagg.params import SessionParams, basis_points


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

  def __post_init__(self):
    _validate.at_least(3, minimum_clients=self.minimum_clients)
    _validate.at_least(1, sigma=self.sigma)
    _validate.one_of(VERSIONS, version=self.version)
    basis_points('colluding_fraction', self.colluding_fraction)

  def check(self, params: SessionParams, last_round: int | None) -> None:
    """Raises unless the parameters are good enough, and their round is a new one.

    Raises:
      UnsafeParameters: If a value is below the policy's.
      WrongRound: If this client has served the round number, or a later one, before.
    """
    for name in ('minimum_clients', 'colluding_fraction', 'sigma', 'authenticated', 'version'):
      offered, least = getattr(params, name), getattr(self, name)
      if offered < least:
        raise UnsafeParameters(
          f'The session offers {name}={offered!r}; this client asks for {least!r} or more. Change '
          'the session, or the policy.'
        )
    if last_round is not None and params.round_number <= last_round:
      raise WrongRound(
        f'The session is round {params.round_number} of task {params.task!r}, of which this '
        f'client has served round {last_round}. Numbers must grow.'
      )
