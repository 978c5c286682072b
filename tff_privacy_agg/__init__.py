"""Differential privacy and secure aggregation for TensorFlow Federated.

Names are loaded when they are first used, so that the command line and `doctor`
start, and can say what is missing, without TensorFlow.
"""

import importlib
import os
from typing import Any

from tff_privacy_agg._lazy import tff_named

__version__ = '0.1.0'

# TensorFlow reads this when it is imported, and TFF's workers when they start: none of their notices
# between a user's lines. What they call errors there (of the graph optimizer) are none; real ones are raised.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

_MODULES = {
  name: name
  for name in (
    'accounting',
    'analytics',
    'audit',
    'deployment',
    'ledger',
    'learning',
    'runtime',
    'secagg',
  )
} | {'data': 'learning.data'}
_HOMES = {
  'accounting': ('Budget',),
  'ledger': ('PrivacyLedger',),
  'aggregation.domains': ('Channel', 'Cohort', 'IntegerVectors', 'ModularVectors', 'RealVectors'),
  'errors': (
    'BudgetExceededError',
    'CompositionError',
    'ConfigurationError',
    'LedgerError',
    'PrivacyAggError',
    'RuntimeUnavailableError',
  ),
  'aggregation.factories': (
    'ComposedFactory',
    'WeightedComposedFactory',
    'compose',
    'compose_weighted',
  ),
  'aggregation.layers': (
    'AdaptiveQuantile',
    'CentralDiscreteGaussianNoise',
    'Clipping',
    'CoordinateClipping',
    'DFTRotation',
    'DiscreteGaussianNoise',
    'ForeignSum',
    'GaussianNoise',
    'HadamardRotation',
    'Layer',
    'Mean',
    'Mechanism',
    'PlainSum',
    'Quantization',
    'SecureModularSum',
    'SkellamNoise',
    'WeightedMean',
    'Zeroing',
  ),
  'learning': (
    'Accounting',
    'CohortDataSource',
    'PoissonCohorts',
    'PrivacyLedgerReleaseManager',
    'SeparatedCohorts',
    'UniformCohorts',
    'build_private_learning_process',
    'export_model',
    'no_metrics',
    'plan',
    'private_metrics',
    'train',
  ),
  'aggregation.recipes': (
    'ddp_secure_aggregator',
    'dp_aggregator',
    'robust_aggregator',
    'secure_aggregator',
  ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
  'Accounting',
  'AdaptiveQuantile',
  'Budget',
  'BudgetExceededError',
  'CentralDiscreteGaussianNoise',
  'Channel',
  'Clipping',
  'Cohort',
  'CohortDataSource',
  'ComposedFactory',
  'CompositionError',
  'ConfigurationError',
  'CoordinateClipping',
  'DFTRotation',
  'DiscreteGaussianNoise',
  'ForeignSum',
  'GaussianNoise',
  'HadamardRotation',
  'IntegerVectors',
  'Layer',
  'LedgerError',
  'Mean',
  'Mechanism',
  'ModularVectors',
  'PlainSum',
  'PoissonCohorts',
  'PrivacyAggError',
  'PrivacyLedger',
  'PrivacyLedgerReleaseManager',
  'Quantization',
  'RealVectors',
  'RuntimeUnavailableError',
  'SecureModularSum',
  'SeparatedCohorts',
  'SkellamNoise',
  'UniformCohorts',
  'WeightedComposedFactory',
  'WeightedMean',
  'Zeroing',
  '__version__',
  'accounting',
  'analytics',
  'audit',
  'build_private_learning_process',
  'compose',
  'compose_weighted',
  'data',
  'ddp_secure_aggregator',
  'deployment',
  'dp_aggregator',
  'export_model',
  'learning',
  'ledger',
  'no_metrics',
  'plan',
  'private_metrics',
  'robust_aggregator',
  'runtime',
  'secagg',
  'secure_aggregator',
  'train',
]


def __getattr__(name: str) -> Any:
  if name in _MODULES:
    return importlib.import_module(f'{__name__}.{_MODULES[name]}')
  if name in _HOME_OF:
    with tff_named():
      value = getattr(importlib.import_module(f'{__name__}.{_HOME_OF[name]}'), name)
    globals()[name] = value
    return value
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
  return __all__
