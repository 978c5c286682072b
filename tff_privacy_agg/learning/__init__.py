"""Training with TFF's learning processes. Names load when they are first used."""

from tff_privacy_agg._lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
  __name__,
  {
    'learning.accounting_plan': ('Accounting',),
    'learning.cohorts': ('Cohorts', 'PoissonCohorts', 'SeparatedCohorts', 'UniformCohorts'),
    'learning.data_source': ('CohortDataSource',),
    'learning.example_level': ('ExampleLevel',),
    'learning.export.run_export': ('export_model',),
    'learning.ledger_release': ('PrivacyLedgerReleaseManager',),
    'learning.flat_metrics': ('no_metrics',),
    'learning.metrics_factory': ('PrivateMetrics', 'private_metrics'),
    'learning.private_process': ('PrivateLearningProcess',),
    'learning.process_builder': ('build_private_learning_process',),
    'learning.run_directory': ('RunDirectory',),
    'learning.statement_release': ('MLflowReleaseManager', 'StatementReleaseManager'),
    'learning.rounds': ('LocalRounds', 'RoundResult', 'Rounds', 'SessionLimits'),
    'learning.training': ('check_training', 'train'),
    'learning.preparation.training_plan': ('TrainingPlan', 'plan'),
    'learning.training_loop': ('TrainingLoop', 'TrainingResult'),
  },
)
