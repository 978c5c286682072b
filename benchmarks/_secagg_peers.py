"""Other secure aggregation in Python, each in an environment of its own, in the same run.

`python -m venv` and pip install them, at the versions in `secagg_peers/*.txt`, into a folder that
is kept; nothing of them is a dependency of the project. Each is driven over its own public code
by a script in `secagg_peers/`.
"""

import hashlib
import json
import pathlib
import statistics
import subprocess
import sys

from _secagg_session import session

HERE = pathlib.Path(__file__).parent / 'secagg_peers'
# The modulus of all three is 2**32: Flower's default, and what declearn's masks are fastest with.
BITS = 32
CASES = [(32, 10**6, 0), (100, 10**5, 10)]
# Least ratio, theirs over ours, by case: of a party's whole work, and of the step that masks.
GOALS = {
  'flower': [
    {'server': 60, 'unmask': 60, 'client': 15, 'mask': 15},
    {'server': 800, 'unmask': 800, 'client': 80, 'mask': 80},
  ],
  'declearn_masking': [{'server': 10, 'mask': 3.5, 'mask_default': 2000}, {}],
}
# What of ours stands against a figure of theirs.
OURS = {'mask': 'round2', 'mask_default': 'round2'}


def environment(name, folder):
  """The interpreter of a peer's environment, which is made if it is not there.

  Raises:
    RuntimeError: If pip could not install it; with pip's last line.
  """
  requirements = HERE / f'{name}.txt'
  tag = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
  home = pathlib.Path(folder) / f'{name}-{tag}'
  python = home / 'bin' / 'python'
  done = home / 'installed'
  if not done.exists():
    subprocess.run([sys.executable, '-m', 'venv', '--clear', home], check=True)
    pip = [python, '-m', 'pip', 'install', '--quiet', '--no-deps', '-r', requirements]
    found = subprocess.run(pip, capture_output=True, text=True, check=False)
    if found.returncode:
      lines = [line for line in found.stderr.splitlines() if line.startswith('ERROR')]
      raise RuntimeError(lines[-1] if lines else 'pip failed')
    done.touch()
  return python


def _seconds(name, python, case):
  script = [python, HERE / f'{name}.py', *map(str, case)]
  found = subprocess.run(script, capture_output=True, text=True, check=False)
  if found.returncode:
    raise RuntimeError(found.stderr.strip().splitlines()[-1])
  return json.loads(found.stdout.splitlines()[-1])


def _ours(case, repeat):
  rows = [session(*case, bits=BITS) for _ in range(repeat)]
  return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def compare(folder, repeat, show):
  """Measures every peer once in every case, next to medians of our own sessions.

  Args:
    folder: Where the environments are kept.
    repeat: Our own sessions for each.
    show: Called with each line of the report.
  """
  rows = []
  for number, case in enumerate(CASES):
    for name, goals in GOALS.items():
      row = {'peer': name, 'n': case[0], 'd': case[1], 'drops': case[2]}
      rows.append(row)
      try:
        theirs = _seconds(name, environment(name, folder), case)
      except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        row['failed'] = str(error)
        show(f'{name} n={case[0]} d={case[1]}: not measured: {error}')
        continue
      ours = _ours(case, repeat)
      ratios = {
        key: value / ours[OURS.get(key, key)] for key, value in theirs.items() if key != 'drops'
      }
      row |= {'theirs': theirs, 'ours': ours, 'ratios': ratios}
      parts = []
      for key, ratio in ratios.items():
        goal = goals[number].get(key)
        met = '' if goal is None else f' (goal {goal}: {"met" if ratio >= goal else "MISSED"})'
        parts.append(f'{key} {ratio:.3g}{met}')
      show(
        f'{name} over ours, n={case[0]} d={case[1]} drops={theirs["drops"]} '
        f'(ours {case[2]}): ' + ', '.join(parts)
      )
  return rows
