"""The number of neighbours k and the threshold t, computed from the stated threat.

Adversary: the server with up to A = floor(gamma n) clients; up to D = floor(delta n)
clients drop out. Every party computes (k, t) itself; they are never negotiated.
What is decided is decided exactly, in integers; floating point only skips degrees that are far from
enough. References: Bonawitz et al., CCS 2017 (complete
graph); Bell et al., CCS 2020 (k-regular graph).
"""

import dataclasses
import functools
from math import comb, lgamma, log, perm

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg._wording import counted
from tff_privacy_agg.secagg.errors import UnsafeParameters
from tff_privacy_agg.secagg.params import MODES, SessionParams, basis_points, check_bits
from tff_privacy_agg.secagg.primitives import shamir

# Below this many clients 'auto' takes the complete graph.
SMALLEST_RING = 50
# Every client of an authenticated session verifies every other's signature.
LARGEST_AUTHENTICATED = 1024
# A ring with more neighbours has nothing on the complete graph.
LARGEST_RING_DEGREE = 2048
# What rounding can do to a logarithm of a probability, with room to spare up to 10^9 clients.
_LOG_MARGIN = 1e-2


@dataclasses.dataclass(frozen=True)
class GraphParameters:
  """The graph of a session.

  Attributes:
    graph: 'complete' or 'ring'.
    k: Neighbours of each client.
    t: Shares that open a secret.
    clients: n, the clients that advertised keys.
    colluding: Clients that may help the server.
    dropouts: Clients that may drop out.
  """

  graph: str
  k: int
  t: int
  clients: int
  colluding: int
  dropouts: int


@dataclasses.dataclass(frozen=True)
class RingParameters:
  """k of the ring, and the thresholds that are both private and live."""

  k: int
  t_min: int
  t_max: int


def _tails(n: int, marked: int, k: int) -> list[int]:
  """[C(n, k) * P[Hyp(n, marked, k) >= x] for x = 0 .. k + 1]."""
  tails = [0] * (k + 2)
  low, high = max(0, k - (n - marked)), min(k, marked)
  term = comb(marked, high) * comb(n - marked, k - high)
  for x in range(k, -1, -1):
    tails[x] = tails[x + 1]
    if low <= x <= high:
      tails[x] += term
      # Exact: the next binomial product from this one.
      term = term * x * (n - marked - k + x) // ((marked - x + 1) * (k - x + 1))
  return tails


def _connected(n: int, k: int, bad: int, sigma: int) -> bool:
  """Condition 1: no two runs of k/2 bad nodes cut the ring, up to 2**-(sigma + 1)."""
  if k > bad:
    return True
  # C(n - k, bad - k) / C(n, bad), both sides without their common factors.
  cuts = n * (n - k - 1) * perm(bad, k)
  return cuts << sigma < perm(n, k)


def _log_comb(n: int, k: int) -> float:
  return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def _log_pmf(n: int, marked: int, k: int) -> np.ndarray:
  """[log P[Hyp(n, marked, k) = x] for x = 0 .. k], in floating point."""
  low, high = max(0, k - (n - marked)), min(k, marked)
  x = np.arange(low, high, dtype=np.float64)
  steps = np.log(marked - x) + np.log(k - x) - np.log(x + 1) - np.log(n - marked - k + x + 1)
  found = np.full(k + 1, -np.inf)
  first = _log_comb(marked, low) + _log_comb(n - marked, k - low) - _log_comb(n, k)
  found[low : high + 1] = first + np.concatenate([[0.0], np.cumsum(steps)])
  return found


def _hopeless(
  n: int, colluding: int, dropouts: int, authenticated: bool, sigma: int, eta: int, k: int
) -> bool:
  """Whether the thresholds of `_thresholds` miss each other by more than rounding could hide."""
  corrupt = np.logaddexp.accumulate(_log_pmf(n, colluding, k)[::-1])[::-1]
  allowed = -log(n) - (sigma + 1) * log(2) + _LOG_MARGIN
  private = int(np.argmax(np.append(corrupt, -np.inf) <= allowed))
  t_min = (k + private - 1) // 2 + 1 if authenticated else private
  below = np.logaddexp.accumulate(_log_pmf(n, n - dropouts, k))[:-1]
  live = np.concatenate([[-np.inf], below]) <= -log(n) - eta * log(2) + _LOG_MARGIN
  return max(2, t_min) > int(np.flatnonzero(live)[-1])


def _thresholds(
  n: int, colluding: int, dropouts: int, authenticated: bool, sigma: int, eta: int, k: int
) -> tuple[int, int] | None:
  """The least private and the largest live threshold, or None if they do not meet."""
  total = comb(n, k)
  corrupt = _tails(n, colluding, k)
  private = next(x for x in range(k + 2) if n * corrupt[x] << (sigma + 1) <= total)
  # `private - 1` corrupt neighbours must be reckoned with; private itself is too unlikely.
  t_min = (k + private - 1) // 2 + 1 if authenticated else private
  t_min = max(2, t_min)
  alive = _tails(n, n - dropouts, k)
  # n P[alive < t] <= 2**-eta, and P falls with t.
  t_max = max(t for t in range(k + 1) if n * (total - alive[t]) << eta <= total)
  return (t_min, t_max) if t_min <= t_max else None


