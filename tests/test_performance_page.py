"""docs/performance.md shows what the committed results say, and nothing else."""

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


def test_the_table_is_that_of_the_results():
  found = goals.Goals()
  found.collect()
  page = goals.DOCUMENT.read_text(encoding='utf-8')
  for begin, table in ((goals.BEGIN, found.table()), (goals.SERVED, goals.served_table())):
    assert page.split(begin)[1].split(goals.END)[0].strip() == table


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
