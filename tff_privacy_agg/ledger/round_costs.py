"""What one round costs, in Renyi divergence, computed from the facts of a stack alone."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg.accounting import mechanisms
from tff_privacy_agg.accounting.accountant import table_orders
from tff_privacy_agg.accounting.curves import RdpCurve, sensitivity_factor
from tff_privacy_agg.accounting.design import IntegerDesign
from tff_privacy_agg.errors import ConfigurationError

DISTRIBUTED = ('discrete_gaussian', 'skellam')


class RoundCosts:
  """What one round costs, by its honest survivors.

  Args:
    stack: Facts of a bound stack.
    worst_honest: Honest ones among the fewest survivors that the runtime lets be seen.
    orders: Renyi orders; by default those that the computation keeps too.

  Attributes:
    orders: Renyi orders, float64, shape [m]. With those of the computation its metrics
      and the ledger state the same epsilon.
    distance: Total variation distance of one round's noise from its law.
    worst: RDP of a round of which only the threshold is known, shape [m].
    hopeless: RDP of a round of which nothing is known, shape [m].
  """

  def __init__(
    self, stack: Mapping[str, Any], *, worst_honest: int, orders: np.ndarray | None = None
  ):
    self._mechanism = stack['mechanism']
    _validate.one_of(('none', 'gaussian', *DISTRIBUTED), mechanism=self._mechanism)
    self._adjacency = stack['adjacency']
    sensitivity_factor(self._adjacency, distributed=self._mechanism in DISTRIBUTED)
    self._multiplier = float(stack['noise_multiplier'])
    self._maximum = int(stack['cohort']['maximum'])
    design = stack['integer_design']
    self._design = None if design is None else IntegerDesign(**design)
    self._channels = tuple(
      (int(c['resolution']), float(c['local_variance'])) for c in stack['channels']
    )
    if self._mechanism in DISTRIBUTED and self._design is None:
      raise ConfigurationError(
        f'A stack with {self._mechanism} noise has an integer design; this one has none. Pass '
        '`factory.bind(type).facts()`.'
      )
    # Further releases of the same rounds: private metrics, a second aggregator.
    self._beside = tuple(
      RoundCosts(other, worst_honest=worst_honest) for other in stack.get('beside', ())
    )
    self._hides = self.distributed and bool(stack['holds_against_server'])
    self.distance = float(stack['sampler_distance_per_round'])
    _validate.non_negative(sampler_distance_per_round=self.distance)
    self.orders = table_orders(integer_only=self._mechanism == 'skellam')
    self.orders = self.orders if orders is None else orders
    self._rows: dict[int, np.ndarray] = {}
    self.worst = self.at_least(worst_honest)
    self.hopeless = self.at_least(1)

  @property
  def distributed(self) -> bool:
    """Whether the clients add the noise."""
    return self._mechanism in DISTRIBUTED

  @property
  def holds_against_server(self) -> bool:
    """Whether the server learns nothing but a sum whose noise it does not know."""
    return self._hides and all(other.holds_against_server for other in self._beside)

  @property
  def private(self) -> bool:
    """Whether anybody adds noise."""
    return self._mechanism != 'none'

  @property
  def adjacency(self) -> str:
    """The neighbouring relation."""
    return self._adjacency

  def noise_multiplier(self, honest: int) -> float:
    """Effective noise multiplier of a round, all channels together; 0 without noise."""
    if not self.distributed:
      return self._multiplier if self.private else 0.0
    if honest < 1 or self._design is None:
      return 0.0
    parts = [self._design.z_eff(honest)]
    parts += [math.sqrt(honest * variance) / bound for bound, variance in self._channels]
    factor = sensitivity_factor(self._adjacency)
    parts += [factor * other.noise_multiplier(honest) for other in self._beside]
    if min(parts) == 0:
      return 0.0
    return 1 / math.sqrt(sum(1 / part**2 for part in parts)) / factor

  def curve(self, honest: int, *, adjacency: str | None = None) -> RdpCurve:
    """The curve of one round: vector, channels and what is released beside them.

    Args:
      honest: Shares of noise that are not known.
      adjacency: By default that of the stack.
    """
    adjacency = adjacency or self._adjacency
    if self._design is None or not self.distributed:
      # The noise multiplier of a central mechanism covers what is beside it.
      return mechanisms.gaussian(self._multiplier if self.private else 0, adjacency=adjacency)
    total = self._design.curve(honest, adjacency=adjacency)
    for bound, variance in self._channels:
      total += mechanisms.bit_channel(self._mechanism, bound, variance, honest, adjacency=adjacency)
    for other in self._beside:
      total += other.curve(honest, adjacency=adjacency)
    return total

  def row(self, honest: int) -> np.ndarray:
    """RDP of one round at the orders, shape [m]."""
    key = honest if self.distributed else 1
    if key not in self._rows:
      self._rows[key] = self.curve(key).rdp(self.orders)
    return self._rows[key]

  def at_least(self, honest: int) -> np.ndarray:
    """The most that a round with `honest` or more honest survivors can cost, shape [m]."""
    row = self.row(honest)
    if self.grows:
      rows = [self.row(more) for more in range(honest, self._maximum + 1)]
      return np.max([row, *rows], axis=0)
    return row

  @property
  def grows(self) -> bool:
    """Whether more shares may cost more: tau of narrow discrete Gaussians grows with them."""
    if self._mechanism != 'discrete_gaussian':
      return False
    variances = [variance for _, variance in self._channels]
    variances += [] if self._design is None else [self._design.local_variance]
    own = any(v > 0 and mechanisms.tau(v, self._maximum) > 0 for v in variances)
    return own or any(other.grows for other in self._beside)
