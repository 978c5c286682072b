"""What each kind of conformance case computes, by kind.

Each function takes a case's `inputs` and `expected` and returns fields by name:
numbers, lists, curves, or functions without arguments for what is slow.
"""

from collections.abc import Callable

from tools.conformance import _central_cases, _distributed_cases, _oracle_cases
from tools.conformance._fields import Inputs, Values

KINDS: dict[str, Callable[[Inputs, Inputs], Values]] = {
  'ddp_epsilon': _distributed_cases.ddp_epsilon,
  'adjacency': _distributed_cases.ddp_epsilon,
  'integer_domain': _distributed_cases.integer_domain,
  'ledger_survivors': _distributed_cases.ledger_survivors,
  'participation_cap': _distributed_cases.participation_cap,
  'poisson_ddp': _distributed_cases.poisson_ddp,
  'wor_ddp': _distributed_cases.wor_ddp,
  'adaptive_ddp': _distributed_cases.adaptive_ddp,
  'z_eff_supremum': _distributed_cases.z_eff_supremum,
  'calibration': _distributed_cases.calibration,
  'joint_design': _distributed_cases.joint_design,
  'poisson_gaussian': _central_cases.poisson_gaussian,
  'wor_gaussian': _central_cases.wor_gaussian,
  'gaussian': _central_cases.gaussian,
  'tree_restart': _central_cases.tree_restart,
  'tree_no_restart': _central_cases.tree_no_restart,
  'banded_mf': _central_cases.banded_mf,
  'adaptive_split': _central_cases.adaptive_split,
  'calibration_gaussian': _central_cases.calibration_gaussian,
  'oracle_skellam_1d': _oracle_cases.oracle_skellam_1d,
  'oracle_ddgauss_1d': _oracle_cases.oracle_ddgauss_1d,
  'oracle_skellam_flat_pld': _oracle_cases.oracle_skellam_flat_pld,
  'xnoise_split': _oracle_cases.xnoise_split,
  'quantile_leak': _oracle_cases.quantile_leak,
}
