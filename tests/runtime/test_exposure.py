"""What the TFF worker opens to others is said, once, on standard error, where commands start."""

import pathlib
import subprocess
import sys

import pytest

import tff_privacy_agg
from tff_privacy_agg.runtime import doctor, tff_worker

pytestmark = pytest.mark.integration

ROOT = pathlib.Path(tff_privacy_agg.__file__).parent
TWO_CONTEXTS = """
import sys
import numpy as np
import tensorflow_federated as tff
import tff_privacy_agg as tpa
from tff_privacy_agg.runtime import tff_worker
if len(sys.argv) > 1:
  tff_worker._LAUNCHER = sys.argv[1]
for _ in range(2):
  with tpa.runtime.simulation_context() as context:
    summed = tff.federated_computation(
      lambda x: tff.federated_sum(x), tff.FederatedType(np.int32, tff.CLIENTS)
    )
    print(context.isolated, summed([1, 2]))
"""
# As the launcher does where the system forbids namespaces.
FORBIDDEN = """
import runpy, sys
if sys.argv[1] == 'relay':
  print('unshare: Operation not permitted')
else:
  runpy.run_path({launcher!r}, run_name='__main__')
"""


def run(*arguments):
  done = subprocess.run(
    [sys.executable, *arguments], capture_output=True, text=True, timeout=300, check=True
  )
  return done.stdout, done.stderr


def test_a_process_whose_workers_are_isolated_says_nothing():
  out, err = run('-c', TWO_CONTEXTS)
  assert out == 'True 3\n' * 2
  assert 'listens' not in err


def test_where_namespaces_are_forbidden_a_process_says_once_to_whom_it_is_open(tmp_path):
  launcher = tmp_path / 'launcher.py'
  launcher.write_text(FORBIDDEN.format(launcher=tff_worker._LAUNCHER))
  out, err = run('-c', TWO_CONTEXTS, launcher)
  assert out == 'False 3\n' * 2
  line = tff_worker.exposure('unshare: Operation not permitted')
  assert err.splitlines().count(line) == 1


def test_doctor_says_which_of_the_two_holds():
  assert doctor._check_port(True).status == 'ok'
  check = doctor._check_port(False)
  assert check.status == 'warning'
  assert 'all network interfaces without authentication' in check.found


def test_a_deployed_party_starts_no_worker():
  for file in ('cli/serve.py', 'cli/client.py'):
    source = (ROOT / file).read_text()
    assert 'InProcessContext(worker=False)' in source
    assert 'simulation_context' not in source


def test_the_warning_of_an_open_port_is_one_line():
  line = tff_worker.exposure('a reason')
  assert '\n' not in line
  for words in ('all network interfaces', 'without authentication', 'any computation', 'a reason'):
    assert words in line


@pytest.mark.parametrize(
  'page', ['PRIVACY.md', 'SECURITY.md', 'docs/threat-models.md', 'docs/runtime.md']
)
def test_the_pages_on_threats_say_it_first(page):
  first = (ROOT.parent / page).read_text().split('\n\n')[1]
  assert 'all' in first
  assert 'network interfaces without authentication' in first.replace('> ', '').replace('\n', ' ')


# Root needs no user namespace; others do.
WITHOUT_RIGHTS = """
import os, sys
sys.path.insert(0, sys.argv[1])
import worker_launcher as launcher
real = launcher._call
def call(name, *arguments):
  if arguments == (launcher._CLONE_NEWNET,):
    raise PermissionError(1, 'refused')
  real(name, *arguments)
launcher._call = call
before = os.getuid(), os.readlink('/proc/self/ns/net'), os.readlink('/proc/self/ns/user')
try:
  launcher.isolate()
except OSError as error:
  print('forbidden', error)
else:
  after = os.getuid(), os.readlink('/proc/self/ns/net'), os.readlink('/proc/self/ns/user')
  with open('/proc/self/net/dev') as file:
    interfaces = [line.split(':')[0].strip() for line in file if ':' in line]
  print(before[0] == after[0], before[1] != after[1], before[2] != after[2], interfaces)
"""


def test_a_user_without_rights_gets_a_namespace_with_a_loopback_only():
  out, _ = run('-c', WITHOUT_RIGHTS, str(pathlib.Path(tff_worker._LAUNCHER).parent))
  if out.startswith('forbidden'):
    pytest.skip(out)
  assert out == "True True True ['lo']\n"
