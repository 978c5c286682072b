"""`tff-privacy-agg report`: the ledger's numbers, nothing from outside, honest where files lack."""

import collections
import dataclasses
import html.parser
import json
import math
import re

import numpy as np
import pytest
from report_runs import AUDIT, CONFIG, ROUNDS, facts, make_plain_run, make_run, write_json

from tff_privacy_agg import accounting, cli, reports, secagg
from tff_privacy_agg.errors import ConfigurationError, LedgerError
from tff_privacy_agg.ledger import LedgerRecord, PrivacyLedger
from tff_privacy_agg.ledger.costs.rounds import price_of
from tff_privacy_agg.reports import charts, noise
from tff_privacy_agg.reports.run_files import RunFiles

VOID = {'meta', 'img', 'picture-inside'}


class Page(html.parser.HTMLParser):
  """A strict reader: every element is closed in order; texts and attributes by identity."""

  def __init__(self, text):
    super().__init__()
    self.open, self.ids, self.attributes = [], {}, collections.Counter()
    self.texts = collections.defaultdict(str)
    self.names = collections.Counter()
    self.feed(text)
    self.close()
    assert self.open == []

  def handle_starttag(self, tag, attrs):
    self.names[tag] += 1
    found = dict(attrs)
    self.attributes.update(found.keys())
    if 'id' in found:
      assert found['id'] not in self.ids, 'twice'
      self.ids[found['id']] = found
    if tag not in VOID:
      self.open.append((tag, found.get('id')))

  def handle_endtag(self, tag):
    assert self.open.pop()[0] == tag

  def handle_data(self, data):
    for _, key in self.open:
      self.texts[key] += data

  def value(self, key):
    return float(self.ids[key]['value'])


def from_outside(text):
  """Whatever would make a browser load, run or send something."""
  # A picture inside the page loads nothing.
  page = Page(re.sub(r'<img src="data:image/png;base64,[A-Za-z0-9+/=]*"', '<picture-inside', text))
  loads = {'src', 'href', 'srcset', 'data', 'action', 'style', 'background', 'poster', 'xlink:href'}
  found = [name for name in page.attributes if name in loads or name.startswith('on')]
  active = {'script', 'link', 'iframe', 'object', 'embed', 'form', 'base', 'img', 'image', 'use'}
  found += sorted(active & {*page.names})
  return found + re.findall(r'@import|url\(', text)


@pytest.fixture
def run(tmp_path):
  return tmp_path / 'run'


def test_its_numbers_are_the_ledgers_and_not_the_metrics(run):
  stated, digest = make_run(run)
  text = reports.render_report(run)
  page = Page(text)
  for view in ('server', 'release'):
    assert page.value(f'epsilon-{view}') == stated[view] == page.value(f'parties-{view}')
    assert float(page.texts[f'epsilon-{view}']) >= stated[view]
  assert page.value('delta') == 1e-3
  assert page.value('rounds') == ROUNDS
  assert page.texts['ledger-hash'] == digest
  card = json.loads(LedgerRecord.read(run / 'ledger.jsonl').statement('json'))
  assert all(sentence in page.texts['promises'] for sentence in card['promises'])
  assert page.texts['summary'] == card['summary']
  assert all(field['text'] in page.texts['card'] for field in card['fields'])
  assert all(sentence in page.texts['assumptions'] for sentence in card['assumptions'])
  assert 'charged at the worst' in page.texts['every-round']
  assert page.texts['every-round'].count('yes') == 3


@pytest.mark.parametrize('secure_sum', ['simulated', 'semi_honest'])
def test_sums_in_the_clear_are_named_above_the_numbers(run, secure_sum):
  make_run(run)
  config = json.loads((run / 'config.json').read_text())
  write_json(run / 'config.json', {**config, 'secure_sum': secure_sum})
  text = reports.render_report(run)
  clear = secure_sum == 'simulated'
  assert ('in-the-clear' in Page(text).ids) == clear
  assert ('Epsilon, server view, once sums are secure' in text) == clear
  if clear:
    assert text.index('id="in-the-clear"') < text.index('id="epsilon-server"')


