"""Outputs and errors say `1 round`, not `1 rounds`."""

import ast
import pathlib
import re

import tff_privacy_agg
from tff_privacy_agg._wording import counted

PACKAGE = pathlib.Path(tff_privacy_agg.__file__).parent
SEEN = ('cli', 'learning', 'ledger', 'accounting', 'analytics', 'secagg', 'deployment')
_SEVERAL = re.compile(
  r' ((honest|charged) )?'
  r'(rounds|clients|neighbours|rows|days|lines|participations|questions)\b'
)
# What is never one there, by the source of the number.
NEVER_ONE = {
  'FEWEST_IN_A_SUM',
  '_LARGEST_COHORT',
  'clients',  # of a session, at least 3
  'column.bands',  # separations of noise that is correlated
  'facts.minimum_clients',  # above that of a session
  'honest',  # above the survivors
  'len(hashed)',  # below `planned_survivors`
  'len(self.state.digests)',
  'minimum',  # of a session
  'min_separation',
  'most_survivors',
  'parameters.clients',  # of a session
  'population',
  'self._most',  # of a session
  "spent['questions']",
}


def bare(source):
  """Numbers in f-strings of a source that stand, unformatted, before a noun in the plural."""
  for node in ast.walk(ast.parse(source)):
    if not isinstance(node, ast.JoinedStr):
      continue
    for value, text in zip(node.values, node.values[1:], strict=False):
      if not (isinstance(value, ast.FormattedValue) and isinstance(text, ast.Constant)):
        continue
      if value.format_spec is None and _SEVERAL.match(text.value):
        yield ast.unparse(value.value)


def test_what_is_counted_may_be_one():
  assert counted(1, 'round') == '1 round'
  assert counted(0, 'round') == '0 rounds'
  assert counted(2, 'canary', 'canaries') == '2 canaries'
  assert counted(12_000, 'client', spec=',') == '12,000 clients'


def test_numbers_before_a_plural_go_through_counted():
  found = {
    number: file.relative_to(PACKAGE).as_posix()
    for folder in SEEN
    for file in sorted((PACKAGE / folder).rglob('*.py'))
    for number in bare(file.read_text())
  }
  assert {number: file for number, file in found.items() if number not in NEVER_ONE} == {}


def test_of_the_test_a_bare_number_is_seen():
  assert [*bare("f'{n} rounds'"), *bare("f'{n} honest clients'")] == ['n', 'n']
  assert not [*bare("f'{n:.1f} rounds'"), *bare('f"{counted(n, \'round\')} left"')]
