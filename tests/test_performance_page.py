"""docs/performance.md shows what the committed results say, and nothing else."""

import importlib.util
import pathlib

ROOT = pathlib.Path(__file__).parents[1]
_SPEC = importlib.util.spec_from_file_location('goals', ROOT / 'benchmarks' / 'goals.py')
goals = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(goals)


def test_the_table_is_that_of_the_results():
  found = goals.Goals()
  found.collect()
  page = goals.DOCUMENT.read_text(encoding='utf-8')
  assert page.split(goals.BEGIN)[1].split(goals.END)[0].strip() == found.table()


def test_a_goal_that_is_missed_is_said_to_be():
  found = goals.Goals()
  found.add('twice', {'philox': 2.0, 'chacha20': 2.0}, {'philox': [1.99], 'chacha20': [2.0]}, True)
  (row,) = found.rows
  assert row[1] == '>= 2: 1.99, **not met**'
  assert row[2] == '>= 2: 2.00, met'
