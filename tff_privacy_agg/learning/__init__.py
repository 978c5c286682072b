"""Training with TFF's learning processes. Names load when they are first used."""

from typing import TYPE_CHECKING

from tff_privacy_agg._lazy import lazy_names

if TYPE_CHECKING:
  from tff_privacy_agg.learning import data as data
  from tff_privacy_agg.learning.accounting_plan import Accounting as Accounting
  from tff_privacy_agg.learning.data_source import CohortDataSource as CohortDataSource
  from tff_privacy_agg.learning.example_level import ExampleLevel as ExampleLevel
  from tff_privacy_agg.learning.export.run_export import export_model as export_model
  from tff_privacy_agg.learning.flat_metrics import no_metrics as no_metrics
  from tff_privacy_agg.learning.ledger_release import (
    PrivacyLedgerReleaseManager as PrivacyLedgerReleaseManager,
  )
  from tff_privacy_agg.learning.metrics_factory import (
    PrivateMetrics as PrivateMetrics,
    private_metrics as private_metrics,
  )
  from tff_privacy_agg.learning.preparation.planning import plan as plan
  from tff_privacy_agg.learning.preparation.session_limits import SessionLimits as SessionLimits
  from tff_privacy_agg.learning.preparation.training_plan import TrainingPlan as TrainingPlan
  from tff_privacy_agg.learning.private_process import (
    PrivateLearningProcess as PrivateLearningProcess,
  )
  from tff_privacy_agg.learning.process_builder import (
    build_private_learning_process as build_private_learning_process,
  )
  from tff_privacy_agg.learning.rounds.cohorts import (
    Cohorts as Cohorts,
    PoissonCohorts as PoissonCohorts,
    UniformCohorts as UniformCohorts,
  )
  from tff_privacy_agg.learning.rounds.separated_cohorts import SeparatedCohorts as SeparatedCohorts
  from tff_privacy_agg.learning.rounds.source import (
    LocalRounds as LocalRounds,
    RoundResult as RoundResult,
    Rounds as Rounds,
  )
  from tff_privacy_agg.learning.run_directory import RunDirectory as RunDirectory
  from tff_privacy_agg.learning.statement_release import (
    MLflowReleaseManager as MLflowReleaseManager,
    StatementReleaseManager as StatementReleaseManager,
  )
  from tff_privacy_agg.learning.training import check_training as check_training, train as train
  from tff_privacy_agg.learning.training_loop import (
    TrainingLoop as TrainingLoop,
    TrainingResult as TrainingResult,
  )
else:
  __all__, __getattr__, __dir__ = lazy_names(__name__)
