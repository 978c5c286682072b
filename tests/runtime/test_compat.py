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
  remaining = types.SimpleNamespace(backends=tff.backends, tensorflow=tensorflow)
  monkeypatch.setitem(sys.modules, 'tensorflow_federated', remaining)
  monkeypatch.setitem(sys.modules, 'federated_language', tff)
  spec = importlib.util.spec_from_file_location('moved_compat', compat.__file__)
  moved = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(moved)
  for name in (
    'federated_map',
    'federated_secure_modular_sum',
    'TensorType',
    'set_default_context',
  ):
    assert getattr(moved, name) is getattr(compat, name)