def test_the_chart_of_epsilon_holds_every_charge_and_the_budget(run):
  stated, _ = make_run(run, budget=accounting.Budget(epsilon=9.5, delta=1e-3))
  text = reports.render_report(run)
  assert 'budget 9.5' in Page(text).texts['chart-epsilon']
  totals = RunFiles.read(run).totals
  assert [one.number for one in totals] == [1, 2, 3, 4, 5]
  assert [one.survivors for one in totals] == [10, 10, 10, 9, None]
  assert totals[-1].epsilon['server'] == pytest.approx(stated['server'])
  assert (
    'Rounds: 5 charged, 4 settled, 1 charged at the worst and never settled, 1 seen by the server and '
    'not taken by the model. Planned clients that dropped out, all rounds: 1.'
  ) in Page(text).texts['spending']
  spent = [one.epsilon['server'] for one in totals]
  assert spent == sorted(spent)
  (path,) = re.findall(r'<path d="M([^"]*)" class="line style0"', _figure(text, 'chart-epsilon'))
  assert path.count(',') == ROUNDS


def test_an_epsilon_has_its_attacker_next_to_it(run):
  make_run(run)
  record = LedgerRecord.read(run / 'ledger.jsonl')
  for view in ('server', 'release'):
    risk = json.loads(record.statement('json'))['fields']
    (powers,) = (field['value'] for field in risk if field['name'] == f'risk_{view}')
    tile = re.search(
      rf'id="epsilon-{view}".*?attacker: at most ([\d.]+)%', reports.render_report(run)
    )
    assert powers['0.01'] <= float(tile[1]) / 100 <= powers['0.01'] * 1.01


def test_every_chart_has_its_title_above_it(run):
  make_run(run, audit=AUDIT)
  text = reports.render_report(run)
  figures = re.findall(r'<figure id="chart-.*?</figure>', text, re.DOTALL)
  assert len(figures) > 8
  assert all(re.match(r'<figure [^>]*><figcaption>\w.*?</figcaption><svg ', one) for one in figures)


def _figure(text, key):
  start = text.index(f'<figure id="{key}"')
  return text[start : text.index('</figure>', start)]


@pytest.mark.parametrize('kind', ['private', 'audited', 'beside', 'plain', 'central'])
def test_nothing_comes_from_outside(tmp_path, kind):
  run, other = tmp_path / 'run', tmp_path / 'other'
  make_plain_run(other)
  if kind == 'plain':
    text = reports.render_report(other)
  else:
    mechanism = 'gaussian' if kind == 'central' else 'discrete_gaussian'
    make_run(run, mechanism=mechanism, audit=AUDIT if kind == 'audited' else None)
    text = reports.render_report(run, beside=other if kind == 'beside' else None)
  assert from_outside(text) == []
  assert "default-src 'none'" in text


@pytest.mark.parametrize(
  'bad',
  [
    '<img src="x.png">',
    '<link rel="stylesheet">',
    '<p style="color:red"></p>',
    '<a href="https://example.org"></a>',
    '<style>@import "x"</style>',
    '<p onclick="x()"></p>',
  ],
)
def test_of_the_test_what_comes_from_outside_is_seen(bad):
  assert from_outside(f'<div>{bad.replace("<img", "<meta").replace("<link", "<meta href=x")}</div>')


def test_what_a_file_says_is_text(run):
  hostile = '</style><script>alert(1)</script>"\'&'
  audit = {**AUDIT, 'gallery': [{'name': hostile, 'defended': True}]}
  make_run(run, audit=audit, unaccounted=('<img src=x>',))
  write_json(run / 'config.json', {**CONFIG, 'model': hostile})
  text = reports.render_report(run)
  assert '<script' not in text
  assert from_outside(text) == []
  page = Page(text)
  assert hostile in page.texts['origin']
  assert 'a <b>task</b>' in page.texts['card']


def test_a_ledger_that_was_changed_gets_no_report(run):
  make_run(run)
  good = (run / 'ledger.jsonl').read_bytes()
  (run / 'ledger.jsonl').write_bytes(good.replace(b'"survivors":9', b'"survivors":10', 1))
  with pytest.raises(LedgerError, match='does not verify'):
    reports.write_report(run)
  assert not (run / 'report.html').exists()


@pytest.mark.parametrize('missing', ['config.json', 'ledger.jsonl'])
def test_a_run_that_lacks_a_file_gets_no_report(run, missing):
  make_run(run)
  (run / missing).unlink()
  with pytest.raises(ConfigurationError, match=missing):
    reports.render_report(run)


def test_a_run_without_noise_promises_nothing(run):
  make_plain_run(run)
  page = Page(reports.render_report(run))
  assert 'epsilon is infinite' in page.texts['promises']
  assert 'epsilon-server' not in page.ids


def test_noise_of_the_server_promises_nothing_against_it(run):
  make_run(run, mechanism='gaussian')
  page = Page(reports.render_report(run))
  assert page.value('epsilon-server') == math.inf
  assert page.texts['epsilon-server'] == 'infinite'
  assert page.value('epsilon-release') < math.inf
  assert 'In the server view epsilon is infinite' in page.texts['spending']
  assert 'nothing is promised against it' in page.texts['picture-parties']


