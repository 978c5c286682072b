"""Versions of other distributions that work, and the check of those that are installed.

Imports the standard library only, as `doctor` does.
"""

import dataclasses
import importlib.metadata
import re
import sys
from typing import Literal

Status = Literal['ok', 'warning', 'failed']

REINSTALL = 'Install the tested set: `pip install --no-deps -r requirements.lock`.'
REINSTALL_CORE = 'Install the package again with pip, without --no-deps.'


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
class Requirement:
  """Versions of a distribution that work: `lowest` and above, below `limit`."""

  name: str
  lowest: tuple[int, ...] = ()
  limit: tuple[int, ...] = (sys.maxsize,)
  otherwise: Status
  why: str


REQUIREMENTS = (
  Requirement(
    name='tensorflow-federated',
    lowest=(0, 87),
    limit=(0, 88),
    otherwise='failed',
    why='The package is built on TFF 0.87.',
  ),
  Requirement(
    name='tensorflow-privacy',
    lowest=(0, 9),
    limit=(0, 10),
    otherwise='failed',
    why='TFF imports it, and fails without.',
  ),
  Requirement(
    name='dp-accounting',
    lowest=(0, 6),
    otherwise='failed',
    why='The privacy accounting is checked against 0.6 and later.',
  ),
  Requirement(
    name='jax',
    lowest=(0, 4, 14),
    limit=(0, 5),
    otherwise='failed',
    why='TFF imports it, and fails without or with a much newer one.',
  ),
  Requirement(
    name='protobuf',
    lowest=(3, 20, 3),
    limit=(5,),
    otherwise='failed',
    why='TensorFlow 2.14 takes protobuf 3.20.3 to 4.x.',
  ),
  Requirement(
    name='numpy',
    lowest=(1, 23, 5),
    limit=(2,),
    otherwise='failed',
    why='TensorFlow 2.14 is built for NumPy 1.',
  ),
  Requirement(
    name='typing-extensions',
    lowest=(4, 5),
    limit=(4, 6),
    otherwise='failed',
    why='With another one, saving checkpoints and models that hold a dict fails under '
    "TensorFlow 2.14: this __dict__ descriptor does not support '_DictWrapper' objects.",
  ),
  Requirement(
    name='cryptography',
    otherwise='warning',
    why='The secure aggregation protocol needs it; simulations do not.',
  ),
  Requirement(
    name='setuptools',
    limit=(81,),
    otherwise='warning',
    why='TensorBoard 2.14 imports pkg_resources, which later ones do not have.',
  ),
)

# What the core needs, wherever it runs.
CORE_REQUIREMENTS = tuple(
  Requirement(name=name, lowest=lowest, otherwise='failed', why='The core needs it.')
  for name, lowest in (
    ('numpy', (1, 25)),
    ('scipy', (1, 9, 3)),
    ('dp-accounting', (0, 4, 3)),
    ('cryptography', (48,)),
    ('grpcio', (1, 60)),
  )
)


def version(distribution: str) -> str | None:
  """The version that is installed; None without one."""
  try:
    return importlib.metadata.version(distribution)
  except importlib.metadata.PackageNotFoundError:
    return None


def release(version: str) -> tuple[int, ...]:
  """The first three numbers of a version."""
  return tuple(int(part) for part in re.findall(r'\d+', version)[:3])


def check(requirement: Requirement, reinstall: str = REINSTALL) -> Check:
  """Compares what is installed with what works; `reinstall` says how to get that."""
  installed = version(requirement.name)
  works = installed is not None and requirement.lowest <= release(installed) < requirement.limit
  return Check(
    name=requirement.name,
    status='ok' if works else requirement.otherwise,
    found=installed or 'not installed',
    fix='' if works else f'{requirement.why} {reinstall}',
  )
