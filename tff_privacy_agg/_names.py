"""Names that users write, each list once: algorithms, mechanisms, sources of randomness, metrics."""

from collections.abc import Mapping

# TFF's builders in `tff.learning.algorithms`, for unweighted and weighted aggregators.
ALGORITHMS: Mapping[str, tuple[str, str]] = {
  'fed_avg': ('build_unweighted_fed_avg', 'build_weighted_fed_avg'),
  'fed_prox': ('build_unweighted_fed_prox', 'build_weighted_fed_prox'),
  'fed_sgd': ('build_fed_sgd', 'build_fed_sgd'),
  'mime_lite': ('build_unweighted_mime_lite', 'build_weighted_mime_lite'),
}
# Noise that the clients draw; and of the server, who then sees the sum without it.
DISTRIBUTED = ('discrete_gaussian', 'skellam')
CENTRAL = 'central_discrete_gaussian'
MECHANISMS = (*DISTRIBUTED, CENTRAL)
# Noise of the server that cancels over rounds; it takes a strategy, so no name alone asks for it.
CORRELATED = 'correlated_discrete_gaussian'
INTEGER_NOISE = (*MECHANISMS, CORRELATED)
# Noise of floats: of stacks before version 0.2, and of other systems.
GAUSSIAN = 'gaussian'
EXPORT_FORMATS = ('savedmodel', 'keras', 'npz')
METRICS = ('none', 'private', 'clear')
# Where noise comes from, and bits of entropy in one client's key of one round.
RANDOMNESS: Mapping[str, int] = {'chacha20': 256, 'philox': 128}
