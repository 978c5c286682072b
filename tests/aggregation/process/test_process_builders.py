"""TFF's learning processes take the aggregators as they are."""

import cases
import numpy as np
import pytest
import tensorflow_federated as tff
from test_process_types import DEEPEST, depth

import tff_privacy_agg as tpa

pytestmark = pytest.mark.integration

ALGORITHMS = tff.learning.algorithms
CLIENTS = 3


def private():
  return tpa.ddp_secure_aggregator(0.5, CLIENTS)


def build(builder, *args, **kwargs):
  return builder(cases.model_fn, *args, metrics_aggregator=tpa.no_metrics, **kwargs)


def both(factory):
  """The aggregators of Mime: of the updates, and of the full gradients."""
  return {'model_aggregator': factory(), 'full_gradient_aggregator': factory()}


BUILDERS = {
  'fed_avg': lambda: cases.fed_avg(private()),
  'weighted fed_avg': lambda: build(
    ALGORITHMS.build_weighted_fed_avg,
    cases.sgd(0.1),
    cases.sgd(1.0),
    model_aggregator=tpa.secure_aggregator(),
  ),
  'fed_avg, central': lambda: cases.fed_avg(tpa.dp_aggregator(0.1, CLIENTS)),
  'fed_sgd': lambda: build(
    ALGORITHMS.build_fed_sgd, cases.sgd(0.1), model_aggregator=tpa.secure_aggregator()
  ),
  'fed_prox': lambda: build(
    ALGORITHMS.build_unweighted_fed_prox,
    0.1,
    cases.sgd(0.1),
    cases.sgd(1.0),
    model_aggregator=private(),
  ),
  'weighted fed_prox': lambda: build(
    ALGORITHMS.build_weighted_fed_prox,
    0.1,
    cases.sgd(0.1),
    cases.sgd(1.0),
    model_aggregator=tpa.secure_aggregator(),
  ),
  'mime_lite': lambda: build(
    ALGORITHMS.build_unweighted_mime_lite,
    tff.learning.optimizers.build_sgdm(0.1, 0.9),
    **both(private),
  ),
  'weighted mime_lite': lambda: build(
    ALGORITHMS.build_weighted_mime_lite,
    tff.learning.optimizers.build_sgdm(0.1, 0.9),
    **both(tpa.secure_aggregator),
  ),
}


@pytest.mark.parametrize('name', BUILDERS)
def test_every_builder_makes_a_process_that_accounts_its_rounds(name):
  process = BUILDERS[name]()
  assert depth(tff.framework.ConcreteComputation.get_proto(process.next)) < DEEPEST
  data = [cases.client_dataset(client) for client in range(CLIENTS)]
  state = process.initialize()
  before = process.get_model_weights(state).trainable
  for _ in range(2):
    output = process.next(state, data)
    state = output.state
  privacy = output.metrics['aggregator']['privacy']
  assert privacy['rounds'] == 2
  assert privacy['survivors'] == CLIENTS
  after = process.get_model_weights(state).trainable
  assert [part.shape for part in after] == [(2, 1), (1,)]
  assert all(np.all(np.isfinite(part)) for part in after)
  assert not np.array_equal(before[0], after[0])


def test_secure_aggregator_trains_as_the_mean_does():
  kwargs = {'client_optimizer_fn': cases.sgd(0.1), 'server_optimizer_fn': cases.sgd(1.0)}
  ours = build(
    ALGORITHMS.build_weighted_fed_avg,
    model_aggregator=tpa.secure_aggregator(zeroing=False, clipping=False, maximum_weight=16.0),
    **kwargs,
  )
  upstream = build(ALGORITHMS.build_weighted_fed_avg, **kwargs)
  data = [cases.client_dataset(client) for client in range(CLIENTS)]
  weights = []
  for process in (ours, upstream):
    state = process.initialize()
    for _ in range(2):
      state = process.next(state, data).state
    weights.append(process.get_model_weights(state).trainable)
  # A step of the quantization is 1e6 / 2**47 * 1000 (clients) = 7e-6; over the mean weight of a
  # quarter, and three clients and two rounds, it cannot add up to 2e-4.
  for one, other in zip(*weights, strict=True):
    np.testing.assert_allclose(one, other, atol=2e-4)


def test_weighted_builder_refuses_an_unweighted_factory():
  # TFF's own check; its sentence names what it takes and what it got.
  with pytest.raises(TypeError, match=r'Expected .*WeightedAggregationFactory, found .*Composed'):
    ALGORITHMS.build_weighted_fed_avg(
      cases.model_fn, cases.sgd(0.1), cases.sgd(1.0), model_aggregator=private()
    )


def test_unweighted_builder_refuses_a_weighted_factory():
  with pytest.raises(TypeError, match=r'Expected .*UnweightedAggregationFactory, found .*Weighted'):
    ALGORITHMS.build_unweighted_fed_avg(
      cases.model_fn, cases.sgd(0.1), cases.sgd(1.0), model_aggregator=tpa.secure_aggregator()
    )
