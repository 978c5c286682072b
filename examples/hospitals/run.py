"""Starts a server and three hospitals, each a process of its own, on this machine.

    python examples/hospitals/run.py [--rounds 8] [--directory DIRECTORY]

Keys, configurations and results go to the directory. Ctrl-C ends all of it; the same command
resumes.
"""

import argparse
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent.absolute()
NAMES = ('north', 'south', 'east')

SERVER = """\
[run]
task = "breast-cancer"
rounds = {rounds}
directory = "run"

[process]
source = "hospitals:process"
evaluate = "hospitals:evaluate"

[server]
listen = "127.0.0.1:{port}"

[session]
mode = "authenticated"

[deadlines]
join = 120
work = 120
round = 20
"""
CLIENT = """\
[run]
task = "breast-cancer"
directory = "state/{name}"

[process]
source = "hospitals:process"

[data]
source = "hospitals:{name}"

[client]
name = "{name}"
server = "127.0.0.1:{port}"
reconnect_seconds = 120
"""
KEYS = """
[keys]
ca = "keys/ca.pem"
certificate = "keys/{name}.pem"
key = "keys/{name}.key"
identity = "keys/{name}.identity"
roster = "keys/roster.json"
"""


def free_port():
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    return probe.getsockname()[1]


def prepare(directory, rounds):
  """Writes keys once, and the configurations."""
  directory.mkdir(parents=True, exist_ok=True)
  if not (directory / 'keys' / 'roster.json').exists():
    command('keys', directory / 'keys', *NAMES).check_returncode()
  shutil.copy(HERE / 'hospitals.py', directory)
  port = free_port()
  (directory / 'server.toml').write_text(
    SERVER.format(rounds=rounds, port=port) + KEYS.format(name='server')
  )
  for name in NAMES:
    text = CLIENT.format(name=name, port=port) + KEYS.format(name=name)
    (directory / f'{name}.toml').write_text(text)


def command_line(*arguments):
  code = 'import sys; from tff_privacy_agg.cli import main; sys.exit(main())'
  return [sys.executable, '-c', code, *map(str, arguments)]


def command(*arguments):
  return subprocess.run(command_line(*arguments), check=False)


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--rounds', type=int, default=8)
  parser.add_argument('--directory', type=pathlib.Path, default=pathlib.Path('runs/hospitals'))
  args = parser.parse_args()
  prepare(args.directory, args.rounds)
  # A group of their own: ctrl-C reaches this program, which ends them in order.
  started = [
    subprocess.Popen(
      command_line(kind, '--config', args.directory / f'{name}.toml'), start_new_session=True
    )
    for kind, name in [('serve', 'server'), *(('client', name) for name in NAMES)]
  ]
  try:
    codes = [process.wait() for process in started]
  except KeyboardInterrupt:
    codes = [130]
  finally:
    end(started)
  sys.exit(max(map(abs, codes)))


def end(started):
  for process in started:
    if process.poll() is None:
      process.send_signal(signal.SIGINT)
  deadline = time.monotonic() + 15
  for process in started:
    try:
      process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()


if __name__ == '__main__':
  main()
