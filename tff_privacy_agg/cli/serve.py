"""`tff-privacy-agg serve`: the server of a federated training with real clients."""

import argparse
import contextlib
import pathlib

from tff_privacy_agg.cli import _flags
from tff_privacy_agg.cli._training import closing

_EXAMPLES = """example:
  tff-privacy-agg serve --config server.toml

docs/runtime.md lists what the file holds; `examples/hospitals/run.py` writes one. A training that
was interrupted goes on after its last checkpoint when the same command is run again.
"""


def add(commands: _flags.Commands) -> None:
  """Adds the command to the parser."""
  serve = commands.add_parser(
    'serve',
    help='run a training with clients in other processes',
    epilog=_EXAMPLES,
  )
  serve.set_defaults(run=_serve, resumes=True)
  serve.add_argument('--config', type=pathlib.Path, required=True, help='TOML file')
  serve.add_argument('--json', action='store_true', help='events for machines')
  serve.add_argument(
    '--metrics',
    metavar='ADDRESS',
    help='host:port on which to serve counts and epsilon to a Prometheus server, in the clear',
  )


def _serve(args: argparse.Namespace) -> int:
  from tff_privacy_agg._entry_points import entry_point
  from tff_privacy_agg._tff.quick_start import quick_start
  from tff_privacy_agg.deployment import config
  from tff_privacy_agg.deployment.config_sections import check_address
  from tff_privacy_agg.deployment.events import Events
  from tff_privacy_agg.deployment.keys import tls
  from tff_privacy_agg.deployment.keys.roster import Roster

  # Refused at once, before TensorFlow is imported.
  if args.metrics is not None:
    check_address('--metrics', args.metrics)
  settings = config.read(args.config, config.ServerConfig)
  asked, keys = settings.run, settings.keys
  Roster.read(keys.roster)
  tls.server_credentials(keys.ca, keys.certificate, keys.key)
  named = {
    'process': settings.process.source,
    'evaluate': settings.process.evaluate,
    'ledger': settings.privacy.ledger,
  }
  events = Events.to_terminal('server', as_json=args.json)
  events('building the process', process=settings.process.source)
  with contextlib.ExitStack() as stack:
    with quick_start():
      make = {key: entry_point(name, args.config.parent) for key, name in named.items() if name}
      from tff_privacy_agg import deployment
      from tff_privacy_agg.runtime import InProcessContext

      stack.enter_context(InProcessContext(worker=False))
      process = make['process']()
    stack.enter_context(closing.sums_that_fail(asked.directory))
    result = deployment.serve(
      process,
      asked.rounds,
      task=asked.task,
      address=settings.server.listen,
      keys=keys,
      run_directory=asked.directory,
      clients_per_round=settings.cohort.clients_per_round,
      session=settings.session,
      strikes=settings.cohort.strikes,
      deadlines=settings.deadlines,
      evaluate=make['evaluate']() if 'evaluate' in make else None,
      ledger_facts=make['ledger']() if 'ledger' in make else None,
      process_name=settings.process.source,
      events=events,
      metrics=args.metrics,
    )
  summary = closing.summary(result, asked.rounds)
  closing.write(asked.directory, summary)
  told = (
    {'event': 'done', **summary}
    if args.json
    else {'event': closing.last_words(summary, asked.directory)}
  )
  events(**told)
  return 0
