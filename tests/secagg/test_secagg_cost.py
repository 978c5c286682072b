import collections
import json
import pathlib

import pytest
from secagg_sessions import params, random_inputs

from tff_privacy_agg import secagg

REFERENCE = json.loads((pathlib.Path(__file__).parent / 'secagg-reference.json').read_text())


@pytest.mark.parametrize('row', REFERENCE['our_wire_cost'], ids=str)
def test_bytes_by_round_are_those_of_the_reference_cases(row):
  cost = secagg.communication_cost(
    row['n'],
    row['d'],
    row['b'],
    mode='authenticated' if row['malicious'] else 'semi_honest',
    k=row['k'],
    version=1,
  )
  assert list(cost.up) == list(row['up_by_round'].values())
  assert list(cost.down) == list(row['down_by_round'].values())
  assert (sum(cost.up), sum(cost.down)) == (row['up'], row['down'])
  assert round(cost.expansion, 4) == row['expansion_up_down']
  assert round(cost.expansion_up, 4) == row['expansion_up']


@pytest.mark.parametrize(
  'row', REFERENCE['papers']['bonawitz_ccs2017']['communication_expansion'], ids=str
)
def test_expansion_of_the_paper(row):
  expansion = secagg.paper_expansion(row['n'], row['d'], row['input_bits'])
  assert round(expansion, 4) == row['computed']
  assert abs(expansion - row['published']) < 0.006


@pytest.mark.parametrize(
  ('mode', 'verify', 'n', 'graph'),
  [
    ('semi_honest', None, 9, 'auto'),
    ('semi_honest', 'mac', 9, 'auto'),
    ('authenticated', None, 9, 'auto'),
    ('authenticated', 'mac', 17, 'auto'),
    ('semi_honest', None, 60, 'ring'),
    ('semi_honest', 'mac', 60, 'auto'),
  ],
)
@pytest.mark.parametrize('version', [1, 2])
@pytest.mark.parametrize(
  ('dimension', 'bits'),
  [
    pytest.param(1, 1, marks=pytest.mark.slow),
    (1000, 20),
    pytest.param(64, 62, marks=pytest.mark.slow),
  ],
)
def test_messages_have_the_bytes_of_the_model(mode, verify, n, graph, dimension, bits, version):
  session_params = params(
    mode=mode,
    verify=verify,
    graph=graph,
    dropout_fraction=0.1,
    version=version,
    leaves=[secagg.Leaf('v', (dimension,), bits)],
  )
  result = secagg.run_in_memory(session_params, random_inputs(session_params, range(n)))
  seen = collections.Counter()
  for client in range(n):
    # Each client has all the others for neighbours, or a number that only its bytes tell.
    for greater in [n - 1 - client] if n < 50 or verify else range(n):
      cost = secagg.communication_cost(
        n,
        dimension,
        bits,
        mode=mode,
        graph=graph,
        verify_mode=verify,
        version=version,
        greater=greater,
      )
      if tuple(result.bytes_up[client][:5]) == cost.up:
        break
    assert tuple(result.bytes_up[client][:5]) == cost.up
    assert tuple(result.bytes_down[client][:5]) == cost.down
    seen[greater] += 1
  if version == 2:
    assert sum(greater * clients for greater, clients in seen.items()) == n * cost.k // 2


@pytest.mark.parametrize(
  ('mode', 'graph', 'limit'),
  [
    ('semi_honest', 'complete', 1.77),
    ('authenticated', 'complete', 1.83),
    ('semi_honest', 'ring', 1.64),
  ],
)
def test_the_expansion_stays_within_its_goal(mode, graph, limit):
  cost = secagg.communication_cost(
    1024, 2**20, 26, mode=mode, graph=graph, dropout_fraction=0.05, version=1
  )
  assert cost.expansion <= limit


@pytest.mark.parametrize(('graph', 'extra'), [('complete', 5821168), ('ring', 199888)])
def test_price_of_ml_kem(graph, extra):
  """Two keys of 1184 bytes; for each neighbour two more keys, two ciphertexts, half an offer each way."""
  one, two = (
    secagg.communication_cost(1024, 2**20, 26, graph=graph, dropout_fraction=0.05, version=version)
    for version in (1, 2)
  )
  added = sum(two.up) + sum(two.down) - sum(one.up) - sum(one.down)
  k = two.k
  ring = (32 + 4 * 1024) * (graph == 'ring')  # from which a client computes it
  assert added == 2368 + k * (2368 + 2 * 1088) + k // 2 * 1168 + (k - k // 2) * 1120 + ring
  assert added == extra
