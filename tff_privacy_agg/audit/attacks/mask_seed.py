"""A mask from a seed of 32 bits: tried out, because an update is small and a mask is not."""

import os
import time

import numpy as np

from tff_privacy_agg.audit.attacks.report import AttackReport
from tff_privacy_agg.secagg.primitives import prg

_BITS, _COORDINATES, _TRIES = 20, 64, 2**15
_LARGEST = 2**10


def run(seed: int = 0) -> AttackReport:
  """Tries seeds until what is left of a masked vector is as small as updates are.

  The demonstration tries 2**15 of the 2**32 seeds, the true one among them, and
  measures how long all would take. Flower folds a shared secret to 32 bits in this way
  for its masks (its issue 7522).
  """
  rng = np.random.default_rng(seed)
  update = rng.integers(-_LARGEST, _LARGEST, _COORDINATES)
  first = int(rng.integers(0, 2**32 - _TRIES))
  key = first + int(rng.integers(0, _TRIES))
  sent = (update + _folded_mask(key)) % 2**_BITS
  started = time.process_time()
  found = [one for one in range(first, first + _TRIES) if _small(sent - _folded_mask(one))]
  days = (time.process_time() - started) / _TRIES * 2**32 / 86_400
  bared = len(found) == 1 and np.array_equal(_centred(sent - _folded_mask(found[0])), update)

  masked = [update.astype('<u4')]
  prg.add_masks(masked, plus=[os.urandom(32)], minus=[])
  ours = [
    one
    for one in range(first, first + _TRIES)
    if _small(masked[0].astype(np.int64) - _folded_mask(one))
    or _small(masked[0].astype(np.int64) - _short_key_mask(one))
  ]
  return AttackReport(
    name='mask_seed',
    attempt=f'tries {_TRIES:,} seeds on the masked vector of one client',
    unprotected=(
      f'{"the seed, and every number of the update" if bared else "nothing"}; all 2**32 seeds '
      f'take {days:.1f} days on one core'
    ),
    ours=f'{len(ours)} seeds fit: the key has 256 bits, and masks come from AES-256',
    succeeded=bared,
    defended=not ours,
    figures={'days_for_all_seeds': days, 'seeds_that_fit_ours': len(ours)},
  )


def _folded_mask(seed: int) -> np.ndarray:
  return np.random.RandomState(seed).randint(0, 2**_BITS, _COORDINATES)


def _short_key_mask(seed: int) -> np.ndarray:
  """Our masks under a key of which only 32 bits are not zero."""
  mask = [np.zeros(_COORDINATES, '<u4')]
  prg.add_masks(mask, plus=[seed.to_bytes(32, 'little')], minus=[])
  return mask[0].astype(np.int64)


def _centred(values: np.ndarray) -> np.ndarray:
  return (values + 2 ** (_BITS - 1)) % 2**_BITS - 2 ** (_BITS - 1)


def _small(values: np.ndarray) -> bool:
  return bool(np.abs(_centred(values)).max() <= _LARGEST)
