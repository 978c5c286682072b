"""The released model of a run directory, with its privacy card next to it."""

import json
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

import tff_privacy_agg
from tff_privacy_agg import _validate
from tff_privacy_agg._files import (
  digest,
  model_metrics,
  new_directory,
  read_json,
  write_bytes,
  write_json,
)
from tff_privacy_agg._names import EXPORT_FORMATS
from tff_privacy_agg._tff import keras_models
from tff_privacy_agg._tff.checkpoints import Checkpoints, system_errors
from tff_privacy_agg.errors import ConfigurationError, LedgerError
from tff_privacy_agg.learning.export.model_card import markdown
from tff_privacy_agg.ledger import LedgerRecord
from tff_privacy_agg.ledger.reader import checked

_FILES = {'savedmodel': 'model', 'keras': 'model.keras', 'npz': 'model.npz'}
_ALTHOUGH = 'Exported although the ledger does not vouch for it: {}'


@_validate.plain_numbers
def export_model(
  run_directory: str | os.PathLike[str],
  path: str | os.PathLike[str],
  *,
  model: Callable[[], Any] | None = None,
  format: str = 'savedmodel',
  round_number: int | None = None,
  anyway: bool = False,
) -> dict[str, Any]:
  """Writes the released weights of a training, and the privacy card next to them.

  The directory gets the model (`model`, `model.keras` or `model.npz`), `privacy_card.json` and
  `MODEL_CARD.md`. What is exported is what the ledger accounts for: unless `anyway` is set, the ledger
  must verify, each round that was charged must have settled, and the last checkpoint must be that of
  the last settled round.

  Args:
    run_directory: Of `tpa.train`, of the command `train`, or of a server.
    path: A directory that does not exist yet.
    model: Makes the model that was trained, a Keras model or a `VariableModel` around one. May be None
      for 'npz', whose arrays are then numbered.
    format: 'savedmodel', 'keras' or 'npz'.
    round_number: Of one of the kept checkpoints; None takes the last.
    anyway: Exports what the ledger does not vouch for; the card then says why.

  Returns:
    The card, as in `privacy_card.json`.

  Raises:
    ConfigurationError: If there is no such checkpoint, or the model is another one.
    LedgerError: If the ledger does not vouch for the model.
  """
  _validate.one_of(EXPORT_FORMATS, format=format)
  run, target = pathlib.Path(run_directory), pathlib.Path(path)
  if target.exists():
    raise ConfigurationError(f'{target} exists; an export makes a new directory. Name another.')
  checkpoints = Checkpoints(run / 'checkpoints')
  rounds = checkpoints.rounds()
  if not rounds:
    raise ConfigurationError(
      f'{run} has no checkpoint of a training. Name the run directory of one that ran a round.'
    )
  chosen = rounds[-1] if round_number is None else round_number
  if chosen not in rounds:
    raise ConfigurationError(
      f'{run} keeps no checkpoint of round {chosen}; it keeps those of {", ".join(map(str, rounds))}. '
      'Choose one of these.'
    )
  record, doubts, lost = _doubts(run / 'ledger.jsonl', rounds[-1] if round_number is None else None)
  if doubts and not anyway:
    raise LedgerError(
      f'The ledger does not vouch for the model of round {chosen}: {doubts[0]} Exporting anyway '
      'needs `anyway=True`, and the card then says so.'
    )
  weights = getattr(checkpoints.value(chosen), 'global_model_weights', None)
  if weights is None:
    raise ConfigurationError(
      f'The checkpoint of round {chosen} in {run} is of a process that trains no model. Export the run '
      'of a learning process.'
    )
  made = None if model is None else model()
  if made is None and format != 'npz':
    raise ConfigurationError(
      f"The format {format!r} needs the model that was trained. Pass `model`, or take 'npz'."
    )
  named = _named(weights, made)
  with new_directory(target) as making:
    file = making / _FILES[format]
    with system_errors(target / file.name):
      _write(file, format, named, made, weights)
    card = _card(run, record, [*map(_ALTHOUGH.format, doubts), *lost], chosen)
    card['model'].update(format=format, file=file.name, sha256=digest(file))
    write_json(making / 'privacy_card.json', card)
    write_bytes(making / 'MODEL_CARD.md', markdown(card).encode('utf-8'))
  return card


