"""Takes docs/report.png: the report of a run as a headless browser shows it.

  python docs/build_screenshot.py RUN_DIR [--beside RUN_DIR] [--output FILE]

The browser is found on the path: chromium, or one of its family. Debian: `apt-get install chromium`.
"""

import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

from tff_privacy_agg import reports

_NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
# It asks nobody anything of its own accord, and can find no host.
_QUIET = (
  '--headless',
  '--disable-gpu',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--no-first-run',
  '--host-resolver-rules=MAP * ~NOTFOUND',
  '--hide-scrollbars',
  '--enable-logging=stderr',
)
_OUT = pathlib.Path(__file__).with_name('report.png')


def browser() -> str | None:
  """Path of a headless browser, or None."""
  return next((found for name in _NAMES if (found := shutil.which(name))), None)


def browse(page: pathlib.Path, *options: str) -> subprocess.CompletedProcess[str]:
  """Shows a file to the browser in a profile of its own; ends every process that it began."""
  program = browser()
  if program is None:
    raise SystemExit(f'A browser is needed; none of {", ".join(_NAMES)} is here. Install chromium.')
  # The browser's sandbox does not start for root, such as in containers.
  sandbox = ['--no-sandbox'] if os.geteuid() == 0 else []
  with tempfile.TemporaryDirectory() as profile:
    command = [program, *_QUIET, *sandbox, f'--user-data-dir={profile}', *options, page.as_uri()]
    process = subprocess.Popen(
      command,
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      start_new_session=True,
    )
    try:
      out, err = process.communicate(timeout=60)
    finally:
      with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
  return subprocess.CompletedProcess(command, process.returncode, out, err)


def main() -> None:
  """Writes the picture."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('run_dir', type=pathlib.Path)
  parser.add_argument('--beside', type=pathlib.Path)
  parser.add_argument('--output', type=pathlib.Path, default=_OUT)
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    page = reports.write_report(
      args.run_dir, pathlib.Path(folder) / 'report.html', beside=args.beside
    )
    browse(page.resolve(), '--window-size=1000,1500', f'--screenshot={args.output}')
  print(args.output)


if __name__ == '__main__':
  main()
