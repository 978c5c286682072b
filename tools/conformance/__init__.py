"""Checks this package's accounting against a file of reference cases.

    python -m tools.conformance FILE [--json]

Each case has a kind, inputs, expected fields and a tolerance; every expected
field is computed and compared. What is not implemented counts as a failure.
Exit code: 0 if every case passes, 1 if one does not, 2 if the file cannot be read.
"""

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tff_privacy_agg.errors import ConfigurationError, PrivacyAggError
from tools.conformance import _cases, _compare, _input_types
from tools.conformance._inputs import NotImplementedCaseError

# What a case out of all proportion may end in; one bad case does not stop the others.
_FAULTS = (
  PrivacyAggError,
  TypeError,
  ValueError,
  ArithmeticError,
  AttributeError,
  LookupError,
  MemoryError,
)
PASS, FAIL, MISSING, ERROR = 'pass', 'fail', 'not implemented', 'error'


@dataclasses.dataclass(frozen=True, kw_only=True)
class FieldResult:
  """One expected field (or claim) of a case: name, both values, verdict."""

  field: str
  computed: Any
  expected: Any
  verdict: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaseResult:
  """One case: its fields, a verdict over all of them, and a reason if it failed as a whole."""

  id: str
  kind: str
  fields: tuple[FieldResult, ...]
  verdict: str
  reason: str = ''


def load(path: str) -> list[Mapping[str, Any]]:
  """Reads the cases of a file.

  Raises:
    ConfigurationError: If the file cannot be read or is not of the format.
  """
  try:
    with open(path, encoding='utf-8') as file:
      content = json.load(file)
  except (OSError, ValueError) as error:
    raise ConfigurationError(f'{path!r} cannot be read as JSON: {error}.') from error
  cases = content.get('cases') if isinstance(content, dict) else None
  if not isinstance(cases, list) or not cases:
    raise ConfigurationError(
      f"{path!r} must hold an object with a list 'cases' that is not empty. Give a file of "
      'reference cases.'
    )
  for index, case in enumerate(cases):
    where = f'Case {index} of {path!r}'
    if not isinstance(case, dict):
      raise ConfigurationError(f'{where} must be an object, got {case!r}.')
    for key, kind in (('id', str), ('kind', str), ('inputs', dict), ('expected', dict)):
      if not isinstance(case.get(key), kind):
        name = 'an object' if kind is dict else 'a string'
        raise ConfigurationError(f'{where} needs `{key}`, {name}; got {case.get(key)!r}.')
    if not case['expected'] or not isinstance(case.get('tolerance', {}), dict):
      raise ConfigurationError(
        f'{where} ({case["id"]!r}) needs at least one expected field, and an object as its '
        '`tolerance`.'
      )
  return cases


def check(case: Mapping[str, Any]) -> CaseResult:
  """Computes and compares every expected field of a case. Raises nothing for a bad case."""
  kind, expected, tolerance = case['kind'], case['expected'], case.get('tolerance', {})
  unknown = _compare.unknown_tolerances(tolerance)
  if kind not in _cases.KINDS:
    return _failed(case, MISSING, f'kind {kind!r}')
  if unknown:
    return _failed(case, MISSING, f'tolerance {", ".join(unknown)}')
  try:
    values = _cases.KINDS[kind](_input_types.checked(case['inputs']), expected)
    fields = [_field(name, values, value, tolerance) for name, value in expected.items()]
  except NotImplementedCaseError as error:
    return _failed(case, MISSING, str(error))
  except KeyError as error:
    return _failed(case, ERROR, f'input {error} is missing')
  except ConfigurationError as error:
    return _failed(case, ERROR, str(error))
  except _FAULTS as error:
    return _failed(case, ERROR, f'{type(error).__name__}: {error}')
  fields += [
    _field(claim, values, True, tolerance) for claim in _compare.CLAIMS if tolerance.get(claim)
  ]
  verdicts = {field.verdict for field in fields}
  verdict = FAIL if FAIL in verdicts else MISSING if MISSING in verdicts else PASS
  return CaseResult(id=case['id'], kind=kind, fields=tuple(fields), verdict=verdict)


def _failed(case: Mapping[str, Any], verdict: str, reason: str) -> CaseResult:
  fields = tuple(
    FieldResult(field=name, computed=None, expected=value, verdict=verdict)
    for name, value in case['expected'].items()
  )
  return CaseResult(id=case['id'], kind=case['kind'], fields=fields, verdict=verdict, reason=reason)


def _field(
  name: str, values: Mapping[str, Any], expected: Any, tolerance: Mapping[str, Any]
) -> FieldResult:
  if name not in values:
    return FieldResult(field=name, computed=None, expected=expected, verdict=MISSING)
  computed = _compare.resolve(values[name], expected)
  matched = _compare.matches(name, computed, expected, tolerance)
  return FieldResult(
    field=name, computed=computed, expected=expected, verdict=PASS if matched else FAIL
  )


def _text(value: Any) -> str:
  if isinstance(value, float):
    return f'{value:.10g}'
  if isinstance(value, Mapping):
    return ' '.join(f'{key}:{_text(item)}' for key, item in value.items())
  if isinstance(value, list):
    return ' '.join(_text(item) for item in value)
  return '-' if value is None else str(value)


def _table(results: Sequence[CaseResult]) -> str:
  rows = [('id', 'kind', 'field', 'computed', 'expected', 'verdict')]
  for result in results:
    for field in result.fields:
      rows.append(
        (
          result.id,
          result.kind,
          field.field,
          _text(field.computed),
          _text(field.expected),
          field.verdict,
        )
      )
    if result.reason:
      rows.append((result.id, result.kind, result.reason, '', '', result.verdict))
  widths = [min(max(len(row[i]) for row in rows), 60) for i in range(6)]
  lines = [
    '  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    for row in rows
  ]
  passed = sum(result.verdict == PASS for result in results)
  return '\n'.join([*lines, f'{passed} of {len(results)} cases pass.'])


def _json(results: Sequence[CaseResult]) -> str:
  def finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
      return str(value)
    if isinstance(value, Mapping):
      return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list) else value

  cases = [
    {
      'id': result.id,
      'kind': result.kind,
      'verdict': result.verdict,
      'reason': result.reason,
      'computed': {field.field: finite(field.computed) for field in result.fields},
      'expected': {field.field: finite(field.expected) for field in result.fields},
      'fields': {field.field: field.verdict for field in result.fields},
    }
    for result in results
  ]
  passed = sum(result.verdict == PASS for result in results)
  summary = {'cases': len(results), 'passed': passed, 'failed': len(results) - passed}
  return json.dumps({'summary': summary, 'cases': cases}, indent=1, allow_nan=False)


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command and returns its exit code."""
  parser = argparse.ArgumentParser(
    prog='python -m tools.conformance',
    description='Check the privacy accounting against a file of reference cases.',
  )
  parser.add_argument('file', help='JSON file of reference cases')
  parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
  options = parser.parse_args(arguments)
  try:
    cases = load(options.file)
  except ConfigurationError as error:
    print(error, file=sys.stderr)
    return 2
  results = [check(case) for case in cases]
  print(_json(results) if options.json else _table(results))
  return 0 if all(result.verdict == PASS for result in results) else 1
