"""The site of the documents, as `make docs` has built it."""

import inspect
import json
import os
import pathlib
import re
import zlib

import pytest

import tff_privacy_agg as tpa

pytestmark = pytest.mark.documents
ROOT = pathlib.Path(__file__).parents[1]
SITE = ROOT / 'site'
# What a browser fetches by itself, with the address.
FETCHED = re.compile(r'<(?:script|img|link(?! rel="canonical"))\b[^>]*?(?:src|href)="([^"]*)"')


@pytest.fixture(autouse=True, scope='module')
def _built():
  if not (SITE / 'objects.inv').exists():
    if os.environ.get('CI') == 'true':
      pytest.fail('CI is to check the site, and there is none: run `make docs` first.')
    pytest.skip('there is no site here: run `make docs`')


def inventory():
  """Names that the site documents, each with the page and anchor."""
  packed = (SITE / 'objects.inv').read_bytes().split(b'\n', 4)[4]
  lines = zlib.decompress(packed).decode().splitlines()
  found = {line.split(' ')[0]: line.split(' ')[3] for line in lines}
  return {name: uri.replace('$', name) for name, uri in found.items()}


def public_names():
  """All names of `tpa` and of its modules; what is in both stands under `tpa`."""

  def members(module):
    found = {name: getattr(module, name) for name in module.__all__ if name != '__version__'}
    modules = {name: value for name, value in found.items() if inspect.ismodule(value)}
    return {name: found[name] for name in found.keys() - modules}, modules

  own, modules = members(tpa)
  return set(own) | {
    f'{module}.{name}'
    for module, found in modules.items()
    for name, value in members(found)[0].items()
    if own.get(name) is not value
  }


def test_every_public_name_has_its_entry():
  entries = inventory()
  missing = {name for name in public_names() if f'tff_privacy_agg.{name}' not in entries}
  assert not missing
  for name in ('compose', 'accounting.plan', 'learning.Cohorts', 'data.load'):
    page, _, anchor = entries[f'tff_privacy_agg.{name}'].partition('#')
    assert f'id="{anchor}"' in (SITE / page).read_text(encoding='utf-8')


def test_pages_list_the_public_names_and_nothing_else():
  listed = {
    name
    for page in ROOT.glob('docs/reference/*.md')
    for name in re.findall(r'^::: tff_privacy_agg\.(\S+)$', page.read_text(encoding='utf-8'), re.M)
  }
  assert listed == public_names()


def test_pages_fetch_nothing_from_elsewhere():
  pages = sorted(SITE.rglob('*.html'))
  assert len(pages) > 60
  for page in pages:
    addresses = FETCHED.findall(page.read_text(encoding='utf-8'))
    assert addresses
    assert not [address for address in addresses if '//' in address], page
  for style in SITE.rglob('*.css'):
    assert not re.findall(r'(?:url\(|@import )["\']?(?:https?:)?//', style.read_text('utf-8')), (
      style
    )


def test_of_the_test_a_fetch_is_seen():
  assert FETCHED.findall('<script async src="https://example.org/a.js">') == [
    'https://example.org/a.js'
  ]
  assert FETCHED.findall('<link rel="stylesheet" href="//example.org/a.css">')
  assert not FETCHED.findall('<a href="https://example.org">')


def test_notebooks_show_what_they_printed():
  for notebook in sorted(ROOT.glob('notebooks/*.ipynb')):
    page = (SITE / f'notebooks/{notebook.name}.html').read_text(encoding='utf-8')
    outputs = [
      output
      for cell in json.loads(notebook.read_text(encoding='utf-8'))['cells']
      for output in cell.get('outputs', [])
    ]
    pictures = sum('image/png' in output.get('data', {}) for output in outputs)
    assert page.count('output highlight') == len(outputs) - pictures
    assert len(re.findall(rf'src="{notebook.stem}_\d+\.png"', page)) == pictures
    assert len(list(SITE.glob(f'notebooks/{notebook.stem}_*.png'))) == pictures


def test_search_finds_documents_and_the_api():
  index = json.loads((SITE / 'search/search_index.json').read_text(encoding='utf-8'))
  found = {entry['location'] for entry in index['docs']}
  assert {'docs/ledger.html', 'notebooks/06_audit.ipynb.html'} <= found
  assert 'docs/reference/compose.html#tff_privacy_agg.Clipping' in found
  assert not [location for location in found if '.py.html' in location]  # sources would drown them