def test_a_ledger_that_is_not_complete_says_so_on_top(run):
  make_run(run, unaccounted=('training metrics',))
  text = reports.render_report(run)
  assert 'NOT COMPLETE: these epsilons leave out: training metrics' in text


def test_the_threshold_is_the_least_that_any_round_was_to_keep(run):
  make_run(run)
  with PrivacyLedger(run / 'ledger.jsonl') as ledger:
    ledger.charge(9, facts=dataclasses.replace(ledger.facts, minimum_clients=3, task='own'))
  page = reports.write_report(run).read_text()
  assert 'no sum of fewer than 3, as' in page
  assert 'no sum of fewer than 8, as' not in page


def test_a_metric_in_rows_without_a_number_of_the_round_is_left_out(run):
  make_run(run)
  lines = [line.split(',') for line in (run / 'metrics.csv').read_text().splitlines()]
  at = lines[0].index('round')
  rows = [[*line[:at], 'nan', *line[at + 1 :]] for line in lines[1:]]
  (run / 'metrics.csv').write_text('\n'.join(map(','.join, [lines[0], *rows])) + '\n')
  assert 'Accuracy' not in reports.render_report(run)


def test_a_metric_of_the_users_own_has_a_tile_and_a_chart(run):
  make_run(run)
  text = (run / 'metrics.csv').read_text()
  (run / 'metrics.csv').write_text(text.replace('accuracy', 'mean error [m]'))
  text = reports.render_report(run)
  page = Page(text)
  assert 'Mean error [m], held-out' in text
  assert 'Mean error [m] on held-out examples' in page.texts['chart-mean-error--m-']
  assert 'chart-accuracy' not in page.ids


def test_a_metric_that_was_never_a_number_is_left_out(run):
  make_run(run)
  text = (run / 'metrics.csv').read_text()
  lines = [f'{line},{"odd" if line.startswith("round") else "inf"}' for line in text.splitlines()]
  (run / 'metrics.csv').write_text('\n'.join(lines) + '\n')
  page = Page(reports.render_report(run))
  assert 'chart-accuracy' in page.ids
  assert 'chart-odd' not in page.ids


def test_a_report_compares_a_run_with_another(tmp_path):
  make_run(tmp_path / 'run')
  make_plain_run(tmp_path / 'other', planned_rounds=30)  # what `train --target-epsilon` records
  make_plain_run(tmp_path / 'unlike', seed=7)
  page = Page(reports.render_report(tmp_path / 'run', beside=tmp_path / 'other'))
  assert 'without privacy' in page.texts['chart-accuracy']
  assert 'differ in their privacy only' in page.texts['comparison']
  assert '-10' in page.texts['utility']  # per cent, as in the chart and the tile
  page = Page(reports.render_report(tmp_path / 'run', beside=tmp_path / 'unlike'))
  assert 'differ in seed, too' in page.texts['comparison']


def test_bytes_are_those_of_the_protocol(run):
  make_run(run)
  page = Page(reports.render_report(run))
  for mode in ('semi_honest', 'authenticated'):
    cost = secagg.communication_cost(10, 64, 18, mode=mode)
    assert page.value(f'expansion-{mode}') == (sum(cost.up) + sum(cost.down)) / (64 * 4)
    assert f'{sum(cost.up):,}' in page.texts['traffic']
  for stated, counted in (('1.73', (2**10, 2**20)), ('1.98', (2**14, 2**24))):
    assert f'{secagg.paper_expansion(*counted):.2f}' == stated
    assert stated in page.texts['traffic']


def test_bytes_of_what_goes_next_to_the_update_are_counted(run):
  """Private metrics: three numbers of 36 bits, as many bits as six of the update's."""
  metrics = accounting.solve(
    noise_multiplier=9.0,
    cohort_maximum=10,
    minimum_honest=8,
    bits=36,
    dimension=3,
    mechanism='discrete_gaussian',
  )
  next_to_it = {**facts().stack, 'integer_design': dataclasses.asdict(metrics)}
  next_to_it.pop('price', None)  # it follows from the design
  next_to_it['noise_multiplier'] = price_of(next_to_it).noise_multiplier(8)
  make_run(run, beside=[next_to_it])
  page = Page(reports.render_report(run))
  cost = secagg.communication_cost(10, 64 + 6, 18, mode='semi_honest')
  assert page.value('expansion-semi_honest') == (sum(cost.up) + sum(cost.down)) / (67 * 4)
  assert '64 numbers of 18 bits and 3 numbers of 36 bits' in page.texts['traffic']


