import importlib.util
import sys
import types

import tensorflow_federated as tff

from tff_privacy_agg._tff import compat


def test_takes_moved_names_from_federated_language(monkeypatch):
  # What is left of TFF's main branch, and what has moved out of it.
  tensorflow = types.SimpleNamespace(
    computation=tff.tensorflow.computation, to_type=tff.types.tensorflow_to_type
  )
  structure = types.SimpleNamespace(Struct=lambda *arguments: None)  # deprecated there
  remaining = types.SimpleNamespace(
    backends=tff.backends, tensorflow=tensorflow, structure=structure
  )
  monkeypatch.setitem(sys.modules, 'tensorflow_federated', remaining)
  monkeypatch.setitem(sys.modules, 'federated_language', tff)
  spec = importlib.util.spec_from_file_location('moved_compat', compat.__file__)
  moved = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(moved)
  for name in (
    'federated_map',
    'federated_secure_modular_sum',
    'ReleaseManager',
    'GroupingReleaseManager',
    'FederatedDataSource',
    'TensorType',
    'materialize_value',
    'get_context_stack',
    'set_default_context',
  ):
    assert getattr(moved, name) is getattr(compat, name)
  assert moved.STRUCTS == ()


def test_reads_a_computation_as_both_branches_do(monkeypatch):
  computation = tff.tensorflow.computation(lambda: 7)
  message = tff.framework.serialize_computation(computation)
  assert compat.deserialize_computation(message).type_signature == computation.type_signature
  monkeypatch.delattr(tff.framework, 'deserialize_computation')
  assert compat.deserialize_computation(message).type_signature == computation.type_signature
