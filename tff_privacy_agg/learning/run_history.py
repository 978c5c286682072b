"""The starts of a training: each is compared with the one before, and recorded."""

import contextlib
import datetime
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import tff_privacy_agg
from tff_privacy_agg._wording import counted
from tff_privacy_agg.errors import ConfigurationError


def refuse_differences(path: pathlib.Path, differing: Iterable[str]) -> None:
  """Raises if any arguments of a resumed training differ from those it began with."""
  changed = sorted(differing)
  if changed:
    raise ConfigurationError(
      f'A training resumes with the arguments it began with; in {path} these differ: '
      f'{", ".join(changed)}. Pass the old values, or another directory.'
    )


def _last_start(file: pathlib.Path) -> tuple[Mapping[str, Any] | None, str]:
  """The last start that a history records, and what ends a line that a crash cut off."""
  if not file.exists():
    return None, ''
  lines = file.read_bytes().split(b'\n')
  cut = '\n' if lines.pop() else ''
  for line in reversed(lines):
    with contextlib.suppress(ValueError, RecursionError):
      found = json.loads(line)
      if isinstance(found, dict) and isinstance(found.get('identity'), dict) and 'rounds' in found:
        return found, cut
  if any(lines):
    raise ConfigurationError(
      f'{file} records no start of a training that can be read. Restore the file, or remove it: then '
      'nobody compares this training with the one before.'
    )
  return None, cut


def record_start(
  path: pathlib.Path, identity: Mapping[str, Any], *, rounds: int, after: int
) -> list[str]:
  """Adds a start to the history in a run directory; see `RunDirectory.begin`."""
  file = path / 'history.jsonl'
  told = []
  last, cut = _last_start(file)
  if last is not None:
    found = last['identity']
    refuse_differences(
      path,
      (
        key
        for key in found
        if key != 'computation' and key in identity and found[key] != identity[key]
      ),
    )
    if found.get('computation') != identity.get('computation'):
      told.append('the process computes something else than before; history.jsonl records it')
    if last['rounds'] != rounds:
      told.append(f'{counted(rounds, "round")} in all, {last["rounds"]} before')
  line = {
    'utc': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'version': tff_privacy_agg.__version__,
    'after': after,
    'rounds': rounds,
    'identity': dict(identity),
  }
  with file.open('a', encoding='utf-8') as lines:
    lines.write(cut + json.dumps(line, sort_keys=True) + '\n')
  return told
