"""The noise that a training needs for a target epsilon over its rounds."""

import dataclasses
import functools
import warnings

from tff_privacy_agg._wording import counted
from tff_privacy_agg.accounting.planning.calibration import printed_noise_multiplier, too_few_bits
from tff_privacy_agg.accounting.planning.least_budget import budget_for
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning.metrics_factory import unfinalized_type
from tff_privacy_agg.learning.process_builder import round_of, weights_type_of
from tff_privacy_agg.learning.training_task import TrainingTask

_BISECTIONS = 24  # to seven digits
_ENOUGH_BITS = 41  # a larger modulus buys nothing


def noise_for_target(task: TrainingTask) -> float:
  """The smallest noise multiplier with which a training's rounds stay within its target epsilon.

  Of the very stack, metrics and gradients that the training releases, for rounds of the fewest
  clients that its sums may have, and of those rounds that the participation cap leaves a client.

  Args:
    task: The training; its own noise multiplier does not matter.

  Raises:
    ConfigurationError: If no noise reaches the target, with what to change.
  """
  target = float(task.target_epsilon or 0.0)
  model_fn = task.model_fn()
  weights_type = weights_type_of(model_fn)
  metrics_type = functools.cache(lambda: unfinalized_type(model_fn))
  exposures = min(task.rounds, task.participation_cap or task.rounds)

  def epsilon_of(bits: int, z: float) -> float:
    one = dataclasses.replace(task, noise_multiplier=z, bits=bits)
    aggregator = one.aggregator()
    if aggregator is None:
      raise ConfigurationError('A target epsilon needs noise. Leave `target_epsilon` out.')
    bound = round_of(
      task.algorithm,
      aggregator=aggregator,
      metrics=task.metrics,
      weights_type=weights_type,
      metrics_type=metrics_type,
    )
    account, price, cohort = bound.account, bound.price, bound.cohort
    fewest, most = (cohort.minimum, cohort.maximum) if bound.distributed else (1, 1)
    epsilon, _ = budget_for(
      account,
      exposures,
      cost=account.row(price, fewest),
      worst=bound.worst_round,
      best=account.row(price, most),
      distance=bound.sampler_distance,
      delta=task.delta,
    )
    return epsilon

  def least(bits: int) -> float:
    return printed_noise_multiplier(
      target, functools.partial(epsilon_of, bits), bisections=_BISECTIONS
    )

  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # of designs that the search passes
    try:
      return least(task.bits)
    except ConfigurationError:
      if task.bits >= _ENOUGH_BITS:
        raise
    enough = 1.01 * least(_ENOUGH_BITS)
    raise too_few_bits(
      task.bits,
      _ENOUGH_BITS,
      lambda bits: epsilon_of(bits, enough),
      target=target,
      needs=f'an epsilon of {target:g} needs over {counted(task.rounds, "round")}, a noise '
      f'multiplier of about {enough:.3g}',
    )
