"""Checks whether this installation can run the package, and says what to fix.

Run it with `python -m tff_privacy_agg.runtime.doctor`, with `--json` for a report that
a program reads. It imports the standard library only, and everything else
inside the check that is about it: a broken installation is what it is for.
Without TensorFlow and TFF it checks the core, which needs neither.
"""

import dataclasses
import importlib
import importlib.metadata
import json
import pathlib
import platform
import re
import sys
import time
import types
from collections.abc import Callable
from typing import Literal

Status = Literal['ok', 'warning', 'failed']

_ENTROPY = pathlib.Path('/proc/sys/kernel/random/uuid')
# How long the slow checks take, in parts of their whole: the import three quarters.
_WHOLE, _IMPORTED, _STARTED = 8, 6, 7
_REINSTALL = 'Install the tested set: `pip install --no-deps -r requirements.lock`.'
_REINSTALL_CORE = 'Install the package again with pip, without --no-deps.'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
  """One finding.

  Attributes:
    name: What was looked at.
    status: `warning` means that most of the package works, `failed` that it
      does not, or that it fails later.
    found: What was found.
    fix: What to do about it, one sentence; empty if the status is `ok`.
  """

  name: str
  status: Status
  found: str
  fix: str = ''


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Requirement:
  """Versions of a distribution that work: `lowest` and above, below `limit`."""

  name: str
  lowest: tuple[int, ...] = ()
  limit: tuple[int, ...] = (sys.maxsize,)
  otherwise: Status
  why: str


_REQUIREMENTS = (
  _Requirement(
    name='tensorflow-federated',
    lowest=(0, 87),
    limit=(0, 88),
    otherwise='failed',
    why='The package is built on TFF 0.87.',
  ),
  _Requirement(
    name='tensorflow-privacy',
    lowest=(0, 9),
    limit=(0, 10),
    otherwise='failed',
    why='TFF imports it, and fails without.',
  ),
  _Requirement(
    name='dp-accounting',
    lowest=(0, 6),
    otherwise='failed',
    why='The privacy accounting is checked against 0.6 and later.',
  ),
  _Requirement(
    name='jax',
    lowest=(0, 4, 14),
    limit=(0, 5),
    otherwise='failed',
    why='TFF imports it, and fails without or with a much newer one.',
  ),
  _Requirement(
    name='protobuf',
    lowest=(3, 20, 3),
    limit=(5,),
    otherwise='failed',
    why='TensorFlow 2.14 takes protobuf 3.20.3 to 4.x.',
  ),
  _Requirement(
    name='numpy',
    lowest=(1, 23, 5),
    limit=(2,),
    otherwise='failed',
    why='TensorFlow 2.14 is built for NumPy 1.',
  ),
  _Requirement(
    name='typing-extensions',
    lowest=(4, 5),
    limit=(4, 6),
    otherwise='failed',
    why='With another one, saving checkpoints and models that hold a dict fails under '
    "TensorFlow 2.14: this __dict__ descriptor does not support '_DictWrapper' objects.",
  ),
  _Requirement(
    name='cryptography',
    otherwise='warning',
    why='The secure aggregation protocol needs it; simulations do not.',
  ),
  _Requirement(
    name='setuptools',
    limit=(81,),
    otherwise='warning',
    why='TensorBoard 2.14 imports pkg_resources, which later ones do not have.',
  ),
)

# What the core needs, wherever it runs.
_CORE_REQUIREMENTS = tuple(
  _Requirement(name=name, lowest=lowest, otherwise='failed', why='The core needs it.')
  for name, lowest in (
    ('numpy', (1, 25)),
    ('scipy', (1, 9, 3)),
    ('dp-accounting', (0, 4, 3)),
    ('cryptography', (48,)),
    ('grpcio', (1, 60)),
  )
)


def _version(distribution: str) -> str | None:
  try:
    return importlib.metadata.version(distribution)
  except importlib.metadata.PackageNotFoundError:
    return None


def _release(version: str) -> tuple[int, ...]:
  return tuple(int(part) for part in re.findall(r'\d+', version)[:3])


def _check_requirement(requirement: _Requirement, reinstall: str = _REINSTALL) -> Check:
  version = _version(requirement.name)
  works = version is not None and requirement.lowest <= _release(version) < requirement.limit
  return Check(
    name=requirement.name,
    status='ok' if works else requirement.otherwise,
    found=version or 'not installed',
    fix='' if works else f'{requirement.why} {reinstall}',
  )


def _platform() -> str:
  return f'{platform.python_version()} on {platform.system()} {platform.machine()}'


def _core_checks() -> list[Check]:
  """Checks of an installation without TensorFlow and TFF."""
  old = sys.version_info < (3, 11)
  python = Check(
    name='Python',
    status='failed' if old else 'ok',
    found=_platform(),
    fix='The core needs Python 3.11 or newer.' if old else '',
  )
  missing = Check(
    name='TFF import',
    status='warning',
    found='TensorFlow Federated is not installed',
    fix='plan, epsilon, verify, statement, report and keys work without; training, audits and '
    'statistics need it: `make env` with Python 3.11 on Linux x86-64.',
  )
  core = (_check_requirement(one, _REINSTALL_CORE) for one in _CORE_REQUIREMENTS)
  return [python, *core, missing]


def _check_python() -> Check:
  found = _platform()
  if sys.version_info[:2] == (3, 11) and found.endswith('on Linux x86_64'):
    return Check(name='Python', status='ok', found=found)
  return Check(
    name='Python',
    status='failed',
    found=found,
    fix='TFF 0.87 runs on Python 3.11, Linux, x86_64 only: use such a machine or container.',
  )