def _doubts(
  file: pathlib.Path, last: int | None
) -> tuple[LedgerRecord | None, list[str], list[str]]:
  """The ledger, why it does not vouch for the model, and what it counts without knowing its end.

  Args:
    file: The ledger.
    last: Round of the last checkpoint, if that is what is exported.
  """
  if not file.exists():
    return None, ['there is none, so that nothing is promised.'], []
  found = checked(file, keep=('event', 'seq', 'of', 'round', 'facts'))
  if found.record is None:
    return None, [f'it does not verify. {found.verification.problems[0]}'], []
  record, doubts = found.record, []
  settled = _settled(found.lines)
  charged = sorted(set(record.state.open.values()))
  if unsettled := [one for one in charged if one not in settled]:
    rounds = ', '.join(map(str, unsettled))
    doubts.append(f'a charge of round {rounds} is open, of a sum whose release is not recorded.')
  latest = settled[-1] if settled else None
  if last is not None and latest != last:
    doubts.append(
      f'it settled round {latest} last, and the last checkpoint is of round {last}. Resume the '
      'training first.'
    )
  lost = [
    f'An attempt at round {one} has no recorded end, and the round ran again; epsilon counts both.'
    for one in charged
    if one in settled
  ]
  return record, doubts, lost


def _settled(lines: Iterable[Mapping[str, Any]]) -> list[int]:
  """The rounds of the training itself that were settled, in order."""
  charged: dict[int, int] = {}
  found = []
  for line in lines:
    if line.get('event') == 'charge' and not line.get('facts'):
      charged[int(line['seq'])] = int(line['round'])
    elif line.get('event') == 'settle' and int(line['of']) in charged:
      found.append(charged[int(line['of'])])
  return found


def _named(weights: Any, made: Any) -> list[tuple[str, np.ndarray]]:
  """Arrays by their variables' names; numbered without a model."""
  parts = [('trainable', weights.trainable), ('non_trainable', weights.non_trainable)]
  if made is None:
    return [
      (f'{kind}_{number}', np.asarray(value))
      for kind, values in parts
      for number, value in enumerate(tf.nest.flatten(values))
    ]
  found = []
  for kind, values in parts:
    variables = keras_models.variables_of(made, kind)
    arrays = [np.asarray(value) for value in tf.nest.flatten(values)]
    shapes, wanted = [one.shape for one in arrays], [tuple(one.shape) for one in variables]
    if shapes != wanted:
      raise ConfigurationError(
        f'The checkpoint has {kind} weights of shapes {shapes}; the model has {wanted}. Pass the model '
        'that was trained.'
      )
    found += [(one.name.split(':')[0], value) for one, value in zip(variables, arrays, strict=True)]
  return found


def _write(
  file: pathlib.Path, format: str, named: Sequence[tuple[str, np.ndarray]], made: Any, weights: Any
) -> None:
  if format == 'npz':
    with file.open('wb') as out:
      np.savez(out, **_distinct(named))
    return
  keras = keras_models.keras_of(made)
  if keras is None:
    raise ConfigurationError(
      f"The format {format!r} takes a model of Keras, got a {type(made).__name__}. Export it as 'npz'."
    )
  variables = [
    *keras_models.variables_of(made, 'trainable'),
    *keras_models.variables_of(made, 'non_trainable'),
  ]
  for variable, (_, value) in zip(variables, named, strict=True):
    variable.assign(value)
  if format == 'keras':
    keras.save(file)
  else:
    keras.save(file, save_format='tf')


def _distinct(named: Sequence[tuple[str, np.ndarray]]) -> dict[str, np.ndarray]:
  names = [name for name, _ in named]
  return {
    name if names.count(name) == 1 else f'{name}_{number}': value
    for number, (name, value) in enumerate(named)
  }


def _card(
  run: pathlib.Path, record: LedgerRecord | None, warnings: Sequence[str], chosen: int
) -> dict[str, Any]:
  stated = {} if record is None else json.loads(record.statement('json'))
  card = {
    'privacy_card': 1,
    'summary': 'Nothing is promised: this training kept no ledger.',
    'promises': [],
    'complete': False,
    'unaccounted': [],
    'fields': [],
    'assumptions': [],
    **stated,
  }
  card['warnings'] = list(warnings)
  card['model'] = {
    'round': chosen,
    'metrics': _metrics(run, chosen),
    'ledger_hash': None if record is None else record.hash,
    'version': tff_privacy_agg.__version__,
  }
  return card


def _metrics(run: pathlib.Path, chosen: int) -> Mapping[str, float]:
  """Metrics of the model after that round, as `summary.json` states them."""
  summary = read_json(run / 'summary.json', missing={})
  if summary.get('rounds') != chosen:
    return {}
  stated = summary.get('metrics')
  if not isinstance(stated, dict):  # before 0.2 it stated these two alone
    stated = {name: summary.get(name) for name in ('loss', 'accuracy')}
  return model_metrics(stated)
