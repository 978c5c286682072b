"""Bytes on the wire, counted message by message."""

import dataclasses

from tff_privacy_agg import _validate
from tff_privacy_agg.secagg import tags, thresholds, wire
from tff_privacy_agg.secagg.layout import VERSIONS, Layout
from tff_privacy_agg.secagg.params import MODES
from tff_privacy_agg.secagg.primitives import keys, shamir

_HEADER = wire.HEADER.size


@dataclasses.dataclass(frozen=True)
class CommunicationCost:
  """Bytes of one client in a session without drop-outs, rounds 0 to 4.

  Without the broadcast of the model, and without the receipt of round 5.

  Attributes:
    k: Neighbours of each client.
    up: Bytes that the client sends in each round.
    down: Bytes that it is sent in each round.
    expansion: All of them, over a plain upload of the input.
    expansion_up: Those sent, over a plain upload of the input.
  """

  k: int
  up: tuple[int, ...]
  down: tuple[int, ...]
  expansion: float
  expansion_up: float


@_validate.plain_numbers
def communication_cost(
  n: int,
  dimension: int,
  bits: int,
  *,
  mode: str = 'semi_honest',
  graph: str = 'auto',
  colluding_fraction: float = 0.05,
  dropout_fraction: float = 0.1,
  sigma: int = 40,
  eta: int = 30,
  verify_mode: str | None = None,
  k: int | None = None,
  version: int = VERSIONS[-1],
  greater: int | None = None,
  input_bits: int = 16,
) -> CommunicationCost:
  """Counts the bytes of one leaf of `dimension` elements of `bits` bits.

  Args:
    n: Clients.
    dimension: Elements of the vector.
    bits: Bits of the modulus, enough for the sum.
    mode: 'semi_honest' or 'authenticated'.
    graph: 'complete', 'ring' or 'auto'.
    colluding_fraction: gamma.
    dropout_fraction: delta.
    sigma: Bits of privacy of the ring.
    eta: Bits of liveness of the ring.
    verify_mode: None, or 'mac'.
    k: Neighbours, instead of those that the four numbers above give.
    version: Version of the protocol, as in `SessionParams`.
    greater: Neighbours of a greater id than the client's, half of all by default. It sends them
      in round 1 what it is sent by the others in version 2.
    input_bits: Bits of one client's plain value, to which the expansion refers.

  Examples:
    >>> cost = tpa.secagg.communication_cost(100, dimension=100_000, bits=16)
    >>> cost.k, sum(cost.up), round(cost.expansion_up, 3)
    (16, 231394, 1.157)
  """
  _validate.at_least(1, n=n, dimension=dimension, bits=bits, input_bits=input_bits)
  _validate.one_of(MODES, mode=mode)
  _validate.one_of((None, 'mac'), verify_mode=verify_mode)
  _validate.one_of(VERSIONS, version=version)
  ring = k is not None and k < n - 1
  if k is None:
    found = thresholds.find_parameters(
      n,
      colluding_fraction,
      dropout_fraction,
      mode=mode,
      sigma=sigma,
      eta=eta,
      graph='complete' if verify_mode else graph,
    )
    k, ring = found.k, found.graph == 'ring'
  authenticated = mode == 'authenticated'
  signature = keys.SIGNATURE_BYTES if authenticated else 0
  layout = Layout(version, verify_mode)
  contribution, sealed = layout.contribution_bytes, layout.sealed_bytes
  if greater is None:
    greater = k // 2
  leaves = [(dimension, bits)] + [(tags.ROWS, bits)] * bool(verify_mode)
  bitmap = wire.bitmap_bytes(k)
  up = (
    _HEADER + layout.advertisement_bytes + signature,
    _HEADER + keys.KEY_BYTES + contribution + k * sealed + greater * layout.offer_bytes + signature,
    _HEADER + wire.masked_bytes(leaves) + signature,
    _HEADER + signature if authenticated else 0,
    _HEADER + bitmap + k * shamir.SHARE_BYTES,
  )
  down = (
    _HEADER
    + k * (4 + layout.advertisement_bytes + signature)
    + (keys.KEY_BYTES + 4 * n if ring and version > 1 else 0),
    _HEADER + bitmap + k * (sealed + contribution) + (k - greater) * layout.relayed_bytes,
    0,
    _HEADER + wire.bitmap_bytes(n) if authenticated else 0,
    _HEADER + ((k + 1) * (4 + signature) if authenticated else bitmap),
  )
  plain = dimension * input_bits / 8
  return CommunicationCost(k, up, down, (sum(up) + sum(down)) / plain, sum(up) / plain)


@_validate.plain_numbers
def paper_expansion(n: int, dimension: int, input_bits: int = 16) -> float:
  """The expansion as Bonawitz et al. (CCS 2017) count it.

  2 n keys and 5 n - 4 shares of 256 bits, and ceil(log2 R) bits for each element,
  R = n (2**input_bits - 1) + 1; tags, ids and headers not counted.

  Examples:
    >>> round(tpa.secagg.paper_expansion(100, 100_000), 3)
    1.549
  """
  _validate.at_least(1, n=n, dimension=dimension, input_bits=input_bits)
  element = (n * (2**input_bits - 1)).bit_length()
  total = (2 * n + 5 * n - 4) * 256 + dimension * element
  return total / (dimension * input_bits)
