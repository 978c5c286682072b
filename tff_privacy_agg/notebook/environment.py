"""The environment with Python 3.11 and TFF that a notebook's cells run in, made once from the lock.

Which package index is used is the environment's business: `UV_DEFAULT_INDEX` and the other variables
of uv, or `PIP_INDEX_URL`.
"""

import contextlib
import hashlib
import importlib.util
import os
import pathlib
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

_PACKAGE = pathlib.Path(__file__).parents[1]
# The last lines of what a failed command said; the reason is among them.
_LINES_SHOWN = 8


class EnvironmentFailed(Exception):
  """The environment cannot be made: which step failed, and how to do it by hand."""


def prepare(tell: Callable[[str], None]) -> tuple[pathlib.Path, pathlib.Path]:
  """Finds the environment, or makes it.

  Args:
    tell: Takes a line for the user before each step that takes time.

  Returns:
    Its interpreter, and the folder from which to import this package there.

  Raises:
    EnvironmentFailed: If this machine cannot have it, or a step failed.
  """
  if not (sys.platform == 'linux' and platform.machine() == 'x86_64'):
    raise EnvironmentFailed(
      f'TensorFlow Federated 0.87 exists for Linux x86-64 only; this is {sys.platform} '
      f'{platform.machine()}. Open the notebook on such a machine; tff_privacy_agg.accounting and '
      'tff_privacy_agg.secagg work here too.'
    )
  lock, cache = _lock(), _cache()
  home = cache / f'python3.11-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}'
  complete = home / 'complete'
  with _alone(cache):
    if not complete.exists():
      _make(home, lock, complete, tell)
    return home / 'bin' / 'python', _code(cache)


def _make(
  home: pathlib.Path, lock: pathlib.Path, complete: pathlib.Path, tell: Callable[[str], None]
) -> None:
  tell('Making an environment with Python 3.11: about 470 MB of wheels, once on this machine.')
  shutil.rmtree(home, ignore_errors=True)
  uv = _uv()
  create = ['venv', '--quiet', '--python', '3.11', str(home)]
  install = ['pip', 'install', '--quiet', '--python', str(home / 'bin' / 'python')]
  install += ['--no-deps', '--require-hashes', '-r', str(lock)]
  by_hand = [['uv', *create], ['uv', *install], ['touch', str(complete)]]
  _run('making a virtual environment with Python 3.11', [*uv, *create], by_hand)
  tell('Installing requirements.lock there.')
  _run('installing requirements.lock', [*uv, *install], by_hand)
  complete.touch()


def _run(step: str, command: Sequence[str], by_hand: Sequence[Sequence[str]]) -> None:
  environment = dict(os.environ)
  if 'PIP_INDEX_URL' in environment and 'UV_INDEX_URL' not in environment:
    environment.setdefault('UV_DEFAULT_INDEX', environment['PIP_INDEX_URL'])
  try:
    done = subprocess.run(
      command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment
    )
    failed, said = done.returncode != 0, done.stderr + done.stdout
  except OSError as error:
    failed, said = True, str(error)
  if failed:
    last = '\n'.join(f'  {line}' for line in said.strip().splitlines()[-_LINES_SHOWN:])
    commands = '\n'.join(f'  {shlex.join(one)}' for one in by_hand)
    raise EnvironmentFailed(
      f'This step failed: {step}.\n{last}\nBy hand, in a terminal:\n{commands}\n'
      'then run this cell again.'
    )


def _uv() -> list[str]:
  """The command that runs uv, which is installed next to this Python if there is none."""
  if found := shutil.which('uv'):
    return [found]
  module = [sys.executable, '-m', 'uv']
  if importlib.util.find_spec('uv') is None:
    install = [sys.executable, '-m', 'pip', 'install', '--quiet', 'uv']
    _run('installing uv', install, [install])
  return module


def _lock() -> pathlib.Path:
  """The lock: in the package if it comes from a wheel, next to it in a clone."""
  for folder in (_PACKAGE, _PACKAGE.parent):
    if (folder / 'requirements.lock').exists():
      return folder / 'requirements.lock'
  raise EnvironmentFailed(
    'This installation of tff_privacy_agg has no requirements.lock. Install it again from a wheel '
    'or a clone.'
  )


def _cache() -> pathlib.Path:
  cache = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  return pathlib.Path(cache) / 'tff_privacy_agg'


@contextlib.contextmanager
def _alone(cache: pathlib.Path) -> Iterator[None]:
  """Lets one notebook at a time make the environment; the others wait, and find it."""
  import fcntl  # not on Windows

  cache.mkdir(parents=True, exist_ok=True)
  with (cache / 'in-use').open('w') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    yield


def _code(cache: pathlib.Path) -> pathlib.Path:
  """A folder with this package and nothing that is made for another Python.

  A clone is one. Of an installed package a copy is kept for each of its contents.
  """
  if (_PACKAGE.parent / 'setup.py').exists():
    return _PACKAGE.parent
  digest = hashlib.sha256()
  for path in sorted(_PACKAGE.rglob('*.py')):
    digest.update(f'{path.relative_to(_PACKAGE)}\n'.encode() + path.read_bytes())
  folder = cache / f'code-{digest.hexdigest()[:12]}'
  if not folder.exists():
    copying = cache / 'copying'
    shutil.rmtree(copying, ignore_errors=True)
    ignored = shutil.ignore_patterns('__pycache__')
    shutil.copytree(_PACKAGE, copying / _PACKAGE.name, ignore=ignored)
    copying.rename(folder)
  return folder
