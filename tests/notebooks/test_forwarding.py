"""Cells that run in a kernel of another environment: what passes through, and what ends when."""

import os
import signal
import sys

import pytest
from jupyter_client.manager import KernelManager
from notebook_runs import ROOT, manager_of
from process_ends import are_gone

pytestmark = pytest.mark.integration

_SECONDS = 120
# Forwards to another kernel of this very environment.
_FORWARD = f"""
import os, sys
from tff_privacy_agg import notebook
notebook.Forwarding(get_ipython(), sys.executable, {str(ROOT)!r})
host = os.getpid()
print(host)
"""


class Host:
  """A kernel whose cells are forwarded, and a front end for it."""

  def __init__(self, folder):
    self.manager = manager_of(sys.executable, folder, {'PYTHONPATH': str(ROOT)}, KernelManager)
    self.manager.start_kernel()
    self.client = self.manager.client()
    self.client.start_channels()
    self.client.wait_for_ready(timeout=_SECONDS)
    self.pid = int(self.text(_FORWARD))

  def messages(self, code):
    """What the front end gets, message by message, until the cell has ended."""
    request = self.client.execute(code, stop_on_error=False)
    while True:
      message = self.client.get_iopub_msg(timeout=_SECONDS)
      if message['parent_header'].get('msg_id') != request:
        continue
      if message['msg_type'] == 'status' and message['content']['execution_state'] == 'idle':
        return
      if message['msg_type'] not in ('status', 'execute_input'):
        yield message['msg_type'], message['content']

  def text(self, code):
    return ''.join(content['text'] for kind, content in self.messages(code) if kind == 'stream')

  def error(self, code):
    (content,) = [content for kind, content in self.messages(code) if kind == 'error']
    return content

  def close(self):
    self.client.stop_channels()
    self.manager.shutdown_kernel(now=True)


@pytest.fixture
def host(tmp_path):
  made = Host(tmp_path / 'kernels')
  yield made
  made.close()


def test_output_values_pictures_and_errors_pass_through(host, tmp_path):
  assert int(host.text('import os; print(os.getpid())')) != host.pid

  # Output comes while the cell runs: it ends only when the test has seen the first line.
  seen = tmp_path / 'seen'
  waits = f"""
import pathlib, sys, time
print('first', flush=True)
while not pathlib.Path({str(seen)!r}).exists(): time.sleep(0.05)
print('second', file=sys.stderr)
"""
  streams = []
  for kind, content in host.messages(waits):
    streams.append((kind, content['name'], content['text'].strip()))
    seen.touch()
  assert streams == [('stream', 'stdout', 'first'), ('stream', 'stderr', 'second')]

  ((kind, content),) = host.messages('value = 6 * 7\nvalue')
  assert (kind, content['data']) == ('execute_result', {'text/plain': '42'})
  shown = list(
    host.messages('%who_ls int')
  )  # magics are those of the kernel that has the variables
  assert "'value'" in shown[0][1]['data']['text/plain']

  ((kind, content),) = host.messages(
    'import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()'
  )
  assert kind == 'display_data'
  assert 'image/png' in content['data']

  first, update = host.messages(
    "from IPython.display import display\nh = display('a', display_id=True); h.update('b')"
  )
  assert (first[0], update[0]) == ('display_data', 'update_display_data')
  assert first[1]['transient'] == update[1]['transient']
  assert update[1]['data'] == {'text/plain': "'b'"}

  error = host.error('1 / 0')
  assert (error['ename'], error['evalue']) == ('ZeroDivisionError', 'division by zero')
  assert not any('tff_privacy_agg' in line for line in error['traceback'])
  assert host.text('print(value)').strip() == '42'
  assert host.error('if')['ename'] == 'SyntaxError'
  assert list(host.messages('  ')) == []


def test_a_cell_counts_as_the_front_end_counts(host):
  request = host.client.execute('7')
  counts = {}
  while len(counts) < 2:
    message = host.client.get_iopub_msg(timeout=_SECONDS)
    if (
      message['parent_header'].get('msg_id') == request and 'execution_count' in message['content']
    ):
      counts[message['msg_type']] = message['content']['execution_count']
  assert counts['execute_result'] == counts['execute_input']


def test_an_interrupt_ends_the_cell_and_nothing_else(host):
  names = []
  for kind, content in host.messages(
    "kept = 1\nimport time\nprint('running', flush=True)\nwhile True: time.sleep(0.1)"
  ):
    if kind == 'stream':
      host.manager.interrupt_kernel()
    else:
      names.append(content['ename'])
  assert names == ['KeyboardInterrupt']
  assert host.text('print(kept)').strip() == '1'


def test_a_kernel_that_dies_is_replaced(host):
  error = host.error('lost = 1\nimport os, signal; os.kill(os.getpid(), signal.SIGKILL)')
  assert 'run the cells again from the top' in error['evalue']
  assert error['traceback'] == [error['evalue']]
  assert host.error('lost')['ename'] == 'NameError'
  assert int(host.text('import os; print(os.getpid())')) != host.pid


@pytest.mark.parametrize('end', ['restart', 'shutdown', 'kill'])
def test_the_other_kernel_ends_with_the_host(host, end):
  other = int(host.text('import os; print(os.getpid())'))
  if end == 'restart':
    host.manager.restart_kernel()
    host.client.wait_for_ready(timeout=_SECONDS)
    assert host.error('other')['ename'] == 'NameError'  # a kernel of its own until it loads again
  elif end == 'shutdown':
    host.manager.shutdown_kernel()
  else:
    os.kill(host.pid, signal.SIGKILL)
  assert are_gone([other], _SECONDS)


def test_a_kernel_that_does_not_start_is_a_sentence(tmp_path):
  import IPython

  from tff_privacy_agg import notebook

  with pytest.raises(notebook.RemoteError, match='starting a kernel with Python') as refused:
    notebook.Forwarding(IPython.InteractiveShell(), '/bin/false', tmp_path)
  assert refused.value._render_traceback_() == [str(refused.value)]


def test_where_tff_is_installed_the_extension_does_nothing(monkeypatch):
  from tff_privacy_agg import notebook

  monkeypatch.delattr(notebook, 'Forwarding')
  monkeypatch.delattr(notebook.environment, 'prepare')
  notebook.load_ipython_extension(None)
