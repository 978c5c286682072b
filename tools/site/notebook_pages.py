"""A notebook, as it was run, as Markdown."""

import base64
import json
import pathlib
from typing import Any


def title(path: pathlib.Path) -> str:
  """The first heading of a notebook."""
  return ''.join(_cells(path)[0]['source']).partition('\n')[0].removeprefix('# ')


def converted(path: pathlib.Path) -> tuple[str, dict[str, bytes]]:
  """A notebook's page, and its pictures by name."""
  parts: list[str] = []
  pictures: dict[str, bytes] = {}
  for cell in _cells(path):
    source = ''.join(cell['source']).strip('\n')
    if cell['cell_type'] == 'markdown':
      parts.append(source)
      continue
    if 'setup' in cell['metadata'].get('tags', []):
      summary = 'Set up, where TensorFlow Federated is not installed'
      parts.append(f'??? note "{summary}"\n\n{_indented(_fence("python", source))}')
      continue
    parts.append(_fence('python', source))
    for output in cell['outputs']:
      parts.append(_output(output, f'{path.stem}_', pictures))
  return '\n\n'.join(parts) + '\n', pictures


def _cells(path: pathlib.Path) -> list[dict[str, Any]]:
  return json.loads(path.read_text(encoding='utf-8'))['cells']


def _output(output: dict[str, Any], prefix: str, pictures: dict[str, bytes]) -> str:
  if output['output_type'] == 'stream':
    return _fence('{ .text .output }', ''.join(output['text']).rstrip())
  data = output['data']
  if 'image/png' not in data:
    return _fence('{ .text .output }', ''.join(data['text/plain']))
  name = f'{prefix}{len(pictures) + 1}.png'
  pictures[name] = base64.b64decode(''.join(data['image/png']))
  return f'![Output of the cell above]({name})'


def _fence(language: str, text: str) -> str:
  return f'```{language}\n{text}\n```'


def _indented(text: str) -> str:
  return '\n'.join(f'    {line}' if line else '' for line in text.splitlines())
