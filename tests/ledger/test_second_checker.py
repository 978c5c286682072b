"""`tools/check_ledger.py` shares no code with the package, and gives the same epsilons."""

import ast
import contextlib
import dataclasses
import json
import math
import pathlib
import random
import subprocess
import sys

import pytest
from ledger_forge import forge
from ledger_stacks import facts

from tff_privacy_agg import accounting
from tff_privacy_agg.errors import LedgerError
from tff_privacy_agg.ledger import LedgerRecord, PrivacyLedger, Sampling, verify
from tff_privacy_agg.ledger.line_format import head_path
from tools import check_ledger

SOURCE = pathlib.Path(check_ledger.__file__)
GOLDEN = sorted(
  [
    *(pathlib.Path(__file__).parent / 'golden').glob('*.jsonl'),
    *(pathlib.Path(__file__).parents[1] / 'golden').glob('*/ledger.jsonl'),
  ]
)
DISTRIBUTED = ('discrete_gaussian', 'skellam')
CORRELATED = 'correlated_discrete_gaussian'
MECHANISMS = (*DISTRIBUTED, 'central_discrete_gaussian', CORRELATED, 'gaussian', 'none')


def random_facts(rng):
  """Facts of any mechanism, with colluders, a threshold, a cap."""
  mechanism = rng.choice(MECHANISMS)
  clients = rng.randint(8, 100)
  colluding = rng.choice([0.0, 0.0, 0.05, 0.29, 1 / 3])
  minimum = rng.randint(1, accounting.honest_survivors(clients, colluding))
  given = facts(
    mechanism,
    clients=clients,
    minimum=minimum if mechanism in DISTRIBUTED else None,
    colluding=colluding if mechanism in DISTRIBUTED else 0.0,
    z=rng.choice([0.6, 1.0, 2.75, 8.0]),
    delta=rng.choice([5e-4, 1e-6, 1e-10]),
    minimum_clients=rng.choice([None, 1, clients, rng.randint(1, clients)]),
    participation_cap=rng.choice([None, None, 3]),
    strategy=random_strategy(rng),
  )
  if rng.random() < 0.3:
    # As far from its distribution as takes a part of delta that shows.
    given = with_distance(given, rng.choice([1e-12, 1e-9, 1e-7]))
  return given


def random_strategy(rng):
  """Few bands, so that cohorts of a size find enough clients who rested."""
  coefficients = [1.0, *(rng.uniform(-0.5, 1.0) for _ in range(rng.randint(0, 2)))]
  return accounting.BandedToeplitz(
    accounting.BandedColumn.from_floats(coefficients),
    separation=len(coefficients) + rng.randint(0, 1),
    participations=rng.choice([None, 4]),
  )


def with_distance(given, distance):
  """The same facts with samplers that are further from their distributions."""
  price = given.stack.get('price') or given.price.as_dict()
  if not price['vectors']:
    return given
  first, *rest = price['vectors']
  draws = first['dimension'] * len(first.get('steps', [1]))
  vectors = [{**first, 'draw_distance': distance / draws}, *rest]
  price = accounting.RoundPrice.from_dict({**price, 'vectors': vectors})
  moved = price.distance(price.maximum)
  stack = {**given.stack, 'price': price.as_dict(), 'sampler_distance_per_round': moved}
  return dataclasses.replace(given, stack=stack)


def other_facts(rng, given):
  """Facts of other rounds that may stand in the same ledger."""
  clients = rng.randint(given.maximum, 2 * given.maximum)
  fraction = given.colluding_fraction
  return facts(
    given.stack['mechanism'],
    clients=clients,
    minimum=accounting.honest_survivors(clients, fraction) if given.price.distributed else None,
    colluding=fraction,
    z=rng.choice([1.0, 2.0, 5.0]),
    delta=given.delta,
    minimum_clients=rng.choice([None, rng.randint(1, clients)]),
    task='others',
  )


