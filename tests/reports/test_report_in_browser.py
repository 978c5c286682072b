"""The report as a real browser shows it: no error, no request, the ledger's numbers, light and dark."""

import html
import importlib.util
import json
import os
import pathlib
import re
import urllib.parse

import matplotlib.image
import numpy as np
import pytest
from report_runs import AUDIT, CONFIG, make_plain_run, make_run, write_json

from tff_privacy_agg import accounting, reports
from tff_privacy_agg.ledger import LedgerRecord

SCRIPT = pathlib.Path(__file__).parents[2] / 'docs/build_screenshot.py'
SPEC = importlib.util.spec_from_file_location('build_screenshot', SCRIPT)
screenshot = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(screenshot)

DARK, LIGHT = '--blink-settings=preferredColorScheme=0', '--blink-settings=preferredColorScheme=1'


def need_browser():
  """Skips where there is no browser; in CI nothing is left out."""
  if screenshot.browser() is None:
    if os.environ.get('CI') == 'true':
      pytest.fail('CI is to check the report in a browser, and there is none: see .ci/run.')
    pytest.skip('no headless browser here; Debian: apt-get install chromium')


@pytest.fixture(autouse=True, scope='module')
def _browser():
  need_browser()


@pytest.fixture(scope='module')
def page(tmp_path_factory):
  folder = tmp_path_factory.mktemp('browser')
  make_plain_run(folder / 'plain')
  make_run(folder / 'run', audit=AUDIT, budget=accounting.Budget(epsilon=12.0, delta=1e-3))
  # As many options as `train` records.
  options = {**CONFIG, **{f'option_{number}': number for number in range(22)}}
  write_json(folder / 'run/config.json', options)
  return reports.write_report(folder / 'run', beside=folder / 'plain')


def hosts(page, tmp_path):
  """Hosts that the browser asked for while it showed the page."""
  log = tmp_path / 'net.json'
  screenshot.browse(page, f'--log-net-log={log}', '--dump-dom')
  text = log.read_text()
  try:
    events = json.loads(text)['events']
  except ValueError:  # the browser was ended before it closed the list
    events = json.loads(text.rstrip().rstrip(',') + ']}')['events']
  urls = [event['params'].get('url') for event in events if isinstance(event.get('params'), dict)]
  return {urllib.parse.urlsplit(url).netloc for url in urls if isinstance(url, str)} - {''}


def write(tmp_path, body):
  path = tmp_path / 'page.html'
  path.write_text(f'<!DOCTYPE html><html><head><title>t</title></head><body>{body}</body></html>')
  return path


def test_it_shows_the_ledgers_numbers_without_an_error(page):
  shown = screenshot.browse(page, '--dump-dom')
  assert 'CONSOLE' not in shown.stderr
  record = LedgerRecord.read(page.parent / 'ledger.jsonl')
  for view in ('server', 'release'):
    (value,) = re.findall(rf'<data id="epsilon-{view}" value="([^"]*)"', shown.stdout)
    assert float(value) == record.epsilon(view)
  assert record.hash in shown.stdout
  # The browser repairs broken markup; it found none.
  drawn, written = (html.unescape(_main(text)) for text in (shown.stdout, page.read_text()))
  assert drawn == written


def _main(text):
  return text[text.index('<main>') : text.index('</main>')]


def test_a_report_asks_no_other_host(page, tmp_path):
  own = hosts(write(tmp_path, 'empty'), tmp_path)  # what the browser asks for by itself
  assert hosts(page, tmp_path) <= own
  asking = write(tmp_path, '<img src="http://127.0.0.1:9/x.png">')
  assert hosts(asking, tmp_path) - own == {'127.0.0.1:9'}


def test_of_the_test_an_error_is_seen(tmp_path):
  shown = screenshot.browse(write(tmp_path, '<script>nothere()</script>'), '--dump-dom')
  assert 'CONSOLE' in shown.stderr


@pytest.mark.parametrize('width', [1000, 400])
@pytest.mark.parametrize(('scheme', 'dark'), [(DARK, True), (LIGHT, False)], ids=['dark', 'light'])
def test_it_has_a_light_and_a_dark_look(page, tmp_path, scheme, dark, width):
  out = tmp_path / 'shot.png'
  screenshot.browse(page, scheme, f'--window-size={width},1200', f'--screenshot={out}')
  gray = matplotlib.image.imread(out)[:, :, :3].mean(axis=2)
  assert (np.median(gray) < 0.2) == dark
  assert (np.median(gray) > 0.9) != dark
  assert gray.max() - gray.min() > 0.7  # the text stands out
  # Nothing is cut off at the right: the margin is empty.
  assert np.ptp(gray[:, -4:]) < 0.02


def test_a_report_prints_on_three_to_twelve_pages(page, tmp_path):
  out = tmp_path / 'page.pdf'
  screenshot.browse(page, f'--print-to-pdf={out}', '--no-pdf-header-footer')
  pages = len(re.findall(rb'/Type\s*/Page[^s]', out.read_bytes()))
  assert 3 <= pages <= 6


def test_charts_stand_side_by_side_where_there_is_room(page, tmp_path):
  """The blue of the first line is left and right of the middle, in the same rows."""
  out = tmp_path / 'shot.png'
  screenshot.browse(page, LIGHT, '--window-size=1000,1400', f'--screenshot={out}')
  pixels = matplotlib.image.imread(out)[:, :, :3]
  blue = np.abs(pixels - np.array([0x00, 0x72, 0xB2]) / 255).max(axis=2) < 0.02
  both = blue[:, 50:490].any(axis=1) & blue[:, 510:].any(axis=1)
  assert both.sum() > 10


def test_the_script_takes_the_picture_of_the_page(page, tmp_path, monkeypatch):
  out = tmp_path / 'report.png'
  monkeypatch.setattr('sys.argv', ['build_screenshot.py', str(page.parent), '--output', str(out)])
  screenshot.main()
  committed = matplotlib.image.imread(SCRIPT.with_name('report.png'))
  for image in (matplotlib.image.imread(out), committed):
    assert image.shape[:2] == (1500, 1000)
    gray = image[:, :, :3].mean(axis=2)
    # Text and charts from top to bottom: no band of a tenth of the picture is empty.
    assert min(np.ptp(band) for band in np.array_split(gray, 10)) > 0.3
    assert np.median(gray) > 0.5


def test_of_the_test_a_missing_browser_fails_in_ci_only(monkeypatch):
  monkeypatch.setattr(screenshot, 'browser', lambda: None)
  monkeypatch.setenv('CI', 'true')
  with pytest.raises(pytest.fail.Exception, match='there is none'):
    need_browser()
  monkeypatch.delenv('CI')
  with pytest.raises(pytest.skip.Exception):
    need_browser()
