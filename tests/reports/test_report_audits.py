"""What an audit measured stands next to the promise: its numbers, where they are drawn, its pictures."""

import base64
import copy
import math
import re

import numpy as np
import pytest
from report_runs import AUDIT, make_run
from test_report import Page, from_outside

from tff_privacy_agg import reports
from tff_privacy_agg.audit.pictures import png
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.ledger import LedgerRecord
from tff_privacy_agg.ledger.card import risk
from tff_privacy_agg.reports import png_pictures
from tff_privacy_agg.reports.intervals import Measured, intervals


def audit(**gallery):
  found = copy.deepcopy(AUDIT)
  found['canaries']['all_iterates'] |= {'lower': 1.25, 'upper': 3.5}
  found['canaries']['final_model'] = {'epsilon': 0.9, 'lower': 0.0, 'upper': 'inf'}
  found['gallery'] = [{'name': name, 'defended': True} for name in gallery]
  return found


def measured(page):
  """Numbers of the drawn rows: value, low, high."""
  return {
    key.removeprefix('measured-'): tuple(
      float(found[f'data-{name}']) for name in ('value', 'low', 'high')
    )
    for key, found in page.ids.items()
    if key.startswith('measured-')
  }


def test_the_numbers_that_are_drawn_are_those_of_the_file(tmp_path):
  found = audit()
  make_run(tmp_path / 'run', audit=found)
  drawn = measured(Page(reports.render_report(tmp_path / 'run')))
  canaries, membership = found['canaries'], found['membership']['lira']['auc']
  expected = {
    'all-models': (canaries['all_iterates'], ('epsilon', 'lower', 'upper')),
    'last-model': (canaries['final_model'], ('epsilon', 'lower', 'upper')),
    'one-run': (canaries['one_run'], ('', 'lower', '')),
    'auc-lira': (membership, ('value', 'low', 'high')),
  }
  assert {*drawn} == {*expected}
  for key, (part, names) in expected.items():
    numbers = [float(part.get(name, math.nan)) for name in names]
    np.testing.assert_array_equal(drawn[key], numbers)


def test_the_promise_in_words_stands_beside_what_was_measured(tmp_path):
  make_run(tmp_path / 'run', audit=audit())
  page = reports.render_report(tmp_path / 'run')
  words = risk.sentence(
    risk.attack_bounds(LedgerRecord.read(tmp_path / 'run/ledger.jsonl'), 'server')
  )
  assert f'no more. {words}.' in page


def test_they_are_drawn_where_they_are(tmp_path):
  rows = [Measured(key='a', name='a', value=2.0, low=1.0, high=4.0)]
  text = intervals('k', 'title', rows, level=3.0, level_name='promised', least=0.0)
  (level,) = re.findall(r'class="limit" x1="([\d.]+)"', text)
  (value,) = re.findall(r'<circle cx="([\d.]+)"', text)
  low, high = re.findall(r'd="M[\d.]+,[\d.]+H([\d.]+)V', text)
  zero = float(re.findall(r'class="grid" x1="([\d.]+)"', text)[0])
  unit = (float(level) - zero) / 3.0
  places = [(float(one) - zero) / unit for one in (low, value, high)]
  np.testing.assert_allclose(places, [1.0, 2.0, 4.0], atol=0.01)
  assert 'promised 3' in text
  assert '2 [1, 4]' in Page(text).texts['a']


@pytest.mark.parametrize('numbers', [{'value': math.inf}, {'low': 0.0}, {'value': -1.0}, {}])
def test_rows_that_lack_numbers_are_drawn_or_left_out(numbers):
  rows = [Measured(key='a', name='a', **numbers)]
  text = intervals('k', 't', rows, level=math.inf, level_name='promised', least=0.0)
  assert ('nan' in text.replace('="nan"', '')) is False
  assert ('not in the files' in text) == (not numbers)


def squares(side=6):
  """A board of 16 shades, each cell a block of pixels as the audit writes them."""
  return np.kron(np.arange(16).reshape(2, 8) / 15, np.ones([side, side]))


def test_pictures_of_the_attacks_are_in_the_page_byte_by_byte(tmp_path):
  image = squares()
  make_run(tmp_path / 'run', audit=audit(inversion=1, other=1))
  for name in ('inversion', 'other', 'left_from_before'):
    (tmp_path / f'run/audit_{name}.png').write_bytes(png(image))
  text = reports.render_report(tmp_path / 'run')
  page = Page(text)
  assert 'From top to bottom: the truth' in page.texts['picture-inversion']
  assert 'Picture of the attack other' in page.texts['picture-other']
  assert 'picture-left_from_before' not in page.ids
  (data,) = re.findall(r'<figure id="picture-other".*?base64,([^"]*)"', text)
  assert base64.b64decode(data, validate=True) == png(image)
  assert from_outside(text) == []


@pytest.mark.parametrize('name', ['../x', 'a b', '', None, 3, '<script>'])
def test_names_of_attacks_are_no_paths(tmp_path, name):
  found = audit() | {'gallery': [{'name': name}]}
  make_run(tmp_path / 'run', audit=found)
  (tmp_path / 'x.png').write_bytes(b'no picture')
  assert 'picture-' not in ''.join(
    key for key in Page(reports.render_report(tmp_path / 'run')).ids if 'parties' not in key
  )


BOARD = png(squares())


@pytest.mark.parametrize(
  'content', [b'', b'GIF89a', BOARD[:40], BOARD[:-1], b'<svg>' + BOARD], ids=str
)
def test_what_is_no_complete_picture_is_refused_with_the_fix(content):
  with pytest.raises(ConfigurationError, match='Run the audit again'):
    png_pictures.embedded('k', content, 'caption')


def test_a_picture_too_large_for_a_page_is_named_and_left_out():
  large = BOARD[:8] + bytes(2_000_000) + BOARD[-12:]
  assert 'left out: 2,000,020 bytes' in png_pictures.embedded('k', large, 'caption')
