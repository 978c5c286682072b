"""A plan of a whole training: its numbers as a stack, an account and a configuration."""

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from tff_privacy_agg import accounting
from tff_privacy_agg._wording import counted
from tff_privacy_agg.errors import ConfigurationError

if TYPE_CHECKING:
  from tff_privacy_agg.aggregation.domains import Cohort
  from tff_privacy_agg.aggregation.factories import ComposedFactory
  from tff_privacy_agg.learning.accounting_plan import Accounting


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingPlan:
  """Stack, cohort and account of a training that ends at a target epsilon: see `plan`.

  Attributes:
    numbers: Noise, bits, cost and reasons, as `accounting.plan` gives them.
    target_epsilon: Largest epsilon at the end.
    rounds: Rounds of the training.
    clients_per_round: Clients of a round.
    population: All clients.
    parameters: Trainable numbers of the model.
    mechanism: Law of the noise.
    dropout: Fraction of a cohort that may drop out of a round.
    colluding_fraction: Fraction of the survivors whose noise the server knows.
    sampling: What is claimed of the cohorts.
    participation_cap: Most rounds of one client; None for no cap.
  """

  numbers: accounting.Plan
  target_epsilon: float
  rounds: int
  clients_per_round: int
  population: int
  parameters: int
  mechanism: str
  dropout: float
  colluding_fraction: float
  sampling: str
  participation_cap: int | None

  @property
  def noise_multiplier(self) -> float:
    """Effective noise multiplier of a round."""
    return self.numbers.noise_multiplier

  @property
  def bits(self) -> int:
    """Bits a coordinate of the secure sum."""
    return self.numbers.bits

  @property
  def epsilon(self) -> float:
    """Epsilon at the end, at most the target."""
    return self.numbers.epsilon

  @property
  def delta(self) -> float:
    """Delta of it."""
    return self.numbers.delta

  @property
  def minimum_clients(self) -> int:
    """Fewest clients in a sum that the runtime may open."""
    return int((1 - self.dropout) * self.clients_per_round + 1e-9)

  @property
  def cohort(self) -> 'Cohort':
    """The cohort that the stack is built for."""
    from tff_privacy_agg.aggregation.domains import Cohort

    return Cohort(
      expected=self.clients_per_round,
      minimum=self.numbers.minimum_honest,
      colluding_fraction=self.colluding_fraction,
    )

  def stack(self) -> 'ComposedFactory':
    """The aggregator: adaptive zeroing and clipping, rotation, the planned noise, one secure sum.

    For `build_private_learning_process`, with `accounting()`; it is that of the command `train`.
    """
    from tff_privacy_agg.aggregation.factories import compose
    from tff_privacy_agg.learning.training_task import default_layers

    layers = default_layers(self.mechanism, self.noise_multiplier, self.bits)
    return compose(layers, cohort=self.cohort)

  def accounting(self, *, task: str = '') -> 'Accounting':
    """The account of the plan, with a budget that admits exactly the planned rounds.

    Args:
      task: What is trained, for the report.

    Raises:
      ConfigurationError: If the plan claims Poisson sampling, which no ledger of these stacks does.
    """
    from tff_privacy_agg.learning.accounting_plan import Accounting
    from tff_privacy_agg.ledger import Sampling

    claim: Sampling | str = ''
    if self.sampling == 'without_replacement':
      claim = Sampling(
        kind=self.sampling, population=self.population, cohort=self.clients_per_round
      )
    elif self.sampling != 'none':
      raise ConfigurationError(
        f'The plan claims sampling={self.sampling!r}; a stack publishes the number of survivors, and its '
        "ledger cannot claim that. Plan with 'none' or 'without_replacement'."
      )
    return Accounting(
      population=self.population,
      delta=self.delta,
      budget=self.numbers.budget,
      minimum_clients=self.minimum_clients,
      participation_cap=self.participation_cap,
      sampling=claim,
      task=task,
    )

  def toml(self) -> str:
    """The configuration of this training for `tff-privacy-agg train --config FILE`.

    Raises:
      ConfigurationError: If the plan has drop-outs, colluders or claimed sampling, which a training on
        one machine has not.
    """
    if self.dropout or self.colluding_fraction or self.sampling != 'none':
      raise ConfigurationError(
        '`train` runs on one machine, with a session of its own; this plan has `dropout`, '
        '`colluding_fraction` or `sampling`. Plan without them, or pass `stack()` and `accounting()` to '
        '`build_private_learning_process`.'
      )
    sections: dict[str, dict[str, Any]] = {
      'run': {'rounds': self.rounds},
      'data': {'population': self.population},
      'cohort': {'clients_per_round': self.clients_per_round},
      'privacy': {
        'target_epsilon': self.target_epsilon,
        'delta': self.delta,
        'noise_multiplier': self.noise_multiplier,
        'mechanism': self.mechanism,
        'bits': self.bits,
        'participation_cap': self.participation_cap,
      },
    }
    lines = [
      f'# Epsilon {self.epsilon:.6g} after {counted(self.rounds, "round")}, for '
      f'{counted(self.parameters, "parameter")}.'
    ]
    for section, values in sections.items():
      lines += ['', f'[{section}]']
      lines += [f'{key} = {json.dumps(one)}' for key, one in values.items() if one is not None]
      if section == 'data':
        lines.append('# source = "mymodule:load"   # your own data; the digits without')
    lines += ['', '[model]', '# source = "mymodule:model"  # for your own data']
    return '\n'.join(lines) + '\n'

  def as_dict(self) -> dict[str, Any]:
    """The plan as JSON values."""
    return self.numbers.as_dict()
