"""Writes docs/api.md from the docstrings of all public names: python docs/build_api.py."""

import dataclasses
import importlib
import inspect
import pathlib
import re
import sys
import textwrap
import types
from collections.abc import Sequence
from typing import Any

PAGE = pathlib.Path(__file__).parent / 'api.md'
PACKAGE = 'tff_privacy_agg'
_SECTIONS = ('Args', 'Attributes', 'Returns', 'Raises', 'Yields')
_HEAD = """# API reference

Made from the docstrings by `make api`; do not edit. `import tff_privacy_agg as tpa`.
Names that are not listed here may change without notice.
"""


def page() -> str:
  """The whole reference, as Markdown."""
  package = importlib.import_module(PACKAGE)
  modules = [name for name in package.__all__ if inspect.ismodule(getattr(package, name))]
  own = [name for name in package.__all__ if name not in (*modules, '__version__')]
  parts = [_HEAD, _contents(modules)]
  parts += ['## tpa\n', *(_entry('tpa', package, name) for name in own)]
  for name in modules:
    module = getattr(package, name)
    parts.append(f'## tpa.{name}\n\n{_prose(inspect.getdoc(module) or "")}')
    known = [other for other in module.__all__ if other not in (*own, *modules)]
    parts += [_entry(f'tpa.{name}', module, other) for other in known]
  return '\n'.join(parts)


def _contents(modules: Sequence[str]) -> str:
  names = ', '.join(f'[{name}](#tpa{name})' for name in modules)
  return f'Here: [tpa](#tpa), {names}.\n'


def _entry(prefix: str, module: Any, name: str) -> str:
  value = getattr(module, name)
  if not (inspect.isclass(value) or callable(value)):
    return f'### `{prefix}.{name}`\n\n{_constant(value)}\n'
  text = _prose(inspect.getdoc(value) or '')
  methods = _methods(value) if inspect.isclass(value) else ''
  return f'### `{prefix}.{name}`\n\n```python\n{_signature(name, value)}\n```\n\n{text}{methods}'


def _constant(value: Any) -> str:
  if isinstance(value, dict):
    return f'A mapping of {", ".join(f"`{key}`" for key in value)}.'
  if isinstance(value, types.UnionType):
    return ' or '.join(f'`{one.__name__}`' for one in value.__args__)
  text = repr(value)
  return f'`{text}`' if len(text) < 80 else f'{type(value).__name__} of {len(value)}.'


def _signature(name: str, value: Any) -> str:
  """Names and defaults of the parameters; their types are in the text."""
  if inspect.isclass(value) and issubclass(value, Exception):
    return f'class {name}({value.__base__.__name__})'
  parts, keyword = [], False
  for parameter in inspect.signature(value).parameters.values():
    if parameter.kind is parameter.KEYWORD_ONLY and not keyword:
      keyword = True
      parts.append('*')
    star = {parameter.VAR_POSITIONAL: '*', parameter.VAR_KEYWORD: '**'}.get(parameter.kind, '')
    keyword = keyword or star == '*'
    default = '' if parameter.default is parameter.empty else f'={_default(parameter.default)}'
    parts.append(f'{star}{parameter.name}{default}')
  line = f'{name}({", ".join(parts)})'
  if len(line) <= 90:
    return line
  return f'{name}(\n' + textwrap.indent(',\n'.join(parts), '  ') + ',\n)'


def _default(value: Any) -> str:
  if isinstance(value, float):
    return f'{value:.6g}'
  if inspect.isfunction(value) or inspect.isclass(value):
    return f'<{value.__name__.strip("<>")}>'
  text = repr(value)
  # A factory of a dataclass's default, and what prints its address.
  return text if ' at 0x' not in text and not text.startswith('<') else '...'


def _methods(kind: type) -> str:
  lines = []
  for name, member in list(vars(kind).items()):
    if name.startswith('_') or (dataclasses.is_dataclass(kind) and name in kind.__annotations__):
      continue
    function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
    if not (inspect.isfunction(function) or isinstance(member, property)):
      continue
    summary = (inspect.getdoc(member) or '').split('\n\n')[0].replace('\n', ' ')
    if not summary:
      continue
    call = '' if isinstance(member, property) else _arguments(function)
    lines.append(f'- `.{name}{call}`: {summary}')
  return '**Methods and properties**\n\n' + '\n'.join(lines) + '\n' if lines else ''


def _arguments(function: Any) -> str:
  names = [name for name in inspect.signature(function).parameters if name not in ('self', 'cls')]
  return f'({", ".join(names)})'


def _prose(text: str) -> str:
  """A Google docstring as Markdown: sections as lists, indented code as code."""
  blocks = []
  for block in re.split(r'\n{2,}', text.strip()):
    head, _, rest = block.partition('\n')
    if head.rstrip(':') in _SECTIONS and head.endswith(':'):
      blocks.append(f'**{head.rstrip(":")}**\n\n{_items(textwrap.dedent(rest))}')
    elif head == 'Example:':
      blocks.append(f'```python\n{textwrap.dedent(rest)}\n```')
    elif all(line.startswith('    ') for line in block.splitlines()):
      blocks.append(f'```python\n{textwrap.dedent(block)}\n```')
    else:
      blocks.append(block)
  return '\n\n'.join(blocks) + '\n\n'


def _items(text: str) -> str:
  """`name: text` with hanging lines as a list; anything else as it is."""
  items: list[str] = []
  for line in text.splitlines():
    found = re.match(r'(\*{0,2}[\w.]+): (.*)', line)
    if found:
      items.append(f'- `{found[1]}`: {found[2]}')
    elif items:
      items[-1] += f' {line.strip()}'
    else:
      return text
  return '\n'.join(items)


if __name__ == '__main__':
  PAGE.write_text(page(), encoding='utf-8')
  sys.stdout.write(f'{PAGE.name}: {len(PAGE.read_text(encoding="utf-8").splitlines())} lines\n')
