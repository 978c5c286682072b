"""Files that were damaged or edited at random, and how a command must answer."""

import contextlib
import io
import json
import shutil
import subprocess
import sys

import pytest

from tff_privacy_agg import cli

ODD = (None, 'x', '', [], {}, [1], {'a': 1}, -1, 0, 3, 0.5, 1e300, 10**400, True, False, 'inf')
ODD += ('nan', 1e-300, 2**63, '\ud800', 'é', 10**9, -0.0, [None], {'': {}}, 'secure', 1.5)
COMMAND = 'import sys; from tff_privacy_agg.cli import main; sys.exit(main())'


def mutations(some):
  """Parametrizes a test by how many mutations it draws: `some`, and 2,000 in the slow tests."""
  many = pytest.param(2000, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])
  return pytest.mark.parametrize('mutations', [some, many], ids=['some', 'many'])


def places(value, at=()):
  """Where the leaves and branches of a record are."""
  yield at
  if isinstance(value, dict | list):
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
      yield from places(inner, (*at, key))


def spoil(record, chance, kept=()):
  """Changes a value somewhere in a record, or leaves one out; not those under the keys `kept`."""
  where = chance.choice([at for at in places(record) if at and at[0] not in kept])
  inner = record
  for key in where[:-1]:
    inner = inner[key]
  if chance.random() < 0.2 and isinstance(inner, dict):
    del inner[where[-1]]
  else:
    inner[where[-1]] = chance.choice(ODD)


def damage(file, chance):
  """Changes a byte, cuts the file off, empties it or removes it."""
  data, how = bytearray(file.read_bytes()), chance.random()
  if how < 0.1 or not data:
    file.unlink()
    return
  data[chance.randrange(len(data))] = chance.randrange(256)
  file.write_bytes(data if how < 0.7 else data[: chance.randrange(len(data))])


def edit(file, chance):
  """Changes one value of a JSON file, a line of JSON, or a CSV file; else damages bytes."""
  if chance.random() < 0.3 or file.suffix not in ('.json', '.jsonl', '.participants', '.csv'):
    damage(file, chance)
    return
  lines = file.read_text(encoding='utf-8').splitlines()
  if file.suffix == '.json':
    lines = [' '.join(lines)]
  at = chance.randrange(len(lines))
  if file.suffix == '.csv':
    cells = lines[at].split(',')
    cells[chance.randrange(len(cells))] = chance.choice(
      ['', 'x', 'nan', '-1', '9' * 400, '"', 'a,b']
    )
    lines[at] = ','.join(cells)
  else:
    record = json.loads(lines[at])
    spoil(record, chance)
    lines[at] = json.dumps(record)
  file.write_text('\n'.join(lines) + '\n', encoding='utf-8')


def edit_one(folder, chance, others=()):
  """Edits one of the files in a folder; `others` are ways to edit it that tests add."""
  files = sorted(one for one in folder.rglob('*') if one.is_file())
  ways = [lambda file=file: edit(file, chance) for file in files]
  chance.choice([*ways, *others])()


def restored(whole, folder):
  """A folder as it was before the last edit."""
  shutil.rmtree(folder, ignore_errors=True)
  return shutil.copytree(whole, folder)


def answer(arguments):
  """Runs a command in this process: its exit code, after what it said was found to be text."""
  told = io.StringIO()
  with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
    found = cli.main([str(one) for one in arguments])
  said = told.getvalue()
  said.encode('utf-8')
  assert found in (0, 1, 2)
  assert 'Traceback' not in said
  return found, said


def answer_of_process(arguments):
  """The same in a process of its own."""
  command = [sys.executable, '-c', COMMAND, *map(str, arguments)]
  done = subprocess.run(command, capture_output=True, timeout=200, check=False)
  said = (done.stdout + done.stderr).decode('utf-8')
  assert done.returncode in (0, 1, 2), said
  assert 'Traceback' not in said, said
  return done.returncode, said
