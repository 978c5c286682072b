"""`tff-privacy-agg audit`: what a training leaks, measured next to what its ledger promises."""

import argparse
import contextlib
import json
import pathlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tff_privacy_agg._wording import counted
from tff_privacy_agg.cli import _flags

if TYPE_CHECKING:
  from tff_privacy_agg.audit.run_results import RunAudit

# What only some audits use, with its default.
_USED_BY = {
  'canaries': (('canaries',), 100),
  'norm': (('canaries',), 4.0),
  'confidence': (('canaries', 'membership'), 0.95),
}
_AUDITS = ('canaries', 'membership', 'memorization', 'gallery')
_EXAMPLES = """examples:
  tff-privacy-agg audit runs/digits-private
  tff-privacy-agg audit runs/digits-private --only canaries --canaries 50 --json
  tff-privacy-agg audit --fresh

exit code 1: a lower bound on epsilon is above that of the ledger.
"""


def add(commands: _flags.Commands) -> None:
  """Adds the command to the parser."""
  audit = commands.add_parser(
    'audit',
    help='measure what a training leaks; fails if that is more than its ledger says',
    epilog=_EXAMPLES,
  )
  audit.set_defaults(run=_audit, resumes=True)
  audit.add_argument('run_dir', type=pathlib.Path, nargs='?', help='of `tff-privacy-agg train`')
  audit.add_argument('--fresh', action='store_true', help='train the demo first, and audit that')
  audit.add_argument(
    '--only', action='append', choices=_AUDITS, help='one audit; may be repeated (default: all)'
  )
  for name, kind, text in (
    ('canaries', int, 'canary clients to add'),
    ('norm', float, "length of a canary's update: above the clipping norm"),
    ('confidence', float, 'of the bounds'),
  ):
    audit.add_argument(f'--{name}', type=kind, help=_flags.told(text, _USED_BY[name][1]))
  audit.add_argument('--seed', type=int, default=0, help='of canaries and draws')
  audit.add_argument('--json', action='store_true', help='print audit.json')


def _audit(args: argparse.Namespace) -> int:
  from tff_privacy_agg import _validate, cli
  from tff_privacy_agg.cli import _progress
  from tff_privacy_agg.errors import ConfigurationError

  if args.fresh == (args.run_dir is not None):
    raise ConfigurationError(
      'An audit takes a run directory, or --fresh to train the demo first; got '
      f'{"both" if args.fresh else "neither"}. Give one of them.'
    )
  audits = args.only or _AUDITS
  for name, (users, default) in _USED_BY.items():
    if getattr(args, name) is None:
      setattr(args, name, default)
    elif not {*users} & {*audits}:
      raise ConfigurationError(
        f'--{name} would do nothing: it is of {" and ".join(users)}, and --only names other '
        'audits. Leave it out.'
      )
  _validate.at_least(2, canaries=args.canaries)
  _validate.at_least(0, seed=args.seed)
  _validate.positive(norm=args.norm)
  _validate.fraction(confidence=args.confidence)
  path = args.run_dir
  if args.fresh:
    path = _free_directory()
    # Its own JSON would stand before that of the audit; as a summary it is on stdout.
    with contextlib.redirect_stdout(sys.stderr) if args.json else contextlib.nullcontext():
      if code := cli.main(['train', '--run-dir', str(path)]):
        return code
  with _progress.waiting('starting TensorFlow Federated'):
    from tff_privacy_agg import runtime
    from tff_privacy_agg.audit import run_audit
  with runtime.simulation_context(), runtime.explained():
    result = run_audit.audit_run(
      path,
      audits=audits,
      canaries=args.canaries,
      norm=args.norm,
      confidence=args.confidence,
      seed=args.seed,
      progress=_progress.Bars(),
    )
  if args.json:
    print(json.dumps(result.found, indent=2))
  else:
    print('\n'.join(_summary(result, path)))
  return 1 if result.exceeded else 0


def _free_directory() -> pathlib.Path:
  """The first directory that is free, or holds a demo that was not audited to the end."""
  number = 1
  while ((path := pathlib.Path('runs') / f'audit-{number}') / 'audit.json').exists():
    number += 1
  return path


def _summary(result: 'RunAudit', path: pathlib.Path) -> list[str]:
  found = result.found
  claim = found['claim']
  lines = [
    f'claim: epsilon {_short(claim["epsilon"])} at delta {claim["delta"]:g}, {path}',
    f'  {claim["risk"]}',
  ]
  if shown := found.get('canaries'):
    iterates, final = shown['all_iterates'], shown['final_model']
    full = shown['rounds_at_full_length']
    lines += [
      f'canaries: epsilon at least {_short(shown["lower"])} ({found["confidence"]:.0%} '
      f'confidence), estimate {_short(iterates["epsilon"])} from all models, '
      f'{_short(final["epsilon"])} from the last',
      f'  {shown["one_run"]["canaries"]} drawn, {iterates["canaries"]} of them included, in '
      f'{shown["appearances"]:.1f} of {counted(shown["rounds"], "round")} each; at full length in '
      f'{counted("?" if full is None else full, "round")}',
      f'  cost: {shown["seconds_a_round"]:.2f} s a round'
      + (
        f' next to {shown["seconds_a_round_without"]:.2f} s without canaries'
        if 'seconds_a_round_without' in shown
        else ''
      ),
    ]
  for name, attack in found.get('membership', {}).items():
    if name != 'shadows':
      lines.append(_membership_line(name, attack))
  for row in found.get('memorization', []):
    clear, private = row['clear'], row['private']
    lines.append(
      f'memorization, {row["model"]}: {clear["mean_bits"]:.2f} bits of exposure in the clear, '
      f'{private["mean_bits"]:.2f} private, of {clear["largest_bits"]:.2f} (1.44 is none)'
    )
  for report in found.get('gallery', []):
    mark = 'defended' if report['defended'] else 'NOT DEFENDED'
    lines += [
      f'attack {report["name"]} ({mark}): {report["attempt"]}',
      f'  unprotected: {report["unprotected"]}',
      f'  ours: {report["ours"]}',
    ]
  if 'canaries' in found:
    verdict = 'MORE THAN THE LEDGER SAYS' if result.exceeded else 'no more than the ledger says'
    lines.append(f'leak measured: {verdict}')
  return [*lines, f'{path}: audit.json, pictures audit_*.png; noted in ledger.jsonl']


def _membership_line(name: str, attack: Mapping[str, Any]) -> str:
  area = attack['auc']
  parts = [f'membership, {name}: AUC {_interval(area)}']
  for rate, found in attack['tpr_at'].items():
    if found is None:
      needed = round(1 / float(rate))
      parts.append(f'at {float(rate):.1%} FPR none (needs {needed:,} others)')
    else:
      parts.append(f'TPR {_interval(found)} at {float(rate):.1%} FPR')
  return ', '.join(parts)


def _interval(value: Mapping[str, float]) -> str:
  return f'{value["value"]:.3f} [{value["low"]:.3f}, {value["high"]:.3f}]'


def _short(value: str | float) -> str:
  return value if isinstance(value, str) else f'{value:.2f}'
