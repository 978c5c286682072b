"""`tff-privacy-agg client`: one client of a federated training, with its own data and keys."""

import argparse
import pathlib

_EXAMPLES = """example:
  tff-privacy-agg client --config north.toml

docs/runtime.md lists what the file holds; `examples/hospitals/run.py` writes one. A client that
was interrupted joins the next session when the same command is run again.
"""


def add(commands) -> None:
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
  from tff_privacy_agg.deployment import config, participant, tls
  from tff_privacy_agg.deployment.events import Events
  from tff_privacy_agg.deployment.round_numbers import RoundBook
  from tff_privacy_agg.errors import ConfigurationError

  settings = config.read(args.config, config.ClientConfig)
  section, keys = settings.client, settings.keys
  roster = tls.Roster.read(keys.roster)
  if section.name not in roster.ids:
    raise ConfigurationError(
      f'{args.config}: the client is {section.name!r}; the roster has {", ".join(roster.ids)}. '
      'Correct the name, or the roster.'
    )
  member = participant.Member(
    name=section.name,
    client_id=roster.ids[section.name],
    identity=tls.read_identity(keys.identity),
    roster=roster.keys,
    server_key=roster.server_key,
    policy=settings.policy,
  )
  credentials = tls.channel_credentials(keys.ca, keys.certificate, keys.key)
  book = RoundBook(pathlib.Path(section.state) / 'rounds.json')
  events = Events.to_terminal(section.name, as_json=args.json)
  events('building the process', process=section.process)
  make_process = entry_point(section.process, args.config.parent)
  make_data = entry_point(section.data, args.config.parent)

  from tff_privacy_agg.deployment import served_rounds
  from tff_privacy_agg.runtime import simulation_context

  with simulation_context(concurrency=1):
    form = served_rounds.form_of(make_process(), len(roster.ids))
    work = served_rounds.client_work(form, make_data())
    client = participant.Participant(
      address=section.server,
      credentials=credentials,
      member=member,
      task=section.task,
      schema=form.schema,
      book=book,
      reconnect_seconds=section.reconnect_seconds,
      events=events,
    )
    try:
      done = client.serve(work)
    finally:
      client.close()
  events('done', sessions=done)
  return 0
