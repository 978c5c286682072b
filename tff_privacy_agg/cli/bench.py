"""`tff-privacy-agg bench`: what a client's part of a round costs on this machine."""

import argparse
import dataclasses
import functools
import json

from tff_privacy_agg._names import RANDOMNESS
from tff_privacy_agg._wording import counted
from tff_privacy_agg.cli import _flags

_EXAMPLES = """examples:
  tff-privacy-agg bench --profile
  tff-privacy-agg bench --profile --values 1000000 --randomness philox --json

Comparisons with other aggregators need a clone: benchmarks/README.md.
"""


def add(commands: _flags.Commands) -> None:
  """Adds the command to the parser."""
  bench = commands.add_parser(
    'bench',
    help="where a client's time goes, layer by layer",
    epilog=_EXAMPLES,
  )
  bench.set_defaults(run=_bench)
  bench.add_argument('--profile', action='store_true', required=True, help='time by layer')
  bench.add_argument('--values', type=int, default=100_000, help='numbers of the model')
  bench.add_argument('--clients-per-round', type=int, default=100, help='of the cohort')
  bench.add_argument('--noise-multiplier', type=float, default=1.0, help='effective')
  bench.add_argument('--bits', type=int, default=20, help='bits a coordinate of the secure sum')
  bench.add_argument(
    '--randomness',
    choices=tuple(RANDOMNESS),
    default='chacha20',
    help='philox is for simulations only',
  )
  bench.add_argument('--json', action='store_true', help='for machines')


def _bench(args: argparse.Namespace) -> int:
  from tff_privacy_agg import _validate
  from tff_privacy_agg.cli import _progress

  _validate.at_least(
    1, values=args.values, clients_per_round=args.clients_per_round, bits=args.bits
  )
  _validate.positive(noise_multiplier=args.noise_multiplier)
  with _progress.waiting('starting TensorFlow'):
    import tff_privacy_agg as tpa
    from tff_privacy_agg.aggregation import profiling

  layers = [
    tpa.Mean(),
    tpa.Zeroing(threshold=tpa.AdaptiveQuantile(initial=10.0, target=0.98)),
    tpa.Clipping(norm=tpa.AdaptiveQuantile(initial=0.1, target=0.5)),
    tpa.HadamardRotation(),
    tpa.Quantization(),
    tpa.DiscreteGaussianNoise(noise_multiplier=args.noise_multiplier),
    tpa.SecureModularSum(bits=args.bits),
  ]
  rows = profiling.profile(
    layers,
    cohort=tpa.Cohort(expected=args.clients_per_round),
    dim=args.values,
    randomness=args.randomness,
    progress=functools.partial(_progress.Bars(), 'parts of a client'),
  )
  if args.json:
    print(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
    return 0
  print(f'{counted(args.values, "value")}, {args.randomness}; CPU time of one client')
  for row in rows[:-1]:
    bar = '#' * round(40 * row.share)
    print(f'{row.name:<32} {row.nanoseconds:8.2f} ns a value {100 * row.share:5.1f} %  {bar}')
  print(f'{rows[-1].name:<32} {rows[-1].nanoseconds:8.2f} ns a value')
  return 0
