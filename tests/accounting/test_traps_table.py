"""Each trap of the specification has its row in docs/accounting.md, and its test is there."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]


def test_every_trap_names_a_test_that_exists():
  page = (ROOT / 'docs/accounting.md').read_text(encoding='utf-8')
  rows = re.findall(r'^\| (\d+) \| [^|]+ \| `([^`:]+)(?:::(\w+))?` \|$', page, re.MULTILINE)
  assert [int(number) for number, _, _ in rows] == list(range(1, 38))
  for number, file, test in rows:
    text = (ROOT / file).read_text(encoding='utf-8')
    assert f'\ndef {test or "test_"}' in text, number


def test_every_formula_names_code_that_exists():
  page = (ROOT / 'docs/accounting.md').read_text(encoding='utf-8')
  table = page.split('## Formulas')[1].split('## Adjacency')[0]
  named = [
    name
    for row in table.splitlines()
    if row.startswith('| ') and not row.startswith('| what')
    for name in re.findall(r'`([^`]+)`', row.rsplit('|', 2)[1])
  ]
  assert len(named) > 15
  for name in named:
    module, *attributes = name.split('.')
    file = module if '/' in module else f'accounting/{module}'
    text = (ROOT / f'tff_privacy_agg/{file}.py').read_text(encoding='utf-8')
    for attribute in attributes:
      assert re.search(rf'(def|class) {attribute}\b', text), name
