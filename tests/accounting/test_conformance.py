"""The conformance command: it passes on the reference, and can fail."""

import copy
import json
import math
import pathlib
import random
import subprocess
import sys

import pytest

from tools import conformance
from tools.conformance import _cases

REFERENCE = pathlib.Path(__file__).with_name('dp-reference.json')
TIGHT = pathlib.Path(__file__).with_name('tight-reference.json')
CASES = conformance.load(str(REFERENCE))
TIGHT_CASES = conformance.load(str(TIGHT))
IDS = [case['id'] for case in CASES]


def write(path, cases):
  path.write_text(json.dumps({'cases': cases}))
  return str(path)


@pytest.mark.parametrize('case', CASES, ids=IDS)
def test_every_reference_case_passes(case):
  result = conformance.check(case)
  assert result.verdict == 'pass', result
  assert {field.field for field in result.fields} >= set(case['expected'])


def test_every_kind_of_the_reference_is_implemented_and_no_other():
  assert set(_cases.KINDS) == {case['kind'] for case in (*CASES, *TIGHT_CASES)}


@pytest.mark.parametrize('case', TIGHT_CASES, ids=[case['id'] for case in TIGHT_CASES])
def test_a_tight_case_passes_and_falls_short_of_a_bound_that_is_moved(case):
  assert conformance.check(case).verdict == 'pass'
  for field, factor in (
    ('mu', 1.003),  # the file's tolerance is 0.002
    ('epsilon_of_the_continuous_gaussian', 1.003),
    ('epsilon_by_the_reduction', 0.5),
    ('epsilon_at_least', 2.0),
    ('epsilon_exact_lower_bound', 1.1),
  ):
    free = case['expected'].get('epsilon_at_least') == 0  # integers that do not move: epsilon is 0
    if case['expected'].get(field) and not (free and field == 'epsilon_by_the_reduction'):
      moved = copy.deepcopy(case)
      moved['expected'][field] *= factor
      moved['tolerance'].pop('epsilon_at_most', None)
      assert conformance.check(moved).verdict == 'fail', field


def _leaves(value, path=()):
  if isinstance(value, dict | list):
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
      yield from _leaves(item, (*path, key))
  else:
    yield path, value


def _spoiled(value):
  if isinstance(value, bool):
    return not value
  return value + 1 if isinstance(value, int) else value * 1.03 + (0.001 if value == 0 else 0)


# What dp_accounting computes is slow: these cases are spoiled once, not field by field.
_SLOW = ('poisson_gaussian', 'oracle_skellam_flat_pld', 'wor_gaussian')
_QUICK = [case for case in CASES if case['kind'] not in _SLOW]


@pytest.mark.parametrize('case', _QUICK, ids=[case['id'] for case in _QUICK])
def test_every_expected_number_can_fail(case):
  for path, value in _leaves(case['expected']):
    spoiled = copy.deepcopy(case)
    place = spoiled['expected']
    for key in path[:-1]:
      place = place[key]
    place[path[-1]] = _spoiled(value)
    assert conformance.check(spoiled).verdict == 'fail', path


@pytest.mark.parametrize(
  ('kind', 'field'),
  [
    ('poisson_gaussian', 'epsilon_pld'),
    ('poisson_gaussian', 'epsilon_rdp'),
    ('oracle_skellam_flat_pld', 'epsilon_pld'),
    ('oracle_skellam_flat_pld', 'epsilon_rdp_bound'),
    ('wor_gaussian', 'epsilon_general_bound'),
  ],
)
def test_a_wrong_number_of_the_slow_cases_fails(kind, field):
  case = copy.deepcopy(next(case for case in CASES if case['kind'] == kind))
  case['expected'] = {field: 1.03 * case['expected'][field]}
  assert conformance.check(case).verdict == 'fail'


def changed(identity, expected=None, tolerance=None, **inputs):
  case = copy.deepcopy(next(case for case in CASES if case['id'] == identity))
  case['inputs'] |= inputs
  if expected is not None:
    case['expected'] = expected
  if tolerance is not None:
    case['tolerance'] = tolerance
  return case


def computed(case):
  result = conformance.check(case)
  assert not result.reason, result
  return {field.field: field.computed for field in result.fields}


@pytest.mark.parametrize('identity', IDS)
def test_unknown_expected_fields_are_not_passed(identity):
  result = conformance.check(changed(identity, expected={'nonsense': 1.0}, tolerance={}))
  assert result.verdict == 'not implemented'


