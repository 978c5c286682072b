"""`tff-privacy-agg export`: the model of a run directory, with its privacy card."""

import argparse
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

from tff_privacy_agg._names import EXPORT_FORMATS
from tff_privacy_agg.cli import _flags

_EXAMPLES = """examples:
  tff-privacy-agg export runs/digits-private
  tff-privacy-agg export runs/mine --format keras --output released
  tff-privacy-agg export runs/served --format savedmodel --model mymodule:model

The model is that of the last settled round. `privacy_card.json` and `MODEL_CARD.md` stand next to it.
"""


def add(commands: _flags.Commands) -> None:
  """Adds the command to the parser."""
  export = commands.add_parser(
    'export',
    help='the model of a run directory, with its privacy card',
    epilog=_EXAMPLES,
  )
  export.set_defaults(run=_export)
  export.add_argument('run_dir', type=pathlib.Path, help='of train, serve or tpa.train')
  export.add_argument('--format', choices=EXPORT_FORMATS, default='savedmodel', help='of the model')
  export.add_argument(
    '--output', type=pathlib.Path, help='a new directory (default: RUN_DIR/export)'
  )
  export.add_argument(
    '--round', type=int, help='one of the last rounds, whose checkpoint is kept (default: the last)'
  )
  export.add_argument(
    '--model',
    help='module:function that makes the model (default: what the run directory names)',
  )
  export.add_argument(
    '--anyway', action='store_true', help='export what the ledger does not vouch for'
  )
  export.add_argument('--json', action='store_true', help='the card on stdout')


def _export(args: argparse.Namespace) -> int:
  from tff_privacy_agg.cli import _progress
  from tff_privacy_agg.errors import ConfigurationError, LedgerError

  if not args.run_dir.is_dir():
    raise ConfigurationError(
      f'{args.run_dir} is no directory. Name the run directory of a training.'
    )
  with _progress.waiting('starting TensorFlow'):
    from tff_privacy_agg import learning

  target = args.output or args.run_dir / 'export'
  try:
    card = learning.export_model(
      args.run_dir,
      target,
      model=_model(args),
      format=args.format,
      round_number=args.round,
      anyway=args.anyway,
    )
  except LedgerError as error:
    raise LedgerError(str(error).replace('`anyway=True`', '--anyway')) from error
  if args.json:
    print(json.dumps(card, indent=2))
    return 0
  print(*card['warnings'], *card['promises'], sep='\n')
  print(f'{target}: {card["model"]["file"]}, MODEL_CARD.md, privacy_card.json')
  return 0


def _model(args: argparse.Namespace) -> Callable[[], Any] | None:
  """The function that makes the trained model; None if nothing names it."""
  from tff_privacy_agg._entry_points import entry_point
  from tff_privacy_agg._files import read_json

  if args.model is not None:
    return entry_point(args.model, os.getcwd())
  config = read_json(args.run_dir / 'config.json', missing={})
  source = config.get('model')
  if source is None:
    return None
  from tff_privacy_agg.learning.models import model_of

  return model_of(source, config.get('data', ''))
