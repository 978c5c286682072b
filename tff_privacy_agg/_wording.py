"""Words of outputs and errors."""

from typing import Any


def counted(number: Any, noun: str, plural: str | None = None, *, spec: str = '') -> str:
  """A number and what it counts, in the singular for one.

  Args:
    number: How many.
    noun: What one of them is called.
    plural: What several are called; None adds an s.
    spec: How the number is formatted.

  Examples:
    >>> counted(1, 'round'), counted(12_000, 'client', spec=','), counted(0, 'leaf', 'leaves')
    ('1 round', '12,000 clients', '0 leaves')
  """
  return f'{number:{spec}} {noun if number == 1 else plural or noun + "s"}'
