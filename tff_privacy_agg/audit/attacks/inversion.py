"""Gradient inversion: the picture that a client trained on, from its update."""

from collections.abc import Mapping, Sequence

import numpy as np

from tff_privacy_agg.aggregation import layers
from tff_privacy_agg.audit import softmax
from tff_privacy_agg.audit.attacks import rounds
from tff_privacy_agg.audit.attacks.report import AttackReport
from tff_privacy_agg.learning import data
from tff_privacy_agg.learning.data.digits import NUM_CLASSES, NUM_PIXELS

_CLIENTS, _SIDE, _CLIP, _NOISE = 100, 8, 0.5, 1.0
_ATTACKED = 5  # pictures that are averaged over
_SEEN = 0.9  # correlation above which a person recognises the digit


def run(seed: int = 0) -> AttackReport:
  """Divides the kernel's update of a class by its bias's: exact for one example.

  A linear model's gradient for a picture x is the outer product of x and the errors of
  the classes; the bias's is the errors themselves. The attacker knows the label.
  """
  x, y = _examples(seed)
  model = softmax.train(x[_CLIENTS:], y[_CLIENTS:], NUM_CLASSES, steps=20)
  updates = np.stack([update(model, x[i : i + 1], y[i : i + 1]) for i in range(_CLIENTS)])
  clipped = updates / np.maximum(1, np.linalg.norm(updates, axis=1) / _CLIP)[:, None]
  stack = rounds.stack_of(
    [
      layers.Clipping(norm=_CLIP),
      layers.HadamardRotation(),
      layers.Quantization(),
      layers.DiscreteGaussianNoise(noise_multiplier=_NOISE),
      layers.SecureModularSum(bits=20),
    ],
    updates.shape[1],
    _CLIENTS,
  )
  sums = rounds.received(stack, rounds.sender(stack)(updates))
  ours = rounds.decoded(stack, sums)[1].numpy()
  rng = np.random.default_rng([seed, 1])
  noised = clipped + _CLIP * _NOISE * rng.standard_normal(clipped.shape)
  seen = {
    'clear': updates,
    'clipped': clipped,
    'noised': noised,
    **{f'sum_of_{n}': _sums_of(clipped, n) for n in (2, 10, _CLIENTS)},
    'ours': np.tile(ours, [_ATTACKED, 1]),
  }
  pictures = {
    name: np.stack([invert(vectors[i], y[i]) for i in range(_ATTACKED)])
    for name, vectors in seen.items()
  }
  alike = {
    name: float(np.mean([_correlation(found[i], x[i]) for i in range(_ATTACKED)]))
    for name, found in pictures.items()
  }
  return AttackReport(
    name='inversion',
    attempt=f'reads {_ATTACKED} pictures off updates of clients that hold one picture each',
    unprotected=f'the pictures: correlation {alike["clear"]:.2f} in the clear, '
    f'{alike["clipped"]:.2f} clipped',
    ours=f'correlation {alike["ours"]:.2f} from the noised sum of {_CLIENTS} '
    f'({alike["noised"]:.2f} from one noised update, {alike["sum_of_2"]:.2f}, '
    f'{alike["sum_of_10"]:.2f}, {alike[f"sum_of_{_CLIENTS}"]:.2f} from sums of 2, 10, {_CLIENTS} '
    'without noise)',
    succeeded=alike['clear'] > _SEEN,
    defended=alike['ours'] < _SEEN,
    figures={f'correlation_{name}': value for name, value in alike.items()},
    pictures={'inversion': _sheet(x[:_ATTACKED], pictures)},
  )


def update(model: Sequence[np.ndarray], x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """One step of descent on `x`, `y`, flat: kernel, then bias."""
  values = softmax.logits(model, x)
  chances = np.exp(values - values.max(axis=1, keepdims=True))
  chances /= chances.sum(axis=1, keepdims=True)
  errors = (np.eye(NUM_CLASSES)[y] - chances) / len(y)
  return np.concatenate([(x.T @ errors).ravel(), errors.sum(axis=0)])


def invert(vector: np.ndarray, label: int) -> np.ndarray:
  """The picture that an update of one example holds, `[pixels]`."""
  kernel = vector[: NUM_PIXELS * NUM_CLASSES].reshape(NUM_PIXELS, NUM_CLASSES)
  bias = vector[NUM_PIXELS * NUM_CLASSES :]
  divisor = bias[label] if abs(bias[label]) > 1e-12 else 1e-12
  return kernel[:, label] / divisor


def _examples(seed: int) -> tuple[np.ndarray, np.ndarray]:
  examples = data.load_digits(1, seed=seed)
  batch = next(iter(examples.train.create_tf_dataset_for_client('client_0000').batch(2**20)))
  order = np.random.default_rng(seed).permutation(len(batch['y']))
  return batch['x'].numpy()[order].astype(np.float64), batch['y'].numpy()[order]


def _sums_of(vectors: np.ndarray, count: int) -> np.ndarray:
  """For each attacked client the sum of it and the next ones."""
  return np.stack([np.roll(vectors, -i, axis=0)[:count].sum(axis=0) for i in range(_ATTACKED)])


def _correlation(found: np.ndarray, truth: np.ndarray) -> float:
  if found.std() == 0:
    return 0.0
  return float(np.corrcoef(found, truth)[0, 1])


def _sheet(truth: np.ndarray, pictures: Mapping[str, np.ndarray]) -> np.ndarray:
  """One row a variant, the truth first; each picture scaled to its own range."""
  rows = []
  for row in (truth, *pictures.values()):
    tiles = [np.pad(_scaled(one).reshape(_SIDE, _SIDE), 1, constant_values=0.5) for one in row]
    rows.append(np.hstack(tiles))
  return np.kron(np.vstack(rows), np.ones([6, 6]))


def _scaled(picture: np.ndarray) -> np.ndarray:
  low, high = picture.min(), picture.max()
  return (picture - low) / (high - low) if high > low else np.zeros_like(picture)
