"""Checks whether this installation can run the package, and says what to fix.

Run it with `python -m tff_privacy_agg.runtime.doctor`, with `--json` for a report that
a program reads. Like `requirements` it imports the standard library only, and all
else inside the check that is about it: a broken installation is what it is for.
Without TensorFlow and TFF it checks the core, which needs neither.
"""

import dataclasses
import importlib
import json
import pathlib
import platform
import sys
import time
import types
from collections.abc import Callable

from tff_privacy_agg._lazy import NO_TEMPORARY, SET_TMPDIR
from tff_privacy_agg.runtime import requirements
from tff_privacy_agg.runtime.requirements import REINSTALL, Check, Status

_ENTROPY = pathlib.Path('/proc/sys/kernel/random/uuid')
# How long the slow checks take, in parts of their whole: the import three quarters.
_WHOLE, _IMPORTED, _STARTED = 8, 6, 7


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
  core = (
    requirements.check(one, requirements.REINSTALL_CORE) for one in requirements.CORE_REQUIREMENTS
  )
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
  versions = {name: requirements.version(name) for name in ('tensorflow', 'tensorflow-cpu')}
  installed = {name: version for name, version in versions.items() if version}
  found = ', '.join(f'{name} {version}' for name, version in installed.items())
  if len(installed) == 2:
    fix = 'The two share one folder: uninstall both, then install one.'
    return Check(name='tensorflow', status='warning', found=found, fix=fix)
  if any((2, 14) <= requirements.release(version) < (2, 15) for version in installed.values()):
    return Check(name='tensorflow', status='ok', found=found)
  return Check(
    name='tensorflow',
    status='failed',
    found=found or 'not installed',
    fix=f"TFF 0.87's worker is built for TensorFlow 2.14. {REINSTALL}",
  )


def _check_protobuf_implementation() -> Check:
  name = 'protobuf implementation'
  try:
    module = importlib.import_module('google.protobuf.internal.api_implementation')
  except ImportError as error:
    return Check(name=name, status='failed', found=str(error), fix=REINSTALL)
  found = module.Type()
  if found == 'upb':
    return Check(name=name, status='ok', found=found)
  return Check(
    name=name,
    status='warning',
    found=found,
    fix='Building processes is many times slower than with `upb`: unset '
    f'PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION. {REINSTALL}',
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
    fix = '' if total == 4 else f'TFF sums wrongly. {REINSTALL}'
    found = f'1 + 2 + 9 modulo 8 gives {total}'
    done.append(Check(name=name, status=status, found=found, fix=fix))
  except Exception as error:
    found = f'{type(error).__name__}: {error}'
    fix = SET_TMPDIR if NO_TEMPORARY in found else REINSTALL
    done.append(Check(name=name, status='failed', found=found, fix=fix))
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
  if not any(
    requirements.version(name) for name in ('tensorflow-federated', 'tensorflow', 'tensorflow-cpu')
  ):
    return _core_checks()
  return [
    _check_python(),
    _check_tensorflow(),
    *(requirements.check(requirement) for requirement in requirements.REQUIREMENTS),
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
