"""The audits of a training that lies in a run directory next to what its ledger promises."""

import dataclasses
import functools
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

import tff_privacy_agg
from tff_privacy_agg import _validate
from tff_privacy_agg._files import read_json, write_bytes, write_json
from tff_privacy_agg.audit import digits_membership, memorization
from tff_privacy_agg.audit.attacks import GALLERY
from tff_privacy_agg.audit.canaries import Canaries
from tff_privacy_agg.audit.canary_training import Progress, seconds_without, train_with_canaries
from tff_privacy_agg.audit.pictures import png
from tff_privacy_agg.audit.run_results import RunAudit, ledger_note, plain
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning import RunDirectory
from tff_privacy_agg.learning.training_task import TrainingTask
from tff_privacy_agg.ledger import LedgerRecord, PrivacyLedger
from tff_privacy_agg.ledger.card import risk

AUDITS = ('canaries', 'membership', 'memorization', 'gallery')
_MEMORIZATION_ROUNDS, _MEMORIZATION_CANARIES = 12, 10


def audit_run(
  path: str | os.PathLike[str],
  *,
  audits: Sequence[str] = AUDITS,
  canaries: int = 100,
  norm: float = 4.0,
  confidence: float = 0.95,
  seed: int = 0,
  progress: Progress = lambda what, done, total: None,
) -> RunAudit:
  """Audits a training by `tff-privacy-agg train`, in a TFF context that is there.

  'canaries' trains once more, as the run did and with its stack, with canaries among the
  clients; that model is thrown away, so nothing of a canary reaches a checkpoint. It holds
  the data of a simulation: on a real fleet a second training costs privacy as the first
  did, and `CanaryAudit` belongs into the training itself. 'membership' attacks the last
  checkpoint (of a linear model of the digits). 'memorization' trains small models with the
  run's stack, and in the clear. 'gallery' runs `audit.attacks`. Writes `audit.json` and
  pictures into the directory, and one note into the ledger.

  Args:
    path: The run directory.
    audits: Which of `AUDITS`.
    canaries: Canaries to add.
    norm: Length of a canary's update; see `Canaries`.
    confidence: Of every bound and interval.
    seed: Of canaries, shadow models and attacks.
    progress: Called while the audits run.

  Raises:
    ConfigurationError: If the directory holds no training with a ledger, or an audit does
      not fit it.
    LedgerError: If the ledger cannot be believed.
  """
  path = pathlib.Path(path)
  for name in audits:
    _validate.one_of(AUDITS, audits=name)
  _validate.fraction(confidence=confidence)
  config, record = _read(path)
  task, delta = TrainingTask(**config), record.facts.delta
  view = _view(record)
  claim, bounds = record.epsilon(view), risk.attack_bounds(record, view)
  found: dict[str, Any] = {
    'version': tff_privacy_agg.__version__,
    'confidence': confidence,
    'claim': {
      'epsilon': claim,
      'view': view,
      'delta': delta,
      'attack_power': {str(rate): power for rate, power in bounds.items()},
      'risk': risk.sentence(bounds),
      'rounds': record.state.rounds,
      'ledger_hash': record.hash,
    },
  }
  pictures: dict[str, np.ndarray] = {}
  shown = None
  if 'canaries' in audits:
    # The clients of FedSGD send gradients; no learning rate of theirs scales them.
    rate = 1.0 if task.algorithm == 'fed_sgd' else task.client_learning_rate
    added = Canaries(count=canaries, norm=norm, client_learning_rate=rate, seed=seed)
    shown, costs = train_with_canaries(task, config, record, added, confidence, progress)
    found['canaries'] = {**plain(shown), **costs, **seconds_without(path)}
  if 'membership' in audits:
    found['membership'] = plain(_membership(path, task, confidence, seed, progress))
  if 'memorization' in audits:
    found['memorization'] = _memorization(task, seed, progress)
  if 'gallery' in audits:
    reports = []
    for number, (name, attack) in enumerate(GALLERY.items()):
      progress(f'attack {name}', number, len(GALLERY))
      reports.append(attack(seed))
      pictures.update(reports[-1].pictures)
    progress('attacks', len(GALLERY), len(GALLERY))
    found['gallery'] = [
      {key: value for key, value in plain(report).items() if key != 'pictures'}
      for report in reports
    ]
  exceeded = shown is not None and shown.exceeds(claim)
  found['exceeded'] = exceeded
  for name, image in pictures.items():
    write_bytes(path / f'audit_{name}.png', png(image))
  found = plain(found)
  write_json(path / 'audit.json', found)
  with PrivacyLedger(path / 'ledger.jsonl') as ledger:
    ledger.note('empirical_audit', ledger_note(found, shown, sorted(audits)))
  return RunAudit(claim=claim, exceeded=exceeded, found=found)


