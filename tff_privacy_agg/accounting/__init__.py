"""Privacy accounting in NumPy: curves, epsilon, designs. Needs no TensorFlow."""

from typing import TYPE_CHECKING

from tff_privacy_agg._lazy import lazy_names
from tff_privacy_agg.accounting.accountant import NEGLIGIBLE, delta, epsilon, epsilon_at_orders
from tff_privacy_agg.accounting.accounts import (
  Account,
  GaussianAccount,
  RenyiAccount,
  account_of,
  as_numbers,
)
from tff_privacy_agg.accounting.budget import Budget, Filter
from tff_privacy_agg.accounting.composition import (
  SAFE,
  attack_power,
  composed_delta,
  composed_epsilon,
)
from tff_privacy_agg.accounting.correlated.column import BandedColumn
from tff_privacy_agg.accounting.correlated.plan import CorrelatedPlan
from tff_privacy_agg.accounting.correlated.planning import plan_correlated
from tff_privacy_agg.accounting.correlated.strategy import BandedToeplitz
from tff_privacy_agg.accounting.curves import ADJACENCIES, RdpCurve, compose, participation_cap
from tff_privacy_agg.accounting.designs.central import WIDEST_VARIANCE, central_design
from tff_privacy_agg.accounting.designs.distributed import solve
from tff_privacy_agg.accounting.designs.integer_design import IntegerDesign
from tff_privacy_agg.accounting.designs.joint import JointDesign, joint_design, smallest_bits
from tff_privacy_agg.accounting.designs.scales import (
  clip_stddevs,
  fits_modulus,
  noise_multiplier_supremum,
  norm_bounds,
  scale_from_bits,
)
from tff_privacy_agg.accounting.designs.shares import (
  LARGEST_SHARE,
  central_channel_resolution,
  channel_resolution,
  channel_share_variance,
  default_channel_stddev,
  honest_survivors,
  xnoise_components,
  xnoise_remaining_variance,
)
from tff_privacy_agg.accounting.exact_gaussian import NEARLY, gaussian_delta, gaussian_epsilon
from tff_privacy_agg.accounting.mechanisms.central import central_discrete_gaussian, gaussian
from tff_privacy_agg.accounting.mechanisms.distributed import (
  bit_channel,
  discrete_gaussian,
  discrete_gaussian_terms,
  skellam,
  tau,
)
from tff_privacy_agg.accounting.orders import (
  INTEGER_ORDERS,
  REAL_ORDERS,
  conversion_offsets,
  rdp_table,
  table_orders,
)
from tff_privacy_agg.accounting.planning.calibration import (
  find_gaussian_noise_multiplier,
  find_noise_multiplier,
  split_noise_multiplier,
)
from tff_privacy_agg.accounting.planning.plan import Plan
from tff_privacy_agg.accounting.planning.search import plan
from tff_privacy_agg.accounting.price import INFINITE, UNIT, RoundPrice
from tff_privacy_agg.accounting.sampling.fixed_rounds import fixed_rounds_epsilon, poisson_epsilon
from tff_privacy_agg.accounting.sampling.fixed_size import without_replacement
from tff_privacy_agg.accounting.sampling.poisson import poisson, poisson_round
from tff_privacy_agg.accounting.trees import (
  banded_noise_multiplier,
  correlated_gaussian,
  tree_restart_sensitivity,
  tree_sensitivity,
)
from tff_privacy_agg.accounting.vectors import NoisyVector, noisy_vector

__all__ = [
  'ADJACENCIES',
  'INFINITE',
  'INTEGER_ORDERS',
  'LARGEST_SHARE',
  'NEARLY',
  'NEGLIGIBLE',
  'REAL_ORDERS',
  'SAFE',
  'UNIT',
  'WIDEST_VARIANCE',
  'Account',
  'BandedColumn',
  'BandedToeplitz',
  'Budget',
  'CorrelatedPlan',
  'Filter',
  'GaussianAccount',
  'IntegerDesign',
  'JointDesign',
  'NoisyVector',
  'Plan',
  'RdpCurve',
  'RenyiAccount',
  'RoundPrice',
  'account_of',
  'as_numbers',
  'attack_power',
  'banded_noise_multiplier',
  'bit_channel',
  'central_channel_resolution',
  'central_design',
  'central_discrete_gaussian',
  'channel_resolution',
  'channel_share_variance',
  'clip_stddevs',
  'compose',
  'composed_delta',
  'composed_epsilon',
  'conversion_offsets',
  'correlated_gaussian',
  'default_channel_stddev',
  'delta',
  'discrete_gaussian',
  'discrete_gaussian_terms',
  'epsilon',
  'epsilon_at_orders',
  'find_gaussian_noise_multiplier',
  'find_noise_multiplier',
  'fits_modulus',
  'fixed_rounds_epsilon',
  'gaussian',
  'gaussian_delta',
  'gaussian_epsilon',
  'honest_survivors',
  'joint_design',
  'noise_multiplier_supremum',
  'noisy_vector',
  'norm_bounds',
  'participation_cap',
  'plan',
  'plan_correlated',
  'poisson',
  'poisson_epsilon',
  'poisson_round',
  'rdp_table',
  'scale_from_bits',
  'skellam',
  'smallest_bits',
  'solve',
  'split_noise_multiplier',
  'table_orders',
  'tau',
  'tree_restart_sensitivity',
  'tree_sensitivity',
  'without_replacement',
  'xnoise_components',
  'xnoise_remaining_variance',
]

if not TYPE_CHECKING:
  __getattr__ = lazy_names(
    __name__,
    moved={
      **{
        name: f'ledger.{name}'
        for name in (
          'LedgerFacts',
          'LedgerRecord',
          'PrivacyLedger',
          'Sampling',
          'Spent',
          'Verification',
          'verify',
        )
      },
      'ledger_schema': 'ledger.schema',
    },
  )[1]
