"""Fuzzes one target for a while: python -m tools.fuzz TARGET SECONDS. Needs atheris.

New inputs that reach new code go into tools/fuzz/corpus/TARGET; a finding ends the run with its
traceback and is written to the working directory as crash-... . Put it into the corpus when it is
fixed: tests/test_fuzz_corpus.py runs the corpus without atheris.
"""

import pathlib
import sys

import atheris

with atheris.instrument_imports(include=['tff_privacy_agg']):
  from tools.fuzz.targets import TARGETS

_CORPUS = pathlib.Path(__file__).parent / 'corpus'


def main() -> None:
  """Runs until the time is up, or something is found."""
  if len(sys.argv) < 3 or sys.argv[1] not in TARGETS:
    sys.exit(f'Usage: python -m tools.fuzz {"|".join(TARGETS)} SECONDS')
  name, seconds, *options = sys.argv[1:]
  limits = [f'-max_total_time={seconds}', '-max_len=12000', '-timeout=20', '-rss_limit_mb=4096']
  atheris.Setup([sys.argv[0], *limits, *options, str(_CORPUS / name)], TARGETS[name])
  atheris.Fuzz()


if __name__ == '__main__':
  main()
