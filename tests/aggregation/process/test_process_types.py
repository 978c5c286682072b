"""What a process looks like to TFF: types, state, depth."""

from collections import OrderedDict

import cases
import numpy as np
import pytest
import tensorflow_federated as tff
from google.protobuf import message, struct_pb2

import tff_privacy_agg as tpa

STATE = (
  '<zeroing=<estimate=float32>,clipping=<norm=float32>,rotation=<seed=int64[2]>,'
  'privacy=<cost=int64[3],shares=int64,rounds=int64>>@SERVER'
)
PRIVACY = (
  'privacy=<epsilon=float64,release_epsilon=float64,delta=float64,noise_multiplier=float64,'
  'rounds=int64,survivors=int32,honest=int32,accepted=bool>'
)
MEASUREMENTS = (
  '<zeroing=<threshold=float32,above=float32>,clipping=<norm=float32,below=float32>,'
  f'{PRIVACY}>@SERVER'
)
VALUE = '<w=float32[2,3],b=float32[4]>'
# TFF's wrappers and compilers add levels: far from protobuf's 100 is where to stay.
DEEPEST = 60


def test_a_private_stack_has_the_stated_types():
  process = tpa.ddp_secure_aggregator(1.0, 3).create(cases.WEIGHTS)
  assert str(process.initialize.type_signature) == f'( -> {STATE})'
  assert str(process.next.type_signature) == (
    f'(<state={STATE},value={{{VALUE}}}@CLIENTS> -> '
    f'<state={STATE},result={VALUE}@SERVER,measurements={MEASUREMENTS}>)'
  )


def test_types_of_a_weighted_stack_without_state():
  layers = [tpa.Clipping(norm=1.0), tpa.WeightedMean(maximum=9.0), tpa.PlainSum()]
  process = tpa.compose_weighted(layers, cohort=tpa.Cohort(expected=3)).create(
    cases.VECTOR, cases.WEIGHT
  )
  state = '<privacy=<cost=int64[3],shares=int64,rounds=int64>>@SERVER'
  assert str(process.initialize.type_signature) == f'( -> {state})'
  assert str(process.next.type_signature) == (
    f'(<state={state},value={{float32[4]}}@CLIENTS,weight={{float32}}@CLIENTS> -> '
    f'<state={state},result=float32[4]@SERVER,'
    f'measurements=<clipping=<norm=float32>,weighted_mean=<weight=float32>,{PRIVACY}>@SERVER>)'
  )


@pytest.mark.parametrize('weighted', [False, True])
def test_next_takes_its_arguments_by_tffs_names(weighted):
  cohort = tpa.Cohort(expected=3)
  if weighted:
    layers = [tpa.Clipping(norm=100.0), tpa.WeightedMean(maximum=9.0), tpa.PlainSum()]
    process = tpa.compose_weighted(layers, cohort=cohort).create(cases.VECTOR, cases.WEIGHT)
    more = {'weight': [1.0, 1.0, 2.0]}
  else:
    layers = [tpa.Clipping(norm=100.0), tpa.Mean(), tpa.PlainSum()]
    process, more = tpa.compose(layers, cohort=cohort).create(cases.VECTOR), {}
  values = [np.full(4, x, np.float32) for x in (1.0, 2.0, 6.0)]
  found = process.next(state=process.initialize(), value=values, **more)
  np.testing.assert_allclose(found.result, np.full(4, 3.75 if weighted else 3.0), rtol=1e-6)


@pytest.mark.parametrize('name', cases.SECURE_PROCESSES)
def test_state_is_flat_by_layer(name):
  state = cases.SECURE_PROCESSES[name]().initialize()
  assert isinstance(state, OrderedDict)
  for layer_state in state.values():
    assert isinstance(layer_state, OrderedDict)
    assert not any(isinstance(value, OrderedDict) for value in layer_state.values())


def depth(proto):
  """Nested messages in a protobuf message, itself included."""
  deepest = 0
  for field, value in proto.ListFields():
    if field.message_type is None:
      continue
    for child in value if field.label == field.LABEL_REPEATED else [value]:
      deepest = max(deepest, depth(child))
  return deepest + 1


def nested_lists(levels):
  value = innermost = struct_pb2.Value()
  for _ in range(levels):
    innermost = innermost.list_value.values.add()
  return value


def test_depth_counts_what_protobuf_counts():
  # 100 in the message, of which the outermost is not nested.
  shallow, deep = nested_lists(49), nested_lists(60)
  assert depth(shallow) == 99
  assert depth(deep) == 121
  struct_pb2.Value.FromString(shallow.SerializeToString())
  # The limit is in place: nothing here has lifted it, so what follows means something.
  with pytest.raises(message.DecodeError):
    struct_pb2.Value.FromString(deep.SerializeToString())


@pytest.mark.parametrize('name', cases.SECURE_PROCESSES)
def test_aggregation_processes_are_not_deep(name):
  assert (
    depth(tff.framework.ConcreteComputation.get_proto(cases.SECURE_PROCESSES[name]().next))
    < DEEPEST
  )
