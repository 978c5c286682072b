"""Run directories for the tests of reports, with real ledgers and without TFF."""

import csv
import hashlib
import json

from tff_privacy_agg import accounting
from tff_privacy_agg.ledger import LedgerFacts, PrivacyLedger
from tff_privacy_agg.ledger.costs.rounds import price_of

CONFIG = {'algorithm': 'fed_avg', 'clients_per_round': 10, 'noise_multiplier': 2.0, 'seed': 0}
ROUNDS = 5
AUDIT = {
  'version': '0.1.0',
  'confidence': 0.95,
  'claim': {'epsilon': 3.0, 'view': 'server', 'delta': 1e-3, 'rounds': ROUNDS},
  'exceeded': False,
  'canaries': {
    'lower': 1.25,
    'all_iterates': {'epsilon': 2.5},
    'final_model': {'epsilon': 'inf'},
    'one_run': {'lower': 0.0, 'canaries': 40},
    'rounds_at_full_length': None,
  },
  'membership': {
    'lira': {
      'auc': {'value': 0.53, 'low': 0.5, 'high': 0.56},
      'tpr_at': {'0.001': None, '0.01': {'value': 0.02, 'low': 0.01, 'high': 0.03}},
    },
    'shadows': 8,
  },
  'memorization': [
    {
      'model': 'digits',
      'clear': {'mean_bits': 3.5},
      'private': {'mean_bits': 2.5, 'largest_bits': 10.0},
    }
  ],
  'gallery': [
    {'name': 'clock', 'attempt': 'a', 'unprotected': 'b', 'ours': 'c', 'defended': False}
  ],
}


def facts(mechanism='discrete_gaussian', beside=(), **kwargs):
  """The facts of a stack of 64 numbers and 10 clients."""
  design = None
  if mechanism != 'gaussian':
    solved = accounting.solve(
      noise_multiplier=2.0,
      cohort_maximum=10,
      minimum_honest=8,
      bits=18,
      dimension=64,
      mechanism=mechanism,
    )
    design = {name: getattr(solved, name) for name in solved.__dataclass_fields__}
  stack = {
    'mechanism': mechanism,
    'adjacency': 'zero_out',
    'holds_against_server': mechanism != 'gaussian',
    'noise_multiplier': 2.0,
    'cohort': {'expected': 10, 'maximum': 10, 'minimum': 8, 'colluding_fraction': 0.0},
    'integer_design': design,
    'channels': [],
    'public': ['number of survivors'],
    'sampler_distance_per_round': 0.0,
    'layers': ['Clipping(norm=1.0)', "HadamardRotation(name='rotation')"],
  }
  if beside:
    stack['beside'] = list(beside)
  stack['noise_multiplier'] = price_of(stack).noise_multiplier(8)
  return LedgerFacts(
    stack=stack, delta=1e-3, population=100, minimum_clients=8, task='a <b>task</b>', **kwargs
  )


def write_json(path, value):
  path.write_text(json.dumps(value, indent=2, sort_keys=True))


def make_run(path, *, budget=None, mechanism='discrete_gaussian', audit=None, **kwargs):
  """A run of five rounds: a client dropped out of the fourth, the fifth was cut off.

  Returns:
    Epsilon by view, and the hash, as the ledger states them.
  """
  path.mkdir()
  write_json(path / 'config.json', CONFIG)
  write_json(path / 'privacy.json', {'private': True})
  with PrivacyLedger(path / 'ledger.jsonl', facts(mechanism, **kwargs), budget=budget) as ledger:
    for number in range(1, ROUNDS + 1):
      charge = ledger.charge(number, planned_survivors=10)
      if number < ROUNDS:
        ledger.settle(
          charge, survivors=9 if number == 4 else 10, counted_by='runtime', accepted=number != 4
        )
    if audit is not None:
      write_json(path / 'audit.json', audit)
      text = json.dumps(audit, sort_keys=True, separators=(',', ':'))
      digest = hashlib.sha256(text.encode()).hexdigest()
      ledger.note('empirical_audit', {'results_sha256': digest})
    stated = {view: ledger.epsilon(view) for view in ('server', 'release')}
    digest = ledger.hash
  metrics(path)
  return stated, digest


def make_plain_run(path, **changes):
  """A run without privacy: no ledger."""
  path.mkdir()
  write_json(path / 'config.json', {**CONFIG, 'noise_multiplier': None, **changes})
  write_json(path / 'privacy.json', {'private': False})
  metrics(path, better=0.1)


def metrics(path, better=0.0):
  """Metrics that state a much smaller epsilon than the ledger: reports must not believe them."""
  names = ['round', 'accuracy', 'loss', 'clipping/norm', 'clipping/below', 'ledger/epsilon']
  with (path / 'metrics.csv').open('w', newline='') as file:
    rows = csv.writer(file)
    rows.writerow(names)
    for number in range(1, ROUNDS):
      rows.writerow([number, 0.5 + 0.05 * number + better, 2.0 - 0.2 * number, 1.0, 'nan', 0.001])