@pytest.mark.parametrize(
  ('case', 'reason'),
  [
    ({**CASES[0], 'kind': 'astrology'}, 'astrology'),
    (changed('ddp-01', mechanism='laplace'), 'laplace'),
    (changed('ddp-01', rotation='qr'), 'qr'),
    (changed('ddp-01', sampling='poisson'), 'poisson'),
    (changed('pois-01', orders='all of them'), 'all of them'),
    (changed('tree-01', adjacency='replace_one'), 'replace_one'),
    (changed('short-01', honest_rule='k'), 'honest_rule'),
    (changed('ddp-01', tolerance={'epsilon_ulp': 3}), 'epsilon_ulp'),
  ],
  ids=str,
)
def test_what_is_not_implemented_fails_and_says_so(case, reason):
  result = conformance.check(case)
  assert result.verdict == 'not implemented'
  assert reason in result.reason


def test_bad_inputs_fail_with_a_reason():
  case = changed('ddp-01')
  del case['inputs']['bits']
  assert "'bits'" in conformance.check(case).reason
  assert 'overflow' in conformance.check(changed('ddp-01', bits=2)).reason
  assert 'zero_out' in conformance.check(changed('ddp-01', adjacency='add_or_remove_one')).reason
  assert conformance.check(changed('ddp-01', delta='small')).verdict == 'error'


_ODD = (None, 'x', '', [], {}, -1, 0, 1, 2, 0.5, 1e-9, 1e9, 1e308, math.nan, math.inf, True)
_ODD += (10**30, 'ln 10', 'integers 9..2', 'poisson', 'replace_one', [1.5, 2], ['a'])
# Valid where they are large, and slow.
_COUNTS = ('rounds', 'num_clients', 'total_steps', 'max_participation', 'sampled', 'dim')


@pytest.mark.filterwarnings('ignore:overflow encountered')  # a curve that is infinite
@pytest.mark.parametrize('kind', sorted({case['kind'] for case in _QUICK}))
def test_odd_inputs_are_named_and_raise_nothing(kind):
  chance = random.Random(kind)
  cases = [case for case in _QUICK if case['kind'] == kind]
  for _ in range(40):
    case = copy.deepcopy(chance.choice(cases))
    name = chance.choice(sorted(case['inputs']))
    odd = chance.choice(_ODD)
    if name in _COUNTS and isinstance(odd, float | int) and odd > 100:
      odd = 100
    case['inputs'][name] = odd
    result = conformance.check(case)
    assert 'TypeError' not in result.reason, (name, odd)
    assert 'AttributeError' not in result.reason, (name, odd)
    assert result.verdict != 'error' or len(result.reason) > 15


@pytest.mark.parametrize(
  ('change', 'named'),
  [
    ({'bits': '20'}, '`bits` must be an integer'),
    ({'rounds': 1.5}, '`rounds` must be an integer'),
    ({'clip': math.nan}, '`clip` must be a finite number'),
    ({'clip': -1.0}, '`clip` must be at least 0'),
    ({'mechanism': 3}, '`mechanism` must be a string'),
    ({'orders': []}, '`orders` must be a list of numbers'),
    ({'orders': 'integers 9..2'}, '`orders` must begin below'),
  ],
  ids=str,
)
def test_a_wrong_input_is_named(change, named):
  assert named in conformance.check(changed('ddp-01', **change)).reason


def test_out_of_all_proportion_is_an_error_and_not_the_end():
  reason = conformance.check(changed('oracle-01', shift=10**9)).reason
  assert 'An exact divergence was asked' in reason
  whole = computed(changed('ddp-01', expected={'padded_dim': 0}, dim=1e6))
  assert whole['padded_dim'] == 2**20


