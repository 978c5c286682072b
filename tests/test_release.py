"""What a release is made of: a wheel that builds bit for bit twice, and a list of what is in the lock."""

import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

import tff_privacy_agg

ROOT = pathlib.Path(__file__).parents[1]
PARTS = (
  'setup.py',
  'pyproject.toml',
  'README.md',
  'LICENSE',
  'requirements.lock',
  'tff_privacy_agg',
)


def wheel(folder, *, umask):
  """Builds in a copy of its own, with file times of its own."""
  for part in PARTS:
    source = ROOT / part
    if source.is_dir():
      shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns('__pycache__'))
    else:
      shutil.copy(source, folder / part)
  command = [sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation']
  subprocess.run(
    [*command, '-w', 'out', '.'],
    cwd=folder,
    env={**os.environ, 'SOURCE_DATE_EPOCH': '1767225600', 'PIP_DISABLE_PIP_VERSION_CHECK': '1'},
    umask=umask,
    check=True,
    timeout=300,
    stdin=subprocess.DEVNULL,
  )
  (built,) = (folder / 'out').glob('*.whl')
  return built


def test_a_wheel_builds_bit_for_bit_twice(tmp_path):
  built = []
  for number in range(2):
    folder = tmp_path / str(number)
    folder.mkdir()
    built.append(wheel(folder, umask=0o022))
  one, other = (hashlib.sha256(path.read_bytes()).hexdigest() for path in built)
  assert one == other
  names = zipfile.ZipFile(built[0]).namelist()
  sources = {str(path.relative_to(ROOT)) for path in (ROOT / 'tff_privacy_agg').rglob('*.py')}
  assert sources <= set(names)
  others = ('ledger/schema.json', 'py.typed', 'requirements.lock')
  assert {f'tff_privacy_agg/{name}' for name in others} <= set(names)


def test_every_file_that_states_the_version_states_this_one():
  version = tff_privacy_agg.__version__
  citation = (ROOT / 'CITATION.cff').read_text(encoding='utf-8')
  assert re.findall(r'^version: (.+)$', citation, re.MULTILINE) == [version]
  changelog = (ROOT / 'CHANGELOG.md').read_text(encoding='utf-8')
  released = re.findall(r'^## \[(\d.+)\] - (.+)$', changelog, re.MULTILINE)
  date = re.findall(r'^date-released: (.+)$', citation, re.MULTILINE)
  assert released[0] == (version, *date)


def test_the_bill_of_materials_lists_the_lock():
  file = ROOT / 'dist' / 'sbom.cdx.json'
  if not file.exists():
    pytest.skip('`make sbom` writes it')
  found = json.loads(file.read_text())
  assert found['bomFormat'] == 'CycloneDX'
  listed = {f'{one["name"]}=={one["version"]}'.lower() for one in found['components']}
  lock = (ROOT / 'requirements.lock').read_text()
  locked = {name.lower() for name in re.findall(r'^([\w.\-]+==[\w.+!\-]+)', lock, re.MULTILINE)}
  assert listed == locked
