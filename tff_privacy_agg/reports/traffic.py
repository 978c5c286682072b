"""Bytes that secure aggregation costs a client, next to a plain upload and the papers' figures."""

import statistics

from tff_privacy_agg import secagg
from tff_privacy_agg._wording import counted
from tff_privacy_agg.reports.markup import Html, element, section, table
from tff_privacy_agg.reports.run_files import RunFiles
from tff_privacy_agg.secagg.errors import UnsafeParameters

# Bonawitz et al., CCS 2017 (doi:10.1145/3133956.3133982): clients, 16-bit numbers, expansion.
_PUBLISHED = ((2**10, 2**20, 1.73), (2**14, 2**24, 1.98))
_FLOAT_BYTES = 4


def traffic(run: RunFiles) -> Html:
  """Bytes that a client of this run sends and receives in one round."""
  stack = None if run.ledger is None else run.ledger.facts.stack
  if run.ledger is None or stack is None or not run.ledger.facts.price.distributed:
    return section(
      'traffic', 'Bytes a client', element('p', 'This run has no integers to sum in secret.')
    )
  design, planned = stack['integer_design'], run.ledger.state.planned
  clients = int(statistics.median(planned)) if planned else int(stack['cohort']['expected'])
  sizes = [
    (int(one['integer_design']['dimension']) + len(one['channels']), one['integer_design']['bits'])
    for one in (stack, *stack.get('beside', ()))
  ]
  # What goes next to the update, such as private metrics, in numbers of the update's bits.
  bits = int(design['bits'])
  numbers = -(-sum(number * int(width) for number, width in sizes) // bits)
  plain = _FLOAT_BYTES * sum(number for number, _ in sizes)
  rows: list[tuple[object, ...]] = [('Plain upload, 32-bit floats', f'{plain:,}', '-', '1')]
  for mode in ('semi_honest', 'authenticated'):
    try:
      cost = secagg.communication_cost(clients, numbers, bits, mode=mode)
    except UnsafeParameters as error:
      rows.append((f'Protocol, {mode}', 'not possible', str(error), ''))
      continue
    up, down = sum(cost.up), sum(cost.down)
    total = element(
      'data', f'{(up + down) / plain:.2f}', id=f'expansion-{mode}', value=repr((up + down) / plain)
    )
    rows.append((f'Protocol, {mode}, {cost.k} neighbours', f'{up:,}', f'{down:,}', total))
  return section(
    'traffic',
    'Bytes a client and round',
    table(
      [
        f'{counted(clients, "client")}, '
        + ' and '.join(
          f'{counted(number, "number", spec=",")} of {counted(width, "bit")}'
          for number, width in sizes
        ),
        'sent',
        'received',
        'over plain',
      ],
      rows,
    ),
    element(
      'p',
      'Counted from the messages of the protocol without drop-outs, not measured: a simulated run '
      'sends nothing. Not counted: the model that is sent to the clients, the same in both. Short '
      'vectors pay mostly for keys and shares; long ones come near the floor, bits of the modulus '
      'over bits of a number.',
    ),
    element('h3', 'Where the papers measured'),
    table(
      [
        'Setting, 16-bit numbers',
        'published',
        "by the papers' count",
        'ours, all pairs',
        'ours, ring',
      ],
      [_published(*one) for one in _PUBLISHED],
    ),
    element(
      'p',
      'Sent and received over a plain upload of 16-bit numbers. Ours counts tags, ids and headers, '
      'which the published figures do not; the ring is for honest-but-curious servers.',
    ),
  )


def _published(clients: int, numbers: int, stated: float) -> tuple[object, ...]:
  bits = (clients * (2**16 - 1)).bit_length()
  ours = [
    secagg.communication_cost(clients, numbers, bits, graph=graph).expansion
    for graph in ('complete', 'auto')
  ]
  theirs = secagg.paper_expansion(clients, numbers)
  return (
    f'{counted(clients, "client", spec=",")}, {counted(numbers, "number", spec=",")}',
    f'{stated}',
    f'{theirs:.2f}',
    *(f'{one:.2f}' for one in ours),
  )