def write_random(path, rng):
  """A ledger of up to 14 rounds: settled by either count, open, taken back, cut off."""
  given = random_facts(rng)
  kinds = [given]
  if not given.needs_cohorts and given.price.private and rng.random() < 0.4:
    kinds.append(other_facts(rng, given))
  names = [f'client {number}' for number in range(given.population)]
  ledger = PrivacyLedger(path, given)
  for number in range(rng.randint(0, 14)):
    kind = rng.choice(kinds)
    size = rng.randint(kind.minimum_clients or 1, kind.maximum)
    cohort = rng.sample(names, size) if given.needs_cohorts or rng.random() < 0.3 else None
    if given.separation is not None:
      if ledger.must_restart(number) or rng.random() < 0.1:
        ledger.restart_noise()
      rested = ledger.eligible(names)
      if not rested:
        break
      cohort = rng.sample(rested, min(size, len(rested)))
    try:
      charge = ledger.charge(number, cohort=cohort, facts=None if kind is given else kind)
    except LedgerError:  # the cap is reached
      break
    end = rng.random()
    if end < 0.1:
      continue
    if end < 0.2:
      ledger.settle_unopened(charge, mode='semi_honest')
      continue
    size = kind.maximum if cohort is None else size
    least = 1 if rng.random() < 0.1 else min(kind.minimum_clients or 1, size)
    survivors = rng.randint(least, size)
    honest = kind.honest(survivors)
    known = rng.choice([None, None, rng.randint(max(1, honest - 5), honest)])
    with contextlib.suppress(LedgerError):  # the threshold is broken, and that is written
      ledger.settle(
        charge,
        survivors=survivors,
        counted_by=rng.choice(['runtime', 'runtime', 'clients']),
        honest=known,
      )
    if rng.random() < 0.1:
      ledger.close()
      path.write_bytes(path.read_bytes()[: -rng.randint(2, 60)])
      ledger = PrivacyLedger(path)
  ledger.close()
  if rng.random() < 0.1 and path.read_bytes().count(b'\n') > 1:
    path.write_bytes(path.read_bytes()[: -rng.randint(2, 60)])


def differences(path):
  """What the checker finds: contradictions, and totals that differ."""
  problems, _, views = check_ledger.check(path)
  return problems + [sentence for _, differ in views.values() for sentence in differ]


def assert_agree(path):
  """Both checkers accept a ledger, with the same epsilons."""
  problems = verify(path).problems
  assert not problems
  assert not differences(path)
  record = LedgerRecord.read(path)
  _, _, views = check_ledger.check(path)
  for view, (value, _) in views.items():
    assert math.isclose(value, record.epsilon(view), rel_tol=1e-9), view


@pytest.mark.parametrize(
  'seed', [*range(20), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(20, 200))]
)
def test_random_ledgers_verify_alike_in_both_checkers(tmp_path, seed):
  path = tmp_path / 'ledger.jsonl'
  write_random(path, random.Random(seed))
  assert_agree(path)


@pytest.mark.parametrize('path', GOLDEN, ids=lambda path: f'{path.parent.name}-{path.stem}')
def test_golden_ledgers_verify_alike_in_both_checkers(path):
  """Those of schema 1 and 2 have their chain checked, and that is said."""
  problems, remarks, views = check_ledger.check(path)
  assert not problems
  if json.loads(path.read_bytes().splitlines()[0])['schema'] < 3:
    assert (remarks, views) == ([check_ledger.EARLIER], {})
  else:
    assert_agree(path)


@pytest.mark.parametrize('share', [1.0, 1.5, 4.0])
@pytest.mark.parametrize('adjacency', ['zero_out', 'replace_one'])
@pytest.mark.parametrize('t_squared', [None, 0.5])
def test_narrow_shares_cost_alike_in_both_checkers(share, adjacency, t_squared):
  """More of them can cost more, so every number of shares is looked at."""
  vector = accounting.NoisyVector(
    name='update',
    dimension=10**6,
    l2_squared=9,
    l1=9.0,
    local_variance=share,
    t_squared=t_squared,
    draw_distance=1e-13,
  )
  price = accounting.RoundPrice(
    mechanism='discrete_gaussian',
    adjacency=adjacency,
    holds_against_server=True,
    minimum=10,
    maximum=30,
    vectors=(vector,),
  )
  stack = {'price': price.as_dict(), 'cohort': {'colluding_fraction': 0.0}}
  kind = check_ledger.Kind({'stack': stack, 'minimum_clients': 10})
  account = accounting.account_of(price)
  assert (kind.orders() is None) == isinstance(account, accounting.GaussianAccount)
  renyi = accounting.RenyiAccount(accounting.table_orders(integer_only=False))
  orders = tuple(renyi.orders.tolist())
  expected = renyi.worst(price, 10)
  assert kind.cost(10, 30, orders) == pytest.approx(expected.tolist(), rel=1e-9)
  found = check_ledger.epsilon(kind.cost(12, 12, orders), orders, 1e-6, price.distance(12))
  assert found == pytest.approx(renyi.epsilon(renyi.row(price, 12), 1e-6, price.distance(12))[0])


@pytest.fixture
def path(tmp_path):
  """Three settled rounds and an open one."""
  with PrivacyLedger(tmp_path / 'ledger.jsonl', facts()) as ledger:
    for number in range(4):
      charge = ledger.charge(number)
      if number < 3:
        ledger.settle(charge, survivors=90 + number, counted_by='runtime')
  assert_agree(tmp_path / 'ledger.jsonl')
  return tmp_path / 'ledger.jsonl'


def at(seq, change):
  """An edit of one line."""
  return lambda record: change(record) if record['seq'] == seq else None


def lower(record):
  record['total'] = {view: value * 0.999999 for view, value in record['total'].items()}


