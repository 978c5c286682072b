"""Griffe's extension: `Example:` in a docstring is the section that Griffe calls `Examples:`."""

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
  """Shows the sessions of docstrings as code."""

  def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
    """Renames the section, whose own name Griffe takes for a remark."""
    if obj.docstring is not None:
      obj.docstring.value = re.sub(r'(?m)^Example:$', 'Examples:', obj.docstring.value)
