"""Every test and every piece of code that a proof page names is there."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted((ROOT / 'docs' / 'proofs').glob('*.md'))
TESTS = {path.name: path.read_text(encoding='utf-8') for path in ROOT.glob('tests/**/*.py')}
ALL_TESTS = '\n'.join(TESTS.values())


def missing(text):
  """What a page names in backquotes and nobody wrote."""
  found = []
  for quoted in re.findall(r'`([^`\n]+)`', text):
    for file in re.findall(r'\btest_\w+\.py', quoted):
      if file not in TESTS:
        found.append(file)
    for name in re.findall(r'\b(test_\w+)(?!\w|\.py)', quoted):
      if f'def {name}' not in ALL_TESTS:
        found.append(name)
    module = re.fullmatch(r'((?:\w+/)+\w+)(?:\.py|\.[\w*]+)?', quoted)
    if module and not quoted.startswith('tests/'):
      places = [
        ROOT / 'tff_privacy_agg' / module[1],
        ROOT / 'tff_privacy_agg/aggregation' / module[1],
      ]
      if not any(place.with_suffix('.py').exists() or place.is_dir() for place in places):
        found.append(quoted)
  return found


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_what_a_page_names_is_there(page):
  assert missing(page.read_text(encoding='utf-8')) == []


def test_of_the_test_what_is_not_there_is_seen():
  text = '`test_proof_pages.py::test_of_nothing` `accounting/nothing.solve` `numerics/rounding` `test_no.py`'
  assert missing(text) == ['test_of_nothing', 'accounting/nothing.solve', 'test_no.py']