def more_survivors(record):
  record.update(survivors=100, honest=100)


def fewer_honest(record):
  record['honest_at_worst'] = 81


def less_slack(record):
  record['facts']['stack']['price']['vectors'][0]['t_squared'] = 0.75


def more_noise(record):
  record['facts']['stack']['price']['vectors'][0]['local_variance'] *= 1.001


def by_nobody(record):
  record['survivors_counted_by'] = 'clients'


def more_than_asked(record):
  record.update(survivors=101)


@pytest.mark.parametrize(
  ('seq', 'change'),
  [
    (6, lower),
    (7, lower),
    (2, more_survivors),
    (2, more_than_asked),
    (2, by_nobody),
    (1, fewer_honest),
    (0, less_slack),
    (0, more_noise),
    (1, lambda record: record.pop('total')),
    (3, lambda record: record.update(event='note')),
    (0, lambda record: record['accounts'].update(server='renyi')),
    (0, lambda record: record['facts']['stack'].update(mechanism='skellam')),
  ],
)
def test_forgeries_with_a_chain_that_holds_are_noticed(path, seq, change):
  forge(path, at(seq, change))
  assert differences(path)
  assert check_ledger.main([str(path)]) == 1


def test_a_charge_that_was_taken_out_is_noticed(path):
  """Sealed anew, with the numbers of all lines after it."""
  lines = [json.loads(line) for line in path.read_bytes().splitlines()]
  del lines[7]  # the open charge; the totals after it would be lower
  del lines[1:3]  # and a settled round
  shift = {line['seq']: number for number, line in enumerate(lines)}
  for line in lines:
    line['of'] = shift.get(line.get('of'))
    line['seq'] = shift[line['seq']]
  path.write_bytes(b'\n'.join(json.dumps(line).encode() for line in lines) + b'\n')
  forge(path, lambda record: record.pop('of') if record['of'] is None else None)
  problems, _, views = check_ledger.check(path)
  assert not problems
  assert all('its rounds give' in differ[0] for _, differ in views.values())


def test_a_changed_line_and_a_shorter_file_are_noticed(path):
  whole = path.read_bytes()
  path.write_bytes(whole.replace(b'"survivors":91', b'"survivors":99'))
  assert any('changed' in one for one in differences(path))
  path.write_bytes(b'\n'.join(whole.splitlines()[:-2]) + b'\n')
  assert any('.head' in one for one in differences(path))
  head_path(path).unlink()
  assert not differences(path)  # what follows from nothing else in the file


@pytest.mark.parametrize(
  'claim', [Sampling(), Sampling(kind='without_replacement', population=200, cohort=100)]
)
def test_claimed_sampling_and_top_ups_are_left_out_by_name(tmp_path, capsys, claim):
  path = tmp_path / 'ledger.jsonl'
  top_up = {} if claim.claims else {'top_up': 120}
  given = facts(minimum_clients=100, sampling=claim)
  given = dataclasses.replace(given, stack={**given.stack, **top_up})
  names = [f'client {number}' for number in range(200)]
  with PrivacyLedger(path, given) as ledger:
    charge = ledger.charge(0, cohort=names[:100], drawn=claim if claim.claims else None)
    ledger.settle(
      charge, survivors=100, counted_by='runtime', **({} if claim.claims else {'top_up': 20})
    )
    epsilon = ledger.epsilon('server')
  assert verify(path).ok
  assert check_ledger.main([str(path)]) == 0
  printed = capsys.readouterr().out.splitlines()
  assert printed == [f'server: epsilon {epsilon:.10g}, agrees', check_ledger.CLAIMED]


def test_the_command_says_whether_a_ledger_agrees(path, tmp_path):
  def run(*arguments):
    command = [sys.executable, str(SOURCE), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)

  found = run(path)
  epsilon = LedgerRecord.read(path).epsilon('server')
  assert found.returncode == 0
  assert found.stdout.splitlines()[0] == f'server: epsilon {epsilon:.10g}, agrees'
  forge(path, at(7, lower))
  found = run(path)
  assert (found.returncode, 'line 8 states' in found.stdout) == (1, True)
  (tmp_path / 'other').write_text('not a ledger')
  for wrong in ((), (tmp_path / 'other',), (tmp_path / 'none',), (path, path)):
    found = run(*wrong)
    assert (found.returncode, found.stdout) == (2, '')
    assert 'Traceback' not in found.stderr


def test_a_reviewer_reads_it_in_one_sitting():
  text = SOURCE.read_text()
  assert len(text.splitlines()) <= 325
  imported = {
    name.split('.')[0]
    for node in ast.walk(ast.parse(text))
    for name in (
      [one.name for one in node.names]
      if isinstance(node, ast.Import)
      else [node.module]
      if isinstance(node, ast.ImportFrom)
      else []
    )
  }
  assert imported <= {*sys.stdlib_module_names, 'mpmath'}
