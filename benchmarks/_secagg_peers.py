"""Other secure aggregation in Python, each in an environment of its own.

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

from tff_privacy_agg import secagg

HERE = pathlib.Path(__file__).parent / 'secagg_peers'
SCRIPTS = ('flower', 'declearn_masking', 'fedbiomed_sums', 'fedml_lightsecagg')
# The modulus is 2**32 as in Flower's default, and what declearn's masks are fastest with.
BITS = 32
PEER_LIKE = 'ours, X25519'
# Least ratio, theirs over ours, by name and number of clients: of a party's whole work, and of
# the step that masks.
GOALS = {
  ('Flower SecAgg+', 32): {'server': 60, 'unmask': 60, 'client': 15, 'mask': 15},
  ('Flower SecAgg+', 100): {'server': 800, 'unmask': 800, 'client': 80, 'mask': 80},
  ('declearn masking', 32): {'server': 10, 'mask': 3.5, 'mask_default': 2000},
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


def measured(name, python, case):
  """What a peer's script prints for one case: a row for each of its ways to sum.

  Raises:
    RuntimeError: If it fails; with the last line that it wrote.
  """
  script = [python, HERE / f'{name}.py', *map(str, case)]
  found = subprocess.run(script, capture_output=True, text=True, check=False)
  if found.returncode:
    lines = found.stderr.strip().splitlines()
    raise RuntimeError(lines[-1] if lines else f'exit code {found.returncode}')
  return [json.loads(line) for line in found.stdout.splitlines() if line.startswith('{')]


def ours(case, repeat):
  """Medians of our own sessions: as the peers, and as we install it, with ML-KEM-768."""
  rows = []
  clients, elements, drops = case
  fraction = max(0.1, round(drops / clients + 0.005, 2))
  for name, version in ((PEER_LIKE, 1), ('ours, X25519 and ML-KEM-768', 2)):
    found = [session(*case, bits=BITS, version=version) for _ in range(repeat)]
    cost = secagg.communication_cost(
      clients, elements, BITS, graph='complete', dropout_fraction=fraction, version=version
    )
    rows.append(
      {'name': name}
      | {key: statistics.median(row[key] for row in found) for key in found[0]}
      | {'up': sum(cost.up), 'down': sum(cost.down)}
      | {'rounds': sum(map(bool, cost.up)), 'drops': drops}
    )
  return rows
