"""Refuses, where TFF is not installed, with a sentence that says how to get it.

Importing it is the check. Every public part that needs TensorFlow Federated imports it first, so
that a core installation ends in this sentence and never in a missing module of somebody else's.
"""

import importlib.util

from tff_privacy_agg.errors import RuntimeUnavailableError

MESSAGE = (
  'This needs TensorFlow Federated 0.87, which is not installed here; plan, epsilon, verify, '
  'statement, report, keys, tff_privacy_agg.accounting and tff_privacy_agg.secagg work without. '
  'It runs with Python 3.11 on Linux x86-64: run `make env` in a clone of the project there, or, '
  'in a notebook, `%load_ext tff_privacy_agg.notebook`.'
)

if importlib.util.find_spec('tensorflow_federated') is None:
  raise RuntimeUnavailableError(MESSAGE)