def test_other_cases_of_the_same_kinds():
  fields = {'epsilon': 0.0, 'padded_dim': 0, 'tau': 0.0, 'rdp_one_round': {'1.5': 0.0}}
  other = computed(changed('ddp-01', expected=fields, mechanism='ddgauss', rotation='dft', dim=999))
  assert other['padded_dim'] == 1000
  assert set(other['rdp_one_round']) == {'1.5'}
  assert computed(changed('ddp-01', expected={'padded_dim': 0}, dim=1))['padded_dim'] == 1
  infinite = changed('ddp-01', expected={'epsilon': math.inf}, honest_survivors=0)
  assert conformance.check(infinite).verdict == 'pass'
  zero_out = computed(changed('ddp-05', expected={'epsilon': 0.0}))['epsilon']
  replace = computed(changed('ddp-05', expected={'epsilon': 0.0}, adjacency='replace_one'))
  assert replace['epsilon'] > 2 * zero_out
  for mechanism in ('ddgauss', 'gaussian', 'skellam'):
    sampled = changed('pois-04', expected={'epsilon': 0.0}, mechanism=mechanism)
    assert computed(sampled)['epsilon'] == pytest.approx(2.2461, rel=2e-3)
    replaced = changed('wor-03', expected={'epsilon': 0.0}, mechanism=mechanism)
    assert computed(replaced)['epsilon'] == pytest.approx(0.4153, rel=2e-3)
  quiet = changed(
      'adapt-04', expected={'rdp_zero_bit': {'2': 0.0}, 'epsilon_total': 0.0},
      zero_count_stddev=None, mechanism='ddgauss',
  )  # fmt: skip
  assert computed(quiet)['rdp_zero_bit'] == {'2': 0.0}
  split = changed('adapt-01', zero_count_stddev=5.0, expected={'value_noise_multiplier': 0.0})
  assert computed(split)['value_noise_multiplier'] == pytest.approx(0.98**-0.5)
  impossible = changed(
    'adapt-01', expected={'feasible': False, 'value_noise_multiplier': None}, clip_count_stddev=0.4
  )
  assert conformance.check(impossible).verdict == 'pass'
  unreachable = changed(
    'calib-01', expected={'feasible': False, 'noise_multiplier': None}, tolerance={}, bits=9
  )
  assert conformance.check(unreachable).verdict == 'pass'
  banded = changed('band-01', bands=4, min_separation=3)
  assert 'overlap' in conformance.check(banded).reason
  column = changed('band-01', expected={'mu': 0.0}, bands=2, min_separation=2, column=[1.0, -0.75])
  assert computed(column)['mu'] == pytest.approx(1.25 * 5**0.5 / 4)
  longer = changed('band-01', bands=2, min_separation=2, column=[1.0, -0.75, 0.5])
  assert '`column` has 3' in conformance.check(longer).reason
  odd = changed('band-01', bands=2, min_separation=2, column=[1.0, 'x'])
  assert '`column` must be' in conformance.check(odd).reason
  rule = 'participations at steps x<y need y-x >= min_separation'
  assert computed(changed('tree-03', min_separation=4, min_separation_rule=rule)) == computed(
    changed('tree-03')
  )
  unknown = changed('tree-03', min_separation_rule='in between')
  assert 'min_separation_rule' in conformance.check(unknown).reason
  double = changed('gauss-01', expected={'mu': 0.0}, adjacency='replace_one')
  assert computed(double)['mu'] == 2.0


def test_claims_are_checked():
  elsewhere = changed('ddp-01', expected={'padded_dim': 1048576})
  elsewhere['tolerance']['exact_must_not_exceed_bound'] = True
  assert conformance.check(elsewhere).verdict == 'not implemented'
  claim = changed('oracle-01')
  fields = {field.field: field.verdict for field in conformance.check(claim).fields}
  assert fields['exact_must_not_exceed_bound'] == 'pass'


def test_the_command_counts_cases_and_fails_on_a_wrong_one(tmp_path, capsys):
  quick = [case for case in CASES if case['id'] in ('ddp-01', 'gauss-01', 'joint-02')]
  assert conformance.main([write(tmp_path / 'good.json', quick)]) == 0
  out = capsys.readouterr().out
  assert 'ddp-01' in out
  assert '3 of 3 cases pass.' in out
  bad = [*quick, changed('ddp-02', expected={'epsilon': 5.22}), {**quick[0], 'kind': 'astrology'}]
  assert conformance.main([write(tmp_path / 'bad.json', bad), '--json']) == 1
  report = json.loads(capsys.readouterr().out)
  assert report['summary'] == {'cases': 5, 'passed': 3, 'failed': 2}
  assert [case['verdict'] for case in report['cases']][3:] == ['fail', 'not implemented']
  assert report['cases'][3]['computed']['epsilon'] == pytest.approx(19.0478839527)


@pytest.mark.parametrize(
  'content',
  [
    'not json',
    '[]',
    '{}',
    '{"cases": []}',
    '{"cases": [3]}',
    '{"cases": [{"id": "a", "kind": "gaussian", "inputs": {}}]}',
    '{"cases": [{"id": "a", "kind": "gaussian", "inputs": {}, "expected": {}}]}',
    '{"cases": [{"id": "a", "kind": 3, "inputs": {}, "expected": {"mu": 1}}]}',
  ],
)
def test_a_malformed_file_is_a_clear_error(tmp_path, capsys, content):
  path = tmp_path / 'bad.json'
  path.write_text(content)
  assert conformance.main([str(path)]) == 2
  captured = capsys.readouterr()
  assert 'bad.json' in captured.err
  assert not captured.out


def test_a_missing_file_is_a_clear_error(tmp_path, capsys):
  assert conformance.main([str(tmp_path / 'none.json')]) == 2
  assert 'none.json' in capsys.readouterr().err


def test_the_module_runs_as_a_program(tmp_path):
  path = write(tmp_path / 'one.json', [CASES[0]])
  command = [sys.executable, '-m', 'tools.conformance', path]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  assert '1 of 1 cases pass.' in done.stdout
