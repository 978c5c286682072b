"""docs/runtime.md: its code runs, its tables name what there is."""

import dataclasses
import pathlib
import re

import numpy as np
import tensorflow_federated as tff

import tff_privacy_agg as tpa
from tff_privacy_agg import runtime
from tff_privacy_agg.deployment import config

PAGE = (pathlib.Path(__file__).parents[2] / 'docs' / 'runtime.md').read_text(encoding='utf-8')


def test_the_code_of_the_page_runs(simulation):
  blocks = re.findall(r'```python run\n(.*?)```', PAGE, re.DOTALL)
  # Those of real parties run in tests/deployment/test_serve.py.
  (code,) = (block for block in blocks if 'deployment.' not in block)
  names = {
    'process': tpa.secure_aggregator(weighted=False).create(tff.TensorType(np.float32, [2])),
    'client_data': [np.ones(2, np.float32)] * 100,
  }
  exec(compile(code, 'runtime.md', 'exec'), names)
  names['context'].close()
  survivors = names['context'].last_round.survivors
  assert 80 <= len(survivors) < 100


def test_the_table_of_keys_is_complete():
  row = re.compile(r'^\| `\[(\w+)\]` \|(.*)\|(.*)\|$', re.MULTILINE)
  rows = {section: cells for section, *cells in row.findall(PAGE)}
  kinds = (config.ServerConfig, config.ClientConfig)
  assert {*rows} == {field.name for kind in kinds for field in dataclasses.fields(kind)}
  for column, kind in enumerate(kinds):
    sections = {field.name: field.type for field in dataclasses.fields(kind)}
    for section, cells in rows.items():
      named = set(re.findall(r'`(\w+)`', cells[column]))
      wanted = dataclasses.fields(sections[section]) if section in sections else ()
      assert named == {field.name for field in wanted}, section


def test_the_layout_names_every_file():
  package = pathlib.Path(runtime.__file__).parent
  layout = PAGE[PAGE.index('## Layout') :]
  files = {path.stem for path in package.glob('*.py')} - {'__init__', 'simulation', 'worker'}
  assert {name for name in files if f'`{name}`' not in layout} == set()


def test_names_that_are_used_are_there():
  for name in re.findall(r'tpa\.runtime\.(\w+)', PAGE):
    assert name in runtime.__all__
