"""A sum of residues over the integers: it tells how many clients sent something negative."""

import numpy as np

from tff_privacy_agg.aggregation import layers
from tff_privacy_agg.audit.attacks import rounds
from tff_privacy_agg.audit.attacks.report import AttackReport
from tff_privacy_agg.numerics import modular

_DIM, _CLIENTS, _BITS = 500, 10, 16


def run(seed: int = 0) -> AttackReport:
  """Divides what is beyond the centred sum by the modulus, coordinate by coordinate.

  TFF's distributed differential privacy sums residues with a secure sum over the
  integers and reduces afterwards.
  """
  stack = rounds.stack_of(
    [
      layers.Clipping(norm=1.0),
      layers.Quantization(),
      layers.DiscreteGaussianNoise(noise_multiplier=2.0),
      layers.SecureModularSum(bits=_BITS),
    ],
    _DIM,
    _CLIENTS,
  )
  values = np.random.default_rng(seed).normal(size=[_CLIENTS, _DIM]) / 30
  sent = rounds.sender(stack)(values)
  truth = np.sum([modular.centre(one['vector'], _BITS).numpy() < 0 for one in sent], axis=0)
  integer_sum = np.sum([one['vector'].astype(np.int64) for one in sent], axis=0)
  right = float(np.mean(_negatives(integer_sum) == truth))
  ours = rounds.received(stack, sent)['vector'].astype(np.int64)
  # All that is left is the sign of the noised sum itself.
  signs = modular.centre(np.sum([one['vector'] for one in sent], axis=0), _BITS).numpy() < 0
  nothing_else = bool(np.array_equal(_negatives(ours), signs))
  ours_right = float(np.mean(_negatives(ours) == truth))
  return AttackReport(
    name='not_modular',
    attempt=f'reads how many of {_CLIENTS} noised numbers were negative, in {_DIM} coordinates',
    unprotected=f'the exact number in {right:.0%} of the coordinates',
    ours=f'the sign of the noised sum and nothing else (the number in {ours_right:.0%})',
    succeeded=right == 1.0,
    defended=nothing_else,
    figures={'right_unprotected': right, 'right_ours': ours_right},
  )


def _negatives(received: np.ndarray) -> np.ndarray:
  centred = modular.centre(modular.wrap(received, _BITS), _BITS).numpy()
  return (received - centred) // 2**_BITS