def _check_tensorflow() -> Check:
  versions = {name: _version(name) for name in ('tensorflow', 'tensorflow-cpu')}
  installed = {name: version for name, version in versions.items() if version}
  found = ', '.join(f'{name} {version}' for name, version in installed.items())
  if len(installed) == 2:
    fix = 'The two share one folder: uninstall both, then install one.'
    return Check(name='tensorflow', status='warning', found=found, fix=fix)
  if any((2, 14) <= _release(version) < (2, 15) for version in installed.values()):
    return Check(name='tensorflow', status='ok', found=found)
  return Check(
    name='tensorflow',
    status='failed',
    found=found or 'not installed',
    fix=f"TFF 0.87's worker is built for TensorFlow 2.14. {_REINSTALL}",
  )


def _check_protobuf_implementation() -> Check:
  name = 'protobuf implementation'
  try:
    module = importlib.import_module('google.protobuf.internal.api_implementation')
  except ImportError as error:
    return Check(name=name, status='failed', found=str(error), fix=_REINSTALL)
  found = module.Type()
  if found == 'upb':
    return Check(name=name, status='ok', found=found)
  return Check(
    name=name,
    status='warning',
    found=found,
    fix='Building processes is many times slower than with `upb`: unset '
    f'PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION. {_REINSTALL}',
  )


def _check_entropy() -> Check:
  name = 'entropy of noise keys'
  try:
    _ENTROPY.read_text()
  except OSError as error:
    fix = f'Noise keys are read from {_ENTROPY}: mount /proc/sys readable in this container.'
    return Check(name=name, status='failed', found=str(error), fix=fix)
  return Check(name=name, status='ok', found=str(_ENTROPY))


def _check_runtime(progress: Callable[[int, int], None]) -> list[Check]:
  """Imports TFF, starts a worker, and sums 3 clients' values; stops where one fails."""
  name = 'TFF import'
  done = []
  try:
    started = time.monotonic()
    importlib.import_module('tensorflow_federated')
    done.append(Check(name=name, status='ok', found=f'{time.monotonic() - started:.1f} s'))
    progress(_IMPORTED, _WHOLE)

    name = 'TFF runtime'
    from tff_privacy_agg import runtime
    from tff_privacy_agg._tff import compat

    started = time.monotonic()
    with runtime.simulation_context() as context:
      found = f'worker ready in {time.monotonic() - started:.1f} s'
      done.append(Check(name=name, status='ok', found=found))
      done.append(_check_port(context.isolated))
      progress(_STARTED, _WHOLE)

      name = 'secure sum'
      total = _sum_of_three(compat)
    status: Status = 'ok' if total == 4 else 'failed'
    fix = '' if total == 4 else f'TFF sums wrongly. {_REINSTALL}'
    found = f'1 + 2 + 9 modulo 8 gives {total}'
    done.append(Check(name=name, status=status, found=found, fix=fix))
  except Exception as error:
    found = f'{type(error).__name__}: {error}'
    done.append(Check(name=name, status='failed', found=found, fix=_REINSTALL))
  return done


def _check_port(isolated: bool) -> Check:
  name = "port of a simulation's worker"
  if isolated:
    return Check(name=name, status='ok', found='none: it runs in a network namespace of its own')
  return Check(
    name=name,
    status='warning',
    found='open on all network interfaces without authentication, to whoever reaches this host',
    fix='Allow unprivileged user namespaces (`unshare -Urn true` must work), or run simulations '
    'only where nobody else reaches the host. `serve` and `client` open no such port.',
  )


def _sum_of_three(compat: types.ModuleType) -> int:
  import numpy as np

  clients = compat.FederatedType(np.int32, compat.CLIENTS)
  sum_modulo_8 = compat.federated_computation(
    lambda x: compat.federated_secure_modular_sum(x, 8), clients
  )
  return int(sum_modulo_8([1, 2, 9]))


def diagnose(progress: Callable[[int, int], None] = lambda done, whole: None) -> list[Check]:
  """Runs every check, and starts a TFF worker for some seconds.

  Args:
    progress: Told which part of the time has gone, and the parts of the whole.

  Returns:
    The findings, whatever is broken. Missing pieces are findings, not errors.
  """
  if not any(_version(name) for name in ('tensorflow-federated', 'tensorflow', 'tensorflow-cpu')):
    return _core_checks()
  return [
    _check_python(),
    _check_tensorflow(),
    *(_check_requirement(requirement) for requirement in _REQUIREMENTS),
    _check_protobuf_implementation(),
    _check_entropy(),
    *_check_runtime(progress),
  ]


def show(checks: list[Check], *, as_json: bool = False) -> int:
  """Prints findings.

  Args:
    checks: From `diagnose`.
    as_json: Whether to print one JSON array in place of lines.

  Returns:
    The exit code: 0 if no check failed, else 1.
  """
  if as_json:
    print(json.dumps([dataclasses.asdict(check) for check in checks], indent=2))
  else:
    for check in checks:
      print(f'{check.status:8} {check.name}: {check.found}')
      if check.fix:
        print(f'         {check.fix}')
  return int(any(check.status == 'failed' for check in checks))


def main(*, as_json: bool = False) -> int:
  """Runs every check and prints the findings; arguments and exit code as of `show`."""
  return show(diagnose(), as_json=as_json)


if __name__ == '__main__':
  sys.exit(main(as_json='--json' in sys.argv[1:]))
