"""No worker outlives the program that uses it, however the program ends."""

import os
import pathlib
import signal
import subprocess
import sys
import time
import uuid

import pytest
from process_ends import wait_for

pytestmark = pytest.mark.integration

# Each program says `ready` once its worker runs, and then ends in its own way.
HEAD = """
import time
import numpy as np
import tensorflow_federated as tff
import tff_privacy_agg.runtime as runtime

def say_ready():
  print('ready', flush=True)

add = tff.federated_computation(
  lambda x: tff.federated_sum(x), tff.FederatedType(np.int32, tff.CLIENTS)
)
"""
OURS = """
kept, installed = runtime.simulation_context(), runtime.simulation_context()
assert add([1, 2]) == 3
say_ready()
"""
IN_A_CALL = """
import tensorflow as tf

@tff.tensorflow.computation
def endless():
  return tf.while_loop(lambda i: i >= 0, lambda i: (i + 1) % 1000, [tf.constant(0)])

runtime.simulation_context()
say_ready()
endless()
"""
IN_WITH = """
with runtime.simulation_context():
  say_ready()
  time.sleep(60)
"""
TFF_NATIVE = 'assert add([1, 2]) == 3\nsay_ready()\n'
TFF_TEST = """
tff.backends.test.set_sync_test_cpp_execution_context()
assert add([1, 2]) == 3
# A notebook's namespace, a fixture or a cache may hold it.
time.context = tff.framework.get_context_stack().current
say_ready()
"""
# As in a shell's background jobs; TFF's finalizer would wait for its worker for ever.
DEAF = 'import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n'
RAISE = "raise ValueError('on purpose')\n"

# name: program, signal sent once it is ready, exit code, what its standard error ends with.
PROGRAMS = {
  'normal exit': (OURS, None, 0, ''),
  'ctrl-C': (IN_WITH, signal.SIGINT, -signal.SIGINT, 'KeyboardInterrupt'),
  'ctrl-C in a call': (IN_A_CALL, signal.SIGINT, -signal.SIGINT, 'KeyboardInterrupt'),
  'SIGTERM': (IN_WITH, signal.SIGTERM, -signal.SIGTERM, ''),
  'SIGKILL in a call': (IN_A_CALL, signal.SIGKILL, -signal.SIGKILL, ''),
  'TFF native context': (TFF_NATIVE, None, 0, ''),
  'TFF native context, ours, exception': (TFF_NATIVE + OURS + RAISE, None, 1, 'on purpose'),
  'TFF test context, held': (TFF_TEST, None, 0, ''),
  'TFF native context, interrupts ignored': (DEAF + TFF_NATIVE, None, 0, ''),
  'TFF test context, held, interrupts ignored': (DEAF + TFF_TEST, None, 0, ''),
}


def workers_marked(mark):
  """Returns the pids of running workers, and of their relays, whose environment has `mark`."""
  found = []
  for process in pathlib.Path('/proc').iterdir():
    try:
      command = (process / 'cmdline').read_bytes()
      is_worker = b'worker_binary' in command or b'worker_launcher' in command
      if is_worker and mark.encode() in (process / 'environ').read_bytes():
        found.append(int(process.name))
    except OSError:
      continue  # It ended while being looked at.
  return found


@pytest.mark.parametrize('name', PROGRAMS)
def test_no_worker_is_left(name, tmp_path):
  body, sent, code, last_error = PROGRAMS[name]
  mark = f'TPA_TEST_MARK={uuid.uuid4()}'
  out, err = tmp_path / 'out', tmp_path / 'err'
  environment = {**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3'}
  environment.update([mark.split('=')])
  temporary = tmp_path / 'temporary'
  temporary.mkdir()
  environment['TMPDIR'] = str(temporary)
  environment['PYTHONPATH'] = os.pathsep.join(path for path in sys.path if path)
  with out.open('wb') as out_file, err.open('wb') as err_file:
    process = subprocess.Popen(
      [sys.executable, '-c', HEAD + body],
      stdin=subprocess.DEVNULL,
      stdout=out_file,
      stderr=err_file,
      env=environment,
      start_new_session=True,
    )
    try:
      if sent is not None:
        assert wait_for(lambda: 'ready' in out.read_text(), 60), err.read_text()
        assert workers_marked(mark)
        time.sleep(0.5)  # Into the sleep, or the call.
        # As a terminal does: to the whole process group.
        os.killpg(process.pid, sent) if sent == signal.SIGINT else process.send_signal(sent)
      assert process.wait(60) == code, err.read_text()
      assert 'ready' in out.read_text()
      assert wait_for(lambda: not workers_marked(mark), 5)
      assert wait_for(lambda: not list(temporary.glob('tff-worker-*')), 5)
    finally:
      process.kill()
      process.wait()
      for pid in workers_marked(mark):
        os.kill(pid, signal.SIGKILL)
  text = err.read_text().strip()
  assert text.endswith(last_error)
  # One traceback at most: the program's own, none of the cleaning up.
  assert text.count('Traceback') == (1 if last_error else 0), text
  assert 'Exception ignored' not in text
  assert 'was destroyed' not in text
