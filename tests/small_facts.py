"""Facts of a ledger for few clients, without TensorFlow."""

import dataclasses

from tff_privacy_agg import accounting
from tff_privacy_agg.ledger import LedgerFacts
from tff_privacy_agg.ledger.round_costs import price_of


def facts_of(*, clients, minimum, threshold, z=2.0, colluding=0.0):
  """Facts of a stack with discrete Gaussian noise for so many clients."""
  design = accounting.solve(
    noise_multiplier=z,
    cohort_maximum=clients,
    minimum_honest=minimum,
    bits=18,
    dimension=64,
    mechanism='discrete_gaussian',
  )
  stack = {
    'mechanism': 'discrete_gaussian',
    'adjacency': 'zero_out',
    'holds_against_server': True,
    'cohort': {
      'expected': clients,
      'maximum': clients,
      'minimum': minimum,
      'colluding_fraction': colluding,
    },
    'integer_design': dataclasses.asdict(design),
    'channels': [],
    'public': ['number of survivors'],
    'sampler_distance_per_round': 0.0,
    'layers': ['Clipping()'],
  }
  stack['noise_multiplier'] = price_of(stack).noise_multiplier(minimum)
  return LedgerFacts(stack=stack, delta=1e-3, population=100, minimum_clients=threshold)