def test_audits_stand_beside_the_promise(run):
  make_run(run, audit=AUDIT)
  page = Page(reports.render_report(run))
  assert page.value('audit-lower') == 1.25
  shown = page.texts['audits']
  assert all(part in shown for part in ('0.53 [0.5, 0.56]', 'clock (NOT DEFENDED)', 'not stated'))
  assert 'may have been changed' not in shown


def test_audits_that_were_changed_or_exceed_say_so(run):
  make_run(run, audit=AUDIT)
  write_json(run / 'audit.json', {**AUDIT, 'exceeded': True, 'claim': {'rounds': 2}})
  shown = Page(reports.render_report(run)).texts['audits']
  assert 'MORE leakage than the ledger says' in shown
  assert 'may have been changed' in shown
  assert 'Audited after 2 rounds' in shown


@pytest.mark.parametrize('audit', [{}, {'canaries': 3, 'membership': [], 'gallery': 'no'}])
def test_audits_of_another_shape_break_nothing(run, audit):
  make_run(run, audit=audit)
  assert 'not stated' in Page(reports.render_report(run)).texts['audits']


def test_wrap_around_is_that_of_the_longest_sum():
  """Sums of one length in random directions, and noise: 5 standard errors, false alarm 6e-7."""
  solved = accounting.IntegerDesign(**facts().stack['integer_design'])
  deviation = math.sqrt(
    (10 * solved.scaled_norm) ** 2 / solved.dimension + 10 * (0.25 + solved.local_variance)
  )
  design = dataclasses.replace(solved, modulus=2 * math.ceil(2.2 * deviation))
  rng, sums = np.random.default_rng(0), 4000
  directions = rng.normal(size=(sums, design.dimension))
  directions /= np.linalg.norm(directions, axis=1, keepdims=True)
  added = rng.normal(scale=math.sqrt(10 * (0.25 + design.local_variance)), size=directions.shape)
  left = np.abs(10 * design.scaled_norm * directions + added) > design.modulus / 2
  expected = noise.wrapped(design, clients=10, rotated=True)
  error = 5 * math.sqrt(expected / sums)
  assert abs(left.sum() / sums - expected) < error
  near_miss = noise.wrapped(design, clients=9, rotated=True)
  assert abs(left.sum() / sums - near_miss) > error
  assert noise.wrapped(design, clients=10, rotated=False) > 0.99  # all in one coordinate


@pytest.mark.parametrize(
  ('low', 'high'), [(0.0, 0.936), (0.0, 8.78), (1.0, 1.0), (0.0, 0.0), (-3.0, 2.0), (0, 1e-22)]
)
def test_ticks_cover_the_data(low, high):
  ticks = charts.ticks(low, high)
  assert ticks[0] <= low
  assert ticks[-1] >= high * (1 - 1e-9)
  assert 2 <= len(ticks) <= 8


def test_the_command_writes_one_file(run, capsys):
  make_run(run)
  assert cli.main(['report', str(run), '--json']) == 0
  assert json.loads(capsys.readouterr().out) == {'report': str(run / 'report.html')}
  assert (run / 'report.html').read_text() == reports.render_report(run)
  assert cli.main(['report', str(run / 'nowhere')]) == 2
  assert 'holds no config.json' in capsys.readouterr().err


def test_a_report_into_a_missing_folder_is_refused_and_makes_none(run, capsys):
  make_run(run)
  where = run.parent / 'nowhere'
  assert cli.main(['report', str(run), '--output', str(where / 'card.html')]) == 2
  error = capsys.readouterr().err
  assert f'Cannot write the report {where}/card.html: there is no folder {where}. Make it' in error
  assert not where.exists()
  assert cli.main(['report', str(run), '--output', str(run / 'card.html')]) == 0
  assert (run / 'card.html').exists()


def test_a_chart_of_many_rounds_keeps_its_extremes_and_not_all_its_points():
  points = [(float(x), 5.0) for x in range(10_000)]
  points[4321], points[7000] = (4321.0, 9.0), (7000.0, 1.0)
  few, many = (
    re.search(
      r'<path d="M([^"]*)"',
      charts.chart('key', 'title', [charts.Line(name='line', points=some)], x='x'),
    )[1]
    for some in ([points[0], points[4321], points[7000], points[-1]], points)
  )
  places = many.split('L')
  assert len(places) < 2000
  assert {*few.split('L')} <= {*places}
  assert places == sorted(places, key=lambda place: float(place.split(',')[0]))
