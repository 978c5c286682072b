"""docs/performance.md shows what the committed results say, and nothing else."""

import dataclasses
import importlib
import importlib.util
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def program(name):
  spec = importlib.util.spec_from_file_location(name, ROOT / 'benchmarks' / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


goals, secagg_tables = program('goals'), program('secagg_tables')
scaleout_tables, scaleout_model = program('scaleout_tables'), program('_scaleout_model')


@pytest.mark.parametrize(('page', 'begin'), goals.TABLES)
def test_the_tables_are_those_of_the_results(page, begin):
  found = page.read_text(encoding='utf-8').split(begin)[1].split(goals.END)[0].strip()
  assert found == goals.TABLES[page, begin]()


def test_a_goal_that_is_missed_is_said_to_be():
  found = goals.Goals()
  found.add('twice', {'philox': 2.0, 'chacha20': 2.0}, {'philox': [1.99], 'chacha20': [2.0]}, True)
  (row,) = found.rows
  assert row[1] == '>= 2: 1.99, **not met**'
  assert row[2] == '>= 2: 2.00, met'
  assert goals._below('twice', 1.5, 1.51)[2] == '1.51, **not met**'
  assert goals._below('twice', 1.5, 1.5)[2] == '1.5, met'


@pytest.mark.parametrize('name', secagg_tables.PAGES)
def test_the_tables_of_secure_sums_are_those_of_the_results(name):
  page = (ROOT / 'docs' / name).read_text(encoding='utf-8')
  found = page.split(secagg_tables.BEGIN)[1].split(secagg_tables.END)[0].strip()
  assert found == secagg_tables.PAGES[name]()


def test_every_secure_sum_of_the_results_is_said_what_it_protects():
  rows = secagg_tables.load('peers')['rows']
  assert {row['name'] for row in rows if 'failed' not in row} == {*secagg_tables.PROTECTS}


@pytest.mark.parametrize('name', scaleout_tables.TABLES)
def test_the_tables_of_the_cluster_are_those_of_the_results(name):
  page = scaleout_tables.PAGE.read_text(encoding='utf-8')
  begin = scaleout_tables.BEGIN.format(name)
  found = page.split(begin)[1].split(scaleout_tables.END)[0].strip()
  assert found == scaleout_tables.TABLES[name]()


def test_predictions_follow_from_the_cells_that_were_measured(monkeypatch):
  monkeypatch.syspath_prepend(str(ROOT / 'benchmarks'))
  found = scaleout_tables.load()
  assert importlib.import_module('scaleout').cost_model(found) == found['cost_model']
  places = ('version', 'workers', 'clients', 'megabits', 'milliseconds')
  fitted, checked = (
    {tuple(cell[place] for place in places) for cell in found['cost_model'][use]}
    for use in ('fitted', 'checked')
  )
  assert len(fitted) >= 4
  assert checked
  assert not fitted & checked


CELL = scaleout_model.Cell(
  clients=1600,
  workers=4,
  rate=1e6,
  latency=0.1,
  cores=None,
  work=0.01,
  scheduler=1e-3,
  head=2e-3,
  protocol=5e-3,
  other=1.0,
  down=500.0,
  up=1000.0,
  each=1e5,
)


@pytest.mark.parametrize(
  ('changed', 'seconds', 'limit'),
  [
    # 25 parts a worker: 0.16 s of work, or half of it and of 4 trips of 0.1 s with 24 kB.
    ({}, 0.4 + 25 * (0.16 + 0.4 + 0.024) / 2, 'workers'),
    ({'latency': 0.0}, 0.4 + 25 * 0.16, 'workers'),
    ({'workers': 100}, 10.0 + 3.2, 'head'),
    ({'workers': 100, 'scheduler': 4e-3}, 10.0 + 6.4, 'scheduler'),
    ({'workers': 100, 'down': 5000.0}, 10.0 + 8.0, 'network'),
    ({'cores': 2.0, 'other': 0.02}, 0.4 + 26.4, 'cores'),
  ],
)
def test_a_round_waits_for_what_it_needs_longest(changed, seconds, limit):
  cell = dataclasses.replace(CELL, **changed)
  found = scaleout_model.predict(cell, 1.5, 4.0)
  # 1.5 s fixed and 8 s of the protocol; `each` bytes to each worker before the work.
  assert found == (pytest.approx(1.5 + seconds + 8.0), limit)


def test_a_fit_finds_what_the_walls_were_made_with():
  cells = [dataclasses.replace(CELL, latency=latency) for latency in (0.05, 0.1, 0.3)]
  walls = [scaleout_model.predict(cell, 0.7, 5.2)[0] for cell in cells]
  assert scaleout_model.fit(cells, walls) == (pytest.approx(0.7, abs=0.01), 5.2)