def _read(path: pathlib.Path) -> tuple[dict[str, Any], LedgerRecord]:
  config, ledger = path / 'config.json', path / 'ledger.jsonl'
  if not config.exists():
    raise ConfigurationError(
      f'{path} holds no training to audit. Train one with `tff-privacy-agg train --run-dir '
      f'{path}`, or pass --fresh.'
    )
  if not ledger.exists():
    raise ConfigurationError(
      f'An audit compares leakage with a ledger; {path} has none. Audit a training with noise, '
      'which keeps one.'
    )
  values = read_json(config)
  values.pop('planned_rounds', None)  # of the search for the noise, not of the training
  unknown = {*values} - {field.name for field in dataclasses.fields(TrainingTask)}
  if unknown:
    raise ConfigurationError(
      f'This command audits trainings of `tff-privacy-agg train`; {config} also states '
      f'{", ".join(sorted(unknown))}. Use `CanaryAudit` in the loop that trained it.'
    )
  record = LedgerRecord.read(ledger)
  if record.state.kinds[0].rounds == 0:
    raise ConfigurationError(f'The ledger in {path} has no round to audit. Train first.')
  return values, record


def _view(record: LedgerRecord) -> str:
  """The server's view; the release view where the server has no epsilon.

  The scores know who took part in which round, as the server does: what secret sampling
  gains for the release view is not tested.
  """
  return 'server' if math.isfinite(record.epsilon('server')) else 'release'


def _membership(
  path: pathlib.Path, task: TrainingTask, confidence: float, seed: int, progress: Progress
) -> digits_membership.DigitsMembership:
  if (task.data, task.model) != ('digits', 'linear'):
    raise ConfigurationError(
      f'The membership attack scores a linear model of the digits; this is {task.model} on '
      f'{task.data}. Leave out `membership`, or use `measure_attack` with scores of your own.'
    )
  process = task.process()
  state, done = RunDirectory(path, dataclasses.asdict(task)).latest(process.initialize())
  if not done:
    raise ConfigurationError(
      f'{path} has no checkpoint, so there is no model to attack. Train at least one round.'
    )
  return digits_membership.attack_digits(
    process.get_model_weights(state).trainable,
    task.load(),
    confidence=confidence,
    seed=seed,
    progress=lambda number, total: progress('shadow models', number, total),
  )


def _memorization(task: TrainingTask, seed: int, progress: Progress) -> list[dict[str, Any]]:
  rounds = min(task.rounds, _MEMORIZATION_ROUNDS)
  population = max(task.population - _MEMORIZATION_CANARIES, 1)
  rows = []
  for make in (memorization.digits_task, memorization.text_task):
    held = make(population, _MEMORIZATION_CANARIES, seed=seed)
    row: dict[str, Any] = {'model': held.name, 'rounds': rounds}
    for kind, aggregator in (('clear', None), ('private', task.aggregator())):
      counted = functools.partial(_count, progress, f'memorization of {held.name}, {kind}', rounds)
      row[kind] = plain(
        memorization.memorized(
          held,
          aggregator=aggregator,
          cohort=task.clients_per_round,
          rounds=rounds,
          seed=seed,
          observe_round=counted,
        )
      )
    rows.append(row)
  return rows


def _count(progress: Progress, what: str, rounds: int, number: int, metrics: Any) -> None:
  progress(what, number, rounds)
