"""Measured leakage: what an attacker finds next to what the ledger promises."""

from tff_privacy_agg import _requires_tff as _requires_tff  # refuses where it is not
from tff_privacy_agg.audit.canaries import Canaries, mark_ordinary, with_canaries
from tff_privacy_agg.audit.canary_run import CanaryAudit, CanaryResult, run_with_canaries
from tff_privacy_agg.audit.exposure import Exposure, exposure, extrapolated_exposure
from tff_privacy_agg.audit.gaussian_pair import gaussian_pair_epsilon
from tff_privacy_agg.audit.intervals import (
  Interval,
  auc_interval,
  clopper_pearson,
  epsilon_from_rates,
)
from tff_privacy_agg.audit.membership import (
  MembershipResult,
  client_scores,
  label_margins,
  measure_attack,
  offline_lira,
)
from tff_privacy_agg.audit.one_run import (
  OneRunBound,
  canaries_for_bound,
  one_run_lower_bound,
  one_run_p_value,
)
from tff_privacy_agg.audit.one_shot import (
  OneShotEstimate,
  canaries_for_resolution,
  combine_rounds,
  cosines,
  estimate_epsilon,
)

__all__ = [
  'Canaries',
  'CanaryAudit',
  'CanaryResult',
  'Exposure',
  'Interval',
  'MembershipResult',
  'OneRunBound',
  'OneShotEstimate',
  'auc_interval',
  'canaries_for_bound',
  'canaries_for_resolution',
  'client_scores',
  'clopper_pearson',
  'combine_rounds',
  'cosines',
  'epsilon_from_rates',
  'estimate_epsilon',
  'exposure',
  'extrapolated_exposure',
  'gaussian_pair_epsilon',
  'label_margins',
  'mark_ordinary',
  'measure_attack',
  'offline_lira',
  'one_run_lower_bound',
  'one_run_p_value',
  'run_with_canaries',
  'with_canaries',
]
