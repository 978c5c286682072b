"""Differential privacy and secure aggregation for TensorFlow Federated.

Names load when they are first used, so that the command line and `doctor` start, and can
say what is missing, without TensorFlow.
"""

import os
from typing import TYPE_CHECKING

from tff_privacy_agg._lazy import lazy_names

__version__ = '0.2.0'

# TensorFlow reads this when it is imported, and TFF's workers when they start: none of their notices
# between a user's lines. What they call errors there (of the graph optimizer) are none; real ones are raised.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

if TYPE_CHECKING:
  from tff_privacy_agg import (
    accounting as accounting,
    analytics as analytics,
    audit as audit,
    deployment as deployment,
    learning as learning,
    ledger as ledger,
    runtime as runtime,
    secagg as secagg,
  )
  from tff_privacy_agg.accounting import (
    BandedToeplitz as BandedToeplitz,
    Budget as Budget,
    plan_correlated as plan_correlated,
  )
  from tff_privacy_agg.aggregation.domains import (
    Channel as Channel,
    Cohort as Cohort,
    IntegerVectors as IntegerVectors,
    ModularVectors as ModularVectors,
    RealVectors as RealVectors,
  )
  from tff_privacy_agg.aggregation.factories import (
    ComposedFactory as ComposedFactory,
    WeightedComposedFactory as WeightedComposedFactory,
    compose as compose,
    compose_weighted as compose_weighted,
  )
  from tff_privacy_agg.aggregation.layers import (
    AdaptiveQuantile as AdaptiveQuantile,
    CentralDiscreteGaussianNoise as CentralDiscreteGaussianNoise,
    Clipping as Clipping,
    CoordinateClipping as CoordinateClipping,
    CorrelatedNoise as CorrelatedNoise,
    DFTRotation as DFTRotation,
    DiscreteGaussianNoise as DiscreteGaussianNoise,
    ForeignSum as ForeignSum,
    GaussianNoise as GaussianNoise,
    HadamardRotation as HadamardRotation,
    Layer as Layer,
    Mean as Mean,
    Mechanism as Mechanism,
    PlainSum as PlainSum,
    Quantization as Quantization,
    SecureModularSum as SecureModularSum,
    SkellamNoise as SkellamNoise,
    WeightedMean as WeightedMean,
    Zeroing as Zeroing,
  )
  from tff_privacy_agg.aggregation.recipes.private import (
    ddp_secure_aggregator as ddp_secure_aggregator,
    dp_aggregator as dp_aggregator,
  )
  from tff_privacy_agg.aggregation.recipes.without_noise import (
    robust_aggregator as robust_aggregator,
    secure_aggregator as secure_aggregator,
  )
  from tff_privacy_agg.errors import (
    BudgetExceededError as BudgetExceededError,
    CompositionError as CompositionError,
    ConfigurationError as ConfigurationError,
    LedgerError as LedgerError,
    PrivacyAggError as PrivacyAggError,
    RuntimeUnavailableError as RuntimeUnavailableError,
  )
  from tff_privacy_agg.learning import (
    Accounting as Accounting,
    CohortDataSource as CohortDataSource,
    PoissonCohorts as PoissonCohorts,
    PrivacyLedgerReleaseManager as PrivacyLedgerReleaseManager,
    SeparatedCohorts as SeparatedCohorts,
    UniformCohorts as UniformCohorts,
    build_private_learning_process as build_private_learning_process,
    data as data,
    export_model as export_model,
    no_metrics as no_metrics,
    plan as plan,
    private_metrics as private_metrics,
    train as train,
  )
  from tff_privacy_agg.ledger import PrivacyLedger as PrivacyLedger
else:
  __all__, __getattr__, __dir__ = lazy_names(__name__)
