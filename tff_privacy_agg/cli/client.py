"""`tff-privacy-agg client`: one client of a federated training, with its own data and keys."""

import argparse
import contextlib
import pathlib

from tff_privacy_agg.cli import _flags

_EXAMPLES = """example:
  tff-privacy-agg client --config north.toml

docs/runtime.md lists what the file holds; `examples/hospitals/run.py` writes one. A client that
was interrupted joins the next session when the same command is run again.
"""


def add(commands: _flags.Commands) -> None:
  """Adds the command to the parser."""
  client = commands.add_parser(
    'client',
    help='take part in a training with your own data',
    epilog=_EXAMPLES,
  )
  client.set_defaults(run=_client, resumes=True)
  client.add_argument('--config', type=pathlib.Path, required=True, help='TOML file')
  client.add_argument('--json', action='store_true', help='events for machines')


def _client(args: argparse.Namespace) -> int:
  from tff_privacy_agg._entry_points import entry_point
  from tff_privacy_agg._tff.quick_start import quick_start
  from tff_privacy_agg.deployment import config
  from tff_privacy_agg.deployment.events import Events
  from tff_privacy_agg.deployment.keys import tls
  from tff_privacy_agg.deployment.keys.roster import Roster

  settings = config.read(args.config, config.ClientConfig)
  section, keys = settings.client, settings.keys
  # Refused at once, before TensorFlow is imported.
  own = keys.identity if settings.policy.authenticated else None
  Roster.read(keys.roster).check_client(section.name, keys.certificate, own)
  tls.channel_credentials(keys.ca, keys.certificate, keys.key)
  events = Events.to_terminal(section.name, as_json=args.json)
  events('building the process', process=settings.process.source)
  with contextlib.ExitStack() as stack:
    with quick_start():
      make_process = entry_point(settings.process.source, args.config.parent)
      make_data = entry_point(settings.data.source, args.config.parent)
      from tff_privacy_agg import deployment
      from tff_privacy_agg.runtime import InProcessContext

      stack.enter_context(InProcessContext(worker=False))
      process, data = make_process(), make_data()
    done = deployment.take_part(
      process,
      data,
      name=section.name,
      task=settings.run.task,
      server=section.server,
      keys=keys,
      directory=settings.run.directory,
      policy=settings.policy,
      reconnect_seconds=section.reconnect_seconds,
      events=events,
    )
  events('done', sessions=done)
  return 0
