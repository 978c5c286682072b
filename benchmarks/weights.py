"""Measures what the secure weighted mean without noise loses to rounding, against TFF's.

The first round of `tpa.secure_aggregator` and of `tff.learning.secure_aggregator`, both with
their defaults and with `clipping=False`: the L2 norm of the error of the mean, over the norm of
the mean in float64. In the first round the bounds are furthest from the norms of the values.
"""

import argparse
import os
import sys
from typing import Any

os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'

import _measure as measure
import numpy as np
import tensorflow_federated as tff

import tff_privacy_agg as tpa

DIMENSIONS = (1_000, 10_000, 100_000, 1_000_000)
NORMS = (0.01, 1.0)
WEIGHTS = {
  '1': (1, 1, 1, 1),
  '8 to 20': (8, 12, 16, 20),
  '1000': (1000,) * 4,
  '10^6': (10**6,) * 4,
  '1 to 10^6': (1, 100, 10**4, 10**6),
}
FACTORIES = {'ours': tpa.secure_aggregator, 'tff': tff.learning.secure_aggregator}


def vectors(dim: int, norm: float) -> list[np.ndarray]:
  normal = np.random.default_rng(dim).normal(size=(4, dim))
  lengths = np.linalg.norm(normal, axis=1, keepdims=True)
  # Below the norm at which the default clip begins, so that neither side clips.
  return list((normal / lengths * norm * 0.999).astype(np.float32))


def errors(dim: int, clipping: bool) -> list[dict[str, Any]]:
  processes = {
    name: make(clipping=clipping).create(
      tff.TensorType(np.float32, [dim]), tff.TensorType(np.float32)
    )
    for name, make in FACTORIES.items()
  }
  rows = []
  for norm in NORMS:
    values = vectors(dim, norm)
    for label, numbers in WEIGHTS.items():
      weights = np.array(numbers, np.float32)
      want = np.average(np.array(values, np.float64), axis=0, weights=weights.astype(np.float64))
      row: dict[str, Any] = {'dim': dim, 'clipping': clipping, 'norm': norm, 'weights': label}
      for name, process in processes.items():
        output = process.next(process.initialize(), values, list(weights))
        row[name] = float(f'{np.linalg.norm(output.result - want) / np.linalg.norm(want):.3g}')
        if name == 'ours':
          row['stated'] = float(f'{output.measurements["quantization"]["relative_error"]:.3g}')
      rows.append(row)
  return rows


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--json', help='where the numbers go')
  parser.add_argument('--dims', type=int, nargs='+', default=DIMENSIONS)
  arguments = parser.parse_args()
  tpa.runtime.simulation_context()
  rows = [
    row for clipping in (False, True) for dim in arguments.dims for row in errors(dim, clipping)
  ]
  header = ('values', 'clipping', 'norm', 'weights', 'ours', 'stated', 'tff')
  print(measure.table(header, [tuple(row[k] for k in ('dim', *header[1:])) for row in rows]))
  measure.write_json(arguments.json, {**measure.environment(), 'errors': rows})


if __name__ == '__main__':
  sys.exit(main())
