"""A shorter start for commands: what a training never uses is neither loaded nor rewritten."""

import contextlib
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Iterator
from typing import Any

# TFF imports tensorflow_privacy and dp_accounting; they import these for functions that it does
# not call. Each loads, with all that it imports itself, when one of its names is first used.
WAITING = ('dp_accounting.pld', 'scipy.signal', 'tensorflow_probability')

# TFF's functions without a branch or loop on tensors, called in the loop over a client's batches.
# Autograph rewrites their source in every process, half of the time that building takes, and the
# graph is the same. No function of a user is called in them that Keras does not rewrite itself.
PLAIN = (
  'attr',
  'tensorflow_federated.python.common_libs.structure',
  'tensorflow_federated.python.learning.metrics.counters',
  'tensorflow_federated.python.learning.models.keras_utils',
  'tensorflow_federated.python.learning.optimizers.adagrad',
  'tensorflow_federated.python.learning.optimizers.adam',
  'tensorflow_federated.python.learning.optimizers.optimizer',
  'tensorflow_federated.python.learning.optimizers.rmsprop',
  'tensorflow_federated.python.learning.optimizers.sgdm',
  'tensorflow_federated.python.learning.optimizers.yogi',
  'tensorflow_federated.python.learning.tensor_utils',
)


@contextlib.contextmanager
def quick_start() -> Iterator[None]:
  """Imports within load `WAITING` at first use, and processes are built without rewriting `PLAIN`.

  No garbage is collected meanwhile, and what is there at the end never is: a million objects of
  modules and graphs, which each full collection would look through. It hides them from
  `gc.get_objects`, by which `worker_cleanup` finds TFF's workers: for commands that start none.
  """
  collects = gc.isenabled()
  gc.disable()
  finder = _Waiting()
  sys.meta_path.insert(0, finder)
  try:
    from tensorflow.python.autograph.core import config

    rules = config.CONVERSION_RULES
    config.CONVERSION_RULES = (*map(config.DoNotConvert, PLAIN), *rules)
    try:
      yield
    finally:
      config.CONVERSION_RULES = rules
  finally:
    sys.meta_path.remove(finder)
    if 'tensorflow_federated' in sys.modules:  # even if the block failed early: its exit hook
      importlib.import_module('tff_privacy_agg._tff.worker_cleanup')
    gc.freeze()
    if collects:
      gc.enable()


class _Waiting(importlib.abc.MetaPathFinder):
  def find_spec(
    self, fullname: str, path: Any = None, target: Any = None
  ) -> importlib.machinery.ModuleSpec | None:
    if fullname not in WAITING:
      return None
    others = (finder for finder in sys.meta_path if finder is not self)
    found = (finder.find_spec(fullname, path, target) for finder in others)
    spec = next((one for one in found if one is not None), None)
    if spec is not None and spec.loader is not None:
      spec.loader = _LazyLoader(spec.loader)
    return spec


class _LazyLoader(importlib.util.LazyLoader):
  def exec_module(self, module: types.ModuleType) -> None:
    super().exec_module(module)
    lazy: Any = type(module)

    class Waiting(lazy):
      """A module that says without being loaded where it is: autograph asks all of them."""

      def __getattribute__(self, name: str) -> Any:
        if name == '__file__':
          return object.__getattribute__(self, '__spec__').origin
        return super().__getattribute__(name)

    module.__class__ = Waiting
