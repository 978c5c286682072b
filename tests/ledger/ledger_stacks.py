"""Facts of bound stacks, as `factory.bind(type).facts()` gives them; no TensorFlow here."""

import dataclasses

from small_facts import server_stack

from tff_privacy_agg import accounting
from tff_privacy_agg.ledger.costs.rounds import price_of
from tff_privacy_agg.ledger.facts import LedgerFacts

# Three bands; clients rest for three rounds and take part in at most five.
STRATEGY = accounting.BandedToeplitz(
  accounting.BandedColumn.from_floats([1.0, 0.5, 0.375]), separation=4, participations=5
)


def stack(
  mechanism='discrete_gaussian',
  *,
  clients=100,
  minimum=None,
  colluding=0.0,
  z=2.75,
  strategy=None,
):
  """A stack of two bit channels and 672 coordinates."""
  minimum = minimum or accounting.honest_survivors(clients, colluding)
  distributed = mechanism in ('discrete_gaussian', 'skellam')
  channels = [
    {
      'layer': layer,
      'name': name,
      'resolution': 64 if distributed else 1,
      'local_variance': 4956.1875 if distributed else 0.0,
      'central_stddev': 11.0 if mechanism == 'gaussian' else 0.0,
    }
    for layer, name in (('zeroing', 'above'), ('clipping', 'below'))
  ]
  design = None
  if distributed:
    solved = accounting.solve(
      noise_multiplier=z,
      cohort_maximum=clients,
      minimum_honest=minimum,
      bits=18,
      dimension=672,
      mechanism=mechanism,
    )
    design = dataclasses.asdict(solved)
  if mechanism == 'central_discrete_gaussian':
    return server_stack(clients, z)
  if mechanism == 'correlated_discrete_gaussian':
    return server_stack(clients, z, strategy or STRATEGY)
  given = {
    'mechanism': mechanism,
    'adjacency': 'zero_out',
    'holds_against_server': distributed,
    'noise_multiplier': z if mechanism != 'none' else 0.0,
    'cohort': {
      'expected': clients,
      'maximum': clients,
      'minimum': minimum,
      'colluding_fraction': colluding,
    },
    'integer_design': design,
    'channels': channels,
    'public': ['number of survivors'],
    'sampler_distance_per_round': 7e-21 if distributed else 0.0,
    'layers': ['Mean()', 'Clipping()'],
  }
  return {**given, 'noise_multiplier': price_of(given).noise_multiplier(minimum)}


def facts(
  mechanism='discrete_gaussian',
  *,
  clients=100,
  minimum=None,
  colluding=0.0,
  z=2.75,
  strategy=None,
  **more,
):
  given = {'delta': 5e-4, 'population': 200, 'minimum_clients': 80, **more}
  layers = stack(
    mechanism, clients=clients, minimum=minimum, colluding=colluding, z=z, strategy=strategy
  )
  return LedgerFacts(stack=layers, **given)