@functools.lru_cache(maxsize=512)
def ring_parameters(
  n: int, colluding: int, dropouts: int, *, authenticated: bool, sigma: int, eta: int
) -> RingParameters | None:
  """The smallest even k for which some threshold is both private and live.

  Args:
    n: Clients.
    colluding: A, clients that may help the server.
    dropouts: D, clients that may drop out.
    authenticated: Whether the server may show different clients different drop-outs.
    sigma: Privacy fails with probability at most 2**-sigma.
    eta: Liveness fails with probability at most 2**-eta.

  Returns:
    None if no k below n, and up to 2048, serves.
  """
  for k in range(2, min(n, LARGEST_RING_DEGREE + 1), 2):
    if not _connected(n, k, colluding + dropouts, sigma):
      continue
    if _hopeless(n, colluding, dropouts, authenticated, sigma, eta, k):
      continue
    found = _thresholds(n, colluding, dropouts, authenticated, sigma, eta, k)
    if found is not None:
      return RingParameters(k, *found)
  return None


def _complete(n: int, colluding: int, dropouts: int, authenticated: bool) -> GraphParameters:
  k, t = n - 1, n - dropouts - 1
  # For one victim an honest holder gives one kind of share, a corrupt one both kinds.
  withstands = 2 * t - k - 1 if authenticated else t - 1
  if authenticated and n > LARGEST_AUTHENTICATED:
    raise UnsafeParameters(
      f'{counted(n, "client")} in an authenticated session; at most {LARGEST_AUTHENTICATED} are '
      'supported. Split the cohort.'
    )
  if k >= shamir.PRIME:
    raise UnsafeParameters(
      f'{counted(n, "client")} on the complete graph; at most {shamir.PRIME} are supported, as each '
      "holder of a share needs a point of its own. Split the cohort, or use graph='ring'."
    )
  if t < 2 or colluding > withstands:
    raise UnsafeParameters(
      f'{counted(n, "client")} of which {colluding} may collude and {dropouts} drop out: a threshold '
      f'of {t} of {k} shares survives the drop-outs and withstands {max(0, withstands)} colluding '
      'clients. Admit more clients, or promise fewer drop-outs.'
    )
  return GraphParameters('complete', k, t, n, colluding, dropouts)


@_validate.plain_numbers
def find_parameters(
  n: int,
  colluding_fraction: float,
  dropout_fraction: float,
  *,
  mode: str,
  sigma: int = 40,
  eta: int = 30,
  graph: str = 'auto',
) -> GraphParameters:
  """Computes graph, k and t for `n` clients.

  Args:
    n: Clients that advertised keys.
    colluding_fraction: gamma, in [0, 1) with at most four decimals.
    dropout_fraction: delta, in [0, 1) with at most four decimals.
    mode: 'semi_honest' or 'authenticated'; the latter takes the complete graph.
    sigma: Privacy fails with probability at most 2**-sigma over the ring's order.
    eta: Liveness fails with probability at most 2**-eta over the ring's order.
    graph: 'complete', 'ring' or 'auto'.

  Raises:
    UnsafeParameters: If no k and t withstand the threat.

  Examples:
    >>> tpa.secagg.find_parameters(100, 0.05, 0.1, mode='semi_honest')
    GraphParameters(graph='ring', k=16, t=6, clients=100, colluding=5, dropouts=10)
  """
  _validate.at_least(1, n=n)
  check_bits(sigma=sigma, eta=eta)
  _validate.one_of(MODES, mode=mode)
  _validate.one_of(('complete', 'ring', 'auto'), graph=graph)
  colluding = basis_points('colluding_fraction', colluding_fraction) * n // 10_000
  dropouts = basis_points('dropout_fraction', dropout_fraction) * n // 10_000
  authenticated = mode == 'authenticated'
  if graph == 'ring' and authenticated:
    raise UnsafeParameters(
      'A ring does not protect against an active server, which can choose whom to admit until the '
      "order suits it. Use graph='complete'."
    )
  if not authenticated and (graph == 'ring' or (graph == 'auto' and n >= SMALLEST_RING)):
    ring = ring_parameters(n, colluding, dropouts, authenticated=False, sigma=sigma, eta=eta)
    if ring is not None:
      return GraphParameters('ring', ring.k, ring.t_min, n, colluding, dropouts)
    if graph == 'ring':
      raise UnsafeParameters(
        f'No ring of {counted(n, "client")} withstands {colluding} colluding and {dropouts} dropping '
        f"clients at sigma={sigma}, eta={eta}. Use graph='complete', or admit more clients."
      )
  return _complete(n, colluding, dropouts, authenticated)


def session_parameters(params: SessionParams, n: int) -> GraphParameters:
  """Graph, k and t of a session once `n` clients have advertised."""
  return find_parameters(
    n,
    params.colluding_fraction,
    params.dropout_fraction,
    mode=params.mode,
    sigma=params.sigma,
    eta=params.eta,
    graph='complete' if params.verify else params.graph,
  )
