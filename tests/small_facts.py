"""Facts of a ledger for few clients, without TensorFlow."""

import dataclasses

from tff_privacy_agg import accounting
from tff_privacy_agg.ledger import LedgerFacts
from tff_privacy_agg.ledger.costs.rounds import price_of


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


def server_stack(clients, z, strategy=None):
  """A stack of 672 coordinates whose server adds the noise; no channels."""
  column = None if strategy is None else strategy.column
  design = accounting.central_design(
    noise_multiplier=z, cohort_maximum=clients, dimension=672, column=column
  )
  update = accounting.noisy_vector(
    name='update',
    mechanism=design.mechanism,
    dimension=672,
    l2_bound=design.l2_bound,
    l1_bound=design.l1_bound,
    local_variance=design.local_variance,
    fewest=1,
    most=1,
    draw_distance=1e-55,
    column=column,
  )
  price = accounting.RoundPrice(
    mechanism=design.mechanism,
    minimum=1,
    maximum=clients,
    vectors=(update,),
    separation=None if strategy is None else strategy.separation,
    participations=None if strategy is None else strategy.participations,
  )
  return {
    'mechanism': design.mechanism,
    'adjacency': 'zero_out',
    'holds_against_server': False,
    'noise_multiplier': price.noise_multiplier(1),
    'cohort': {'expected': clients, 'maximum': clients, 'minimum': 1, 'colluding_fraction': 0.0},
    'integer_design': dataclasses.asdict(design),
    'channels': [],
    'public': ['number of survivors'],
    'sampler_distance_per_round': price.distance(clients),
    'layers': ['Mean()', 'Clipping()'],
    'price': price.as_dict(),
    **({} if strategy is None else {'strategy': strategy.as_dict()}),
  }
