"""What an audit measured stands beside the promise: its numbers, where they are drawn, its pictures."""

import copy
import math
import re
import struct
import zlib

import numpy as np
import pytest
from report_runs import AUDIT, make_run
from test_report import Page, from_outside

from tff_privacy_agg import reports
from tff_privacy_agg.audit.pictures import png
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.reports import gray_pictures
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
  shades = np.arange(16).reshape(2, 8) / 15
  return np.kron(shades, np.ones([side, side])), shades


def painted(text, key, shape):
  """The cells of a picture from its paths."""
  cells = np.full(shape, -1)
  figure = text[text.index(f'<figure id="{key}"') :]
  for runs, shade in re.findall(
    r'<path d="([^"]*)" fill="#(..)', figure[: figure.index('</figure>')]
  ):
    for x, y, length in re.findall(r'M(\d+) (\d+)h(\d+)v1h-\3z', runs):
      cells[int(y), int(x) : int(x) + int(length)] = int(shade, 16)
  return cells


def test_pictures_of_the_attacks_are_in_the_page_pixel_by_pixel(tmp_path):
  image, shades = squares()
  make_run(tmp_path / 'run', audit=audit(inversion=1, other=1))
  for name in ('inversion', 'other', 'left_from_before'):
    (tmp_path / f'run/audit_{name}.png').write_bytes(png(image))
  text = reports.render_report(tmp_path / 'run')
  page = Page(text)
  assert 'From top to bottom: the truth' in page.texts['picture-inversion']
  assert 'Picture of the attack other' in page.texts['picture-other']
  assert 'picture-left_from_before' not in page.ids
  np.testing.assert_array_equal(painted(text, 'picture-other', (2, 8)), np.rint(255 * shades))
  assert from_outside(text) == []


@pytest.mark.parametrize('name', ['../x', 'a b', '', None, 3, '<script>'])
def test_names_of_attacks_are_no_paths(tmp_path, name):
  found = audit() | {'gallery': [{'name': name}]}
  make_run(tmp_path / 'run', audit=found)
  (tmp_path / 'x.png').write_bytes(b'no picture')
  assert 'picture-' not in ''.join(
    key for key in Page(reports.render_report(tmp_path / 'run')).ids if 'parties' not in key
  )


def changed(content, at, to):
  return content[:at] + bytes([to]) + content[at + 1 :]


BOARD = png(squares()[0])


@pytest.mark.parametrize(
  'content',
  [
    b'',
    b'GIF89a',
    BOARD[:40],
    changed(BOARD, 45, BOARD[45] ^ 1),
    changed(BOARD, 25, 2),
    png(np.zeros([8, 8])).replace(b'IDAT', b'NOPE'),
  ],
  ids=['empty', 'gif', 'cut', 'flipped', 'colours', 'without_data'],
)
def test_a_broken_picture_is_refused_with_the_mend(content):
  with pytest.raises(ConfigurationError, match='Run the audit again'):
    gray_pictures.gray(content)


def test_a_picture_that_unpacks_to_more_than_it_says_is_not_unpacked():
  bomb = zlib.compress(bytes(50_000_000), 9)
  chunks = [(b'IHDR', struct.pack('>IIBBBBB', 4, 4, 8, 0, 0, 0, 0)), (b'IDAT', bomb)]
  content = b'\x89PNG\r\n\x1a\n' + b''.join(
    struct.pack('>I', len(part)) + name + part + struct.pack('>I', zlib.crc32(name + part))
    for name, part in chunks
  )
  np.testing.assert_array_equal(gray_pictures.gray(content), np.zeros([4, 4]))


def test_a_picture_of_many_cells_is_named_and_left_out():
  noise = np.random.default_rng(0).integers(0, 256, [200, 200]).astype(np.uint8)
  assert 'left out: 40,000 cells' in gray_pictures.drawn('k', noise, 'caption')
