"""The tables of docs/accounting.md: each trap has a test, each formula has its code."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]


def test_every_trap_names_a_test_that_exists():
  page = (ROOT / 'docs/accounting.md').read_text(encoding='utf-8')
  rows = re.findall(r'^\| ([^|]+) \| `(tests/[^`:]+)(?:::(\w+))?` \|$', page, re.MULTILINE)
  assert len({trap for trap, _, _ in rows}) == len(rows) >= 37
  for trap, file, test in rows:
    text = (ROOT / file).read_text(encoding='utf-8')
    assert f'\ndef {test or "test_"}' in text, trap


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
