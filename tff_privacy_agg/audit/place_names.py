"""A character model on names of countries and places: public-domain text for memorization.

The text is `iso3166.tab` and `zone.tab` of the time-zone database, which says of itself
that it is in the public domain; the Python package `tzdata` ships it. It holds no digits
in its names, so that a code made of digits is out of place in it.
"""

import importlib.resources
import itertools
import re
from collections.abc import Sequence

import numpy as np

from tff_privacy_agg.errors import ConfigurationError

CODE_DIGITS = 4
_PREFIX = 'code '
_END = '.'
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789 '-" + _END
ALPHABET_SIZE = len(_ALPHABET)
FEATURES = 2 * ALPHABET_SIZE


def names() -> list[str]:
  """Names in lower case, letters and blanks only, sorted; about 600.

  Raises:
    ConfigurationError: If the package `tzdata` is not installed.
  """
  try:
    folder = importlib.resources.files('tzdata.zoneinfo')
  except ModuleNotFoundError as error:
    raise ConfigurationError(
      'The package `tzdata`, which ships the place names, is not installed. Install it, or leave '
      'out the text model.'
    ) from error
  found = set()
  for file, column in (('iso3166.tab', 1), ('zone.tab', 2)):
    for line in (folder / file).read_text(encoding='utf-8').splitlines():
      if line and not line.startswith('#'):
        name = line.split('\t')[column].split('/')[-1].replace('_', ' ').lower()
        if re.fullmatch(r"[a-z '-]{3,}", name):
          found.add(name)
  return sorted(found)


def codes() -> list[str]:
  """All lines with a code: the candidates for a canary, 10 to the power of its digits."""
  digits = itertools.product('0123456789', repeat=CODE_DIGITS)
  return [_PREFIX + ''.join(one) for one in digits]


def encode(lines: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
  """Examples of 'the next character from the last two'.

  Args:
    lines: Words of the alphabet.

  Returns:
    One-hot pairs, float32 `[n, FEATURES]`, and next characters, int32 `[n]`; for every
    line one example a character and one for its end.
  """
  x, y = [], []
  for line in lines:
    numbers = [_ALPHABET.index(character) for character in f'{_END}{_END}{line}{_END}']
    for before, last, following in zip(numbers, numbers[1:], numbers[2:], strict=False):
      row = np.zeros(FEATURES, np.float32)
      row[before] = row[ALPHABET_SIZE + last] = 1
      x.append(row)
      y.append(following)
  return np.stack(x), np.array(y, np.int32)
