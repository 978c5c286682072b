"""The privacy card of an exported model, as Markdown in the manner of a model card."""

from collections.abc import Mapping
from typing import Any

_LOAD = {
  'savedmodel': "model = tf.saved_model.load('{file}')  # or tf.keras.models.load_model('{file}')",
  'keras': "model = tf.keras.models.load_model('{file}')",
  'npz': "weights = np.load('{file}')",
}


def markdown(card: Mapping[str, Any]) -> str:
  """The card that `export_model` writes next to a model.

  Args:
    card: What it writes as JSON.
  """
  model = card['model']
  lines = [
    '---',
    'library_name: keras' if model['format'] != 'npz' else 'library_name: numpy',
    'tags: [federated-learning, differential-privacy]',
    '---',
    '',
    f'# Model of round {model["round"]}',
    '',
    *(f'> **{warning}**\n' for warning in card['warnings']),
    '## Privacy',
    '',
    card['summary'],
  ]
  if card['promises']:
    lines += ['', *_items(card['promises'])]
  if card['unaccounted']:
    lines += ['', f'Not covered by these numbers: {", ".join(card["unaccounted"])}.']
  lines += ['', '## Evaluation', '']
  metrics = model['metrics']
  lines += [f'- {name}: {value:.6g}' for name, value in metrics.items()] or ['Not evaluated.']
  lines += ['', '## Use', '', '```python', _LOAD[model['format']].format(file=model['file']), '```']
  if card['fields']:
    lines += ['', '## What the privacy rests on', '', '| | |', '|---|---|']
    lines += [f'| {field["label"]} | {_cell(field["text"])} |' for field in card['fields']]
  if card['assumptions']:
    lines += ['', '## Assumptions', '', *_items(card['assumptions'])]
  lines += [
    '',
    '## Provenance',
    '',
    f'- `{model["file"]}`, SHA-256 `{model["sha256"]}`',
    f'- ledger: {model["ledger_hash"] or "none"}',
    f'- tff_privacy_agg {model["version"]}',
    '',
  ]
  return '\n'.join(lines)


def _items(sentences: list[str]) -> list[str]:
  return [f'- {sentence}' for sentence in sentences]


def _cell(text: str) -> str:
  return text.replace('|', '\\|').replace('\n', ' ')
