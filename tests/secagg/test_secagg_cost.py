import json
import pathlib

import pytest
from secagg_sessions import params, random_inputs

from tff_privacy_agg import secagg

REFERENCE = json.loads((pathlib.Path(__file__).parent / 'secagg-reference.json').read_text())


@pytest.mark.parametrize('row', REFERENCE['our_wire_cost'], ids=str)
def test_reference_bytes(row):
  cost = secagg.communication_cost(
    row['n'],
    row['d'],
    row['b'],
    mode='authenticated' if row['malicious'] else 'semi_honest',
    k=row['k'],
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
@pytest.mark.parametrize(('dimension', 'bits'), [(1, 1), (1000, 20), (64, 62)])
def test_messages_have_the_bytes_of_the_model(mode, verify, n, graph, dimension, bits):
  session_params = params(
    mode=mode,
    verify=verify,
    graph=graph,
    dropout_fraction=0.1,
    leaves=[secagg.Leaf('v', (dimension,), bits)],
  )
  result = secagg.run_in_memory(session_params, random_inputs(session_params, range(n)))
  cost = secagg.communication_cost(n, dimension, bits, mode=mode, graph=graph, verify_mode=verify)
  for client in range(n):
    assert tuple(result.bytes_up[client][:5]) == cost.up
    assert tuple(result.bytes_down[client][:5]) == cost.down


@pytest.mark.parametrize(
  ('mode', 'graph', 'limit'),
  [
    ('semi_honest', 'complete', 1.77),
    ('authenticated', 'complete', 1.83),
    ('semi_honest', 'ring', 1.64),
  ],
)
def test_goals(mode, graph, limit):
  cost = secagg.communication_cost(1024, 2**20, 26, mode=mode, graph=graph, dropout_fraction=0.05)
  assert cost.expansion <= limit
