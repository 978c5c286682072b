"""`tff-privacy-agg serve`: the server of a federated training with real clients."""

import argparse
import asyncio
import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import Any

_ATTEMPTS = 3
_EXAMPLES = """example:
  tff-privacy-agg serve --config server.toml

docs/runtime.md lists what the file holds; `examples/hospitals/run.py` writes one. A training that
was interrupted goes on after its last checkpoint when the same command is run again.
"""


def add(commands) -> None:
  """Adds the command to the parser."""
  serve = commands.add_parser(
    'serve',
    help='run a training with clients in other processes',
    epilog=_EXAMPLES,
  )
  serve.set_defaults(run=_serve, resumes=True)
  serve.add_argument('--config', type=pathlib.Path, required=True, help='TOML file')
  serve.add_argument('--json', action='store_true', help='events for machines')


def _serve(args: argparse.Namespace) -> int:
  from tff_privacy_agg._entry_points import entry_point
  from tff_privacy_agg.deployment import Coordinator, config, tls
  from tff_privacy_agg.deployment.events import Events
  from tff_privacy_agg.deployment.round_numbers import RoundBook

  settings = config.read(args.config, config.ServerConfig)
  keys, asked = settings.keys, settings.run
  roster = tls.Roster.read(keys.roster)
  credentials = tls.server_credentials(keys.ca, keys.certificate, keys.key)
  identity = tls.read_identity(keys.identity)
  clients = settings.session.clients or len(roster.ids)
  session = {
    'task': asked.task,
    'mode': settings.session.mode,
    'minimum_clients': settings.session.minimum_clients,
    'maximum_clients': len(roster.ids),
    'colluding_fraction': settings.session.colluding_fraction,
    'dropout_fraction': settings.session.dropout_fraction,
    'verify': settings.session.verify or None,
  }
  make = {
    name: entry_point(getattr(asked, name), args.config.parent)
    for name in ('process', 'evaluate', 'ledger')
    if getattr(asked, name)
  }
  events = Events.to_terminal('server', as_json=args.json)
  events('building the process', process=asked.process)

  from tff_privacy_agg import learning
  from tff_privacy_agg.deployment import served_rounds
  from tff_privacy_agg.ledger import PrivacyLedger
  from tff_privacy_agg.runtime import simulation_context

  with contextlib.ExitStack() as stack:
    stack.enter_context(simulation_context(concurrency=1))
    process = make['process']()
    form = served_rounds.form_of(process, len(roster.ids))
    directory = learning.RunDirectory(
      asked.directory, {**dataclasses.asdict(settings.session), 'task': asked.task}
    )
    facts = make['ledger']() if 'ledger' in make else getattr(process, 'facts', None)
    ledger = statement = None
    if facts is not None:
      _check_facts(facts, process, session, clients)
      ledger = PrivacyLedger(
        directory.path / 'ledger.jsonl', facts, budget=getattr(process, 'budget', None)
      )
      stack.enter_context(ledger)
      statement = learning.StatementReleaseManager(directory.path / 'tensorboard/privacy', ledger)
    coordinator = Coordinator(
      address=settings.server.listen,
      credentials=credentials,
      clients=roster.ids,
      task=asked.task,
      schema=form.schema,
      deadlines=settings.deadlines,
      roster=roster.keys if settings.session.mode == 'authenticated' else None,
      identity=identity,
      events=events,
    )
    stack.callback(coordinator.close, 'the server has stopped')
    remote = served_rounds.RemoteRounds(
      form=form,
      coordinator=coordinator,
      book=RoundBook(directory.path / 'sessions.json'),
      clients=clients,
      session=session,
    )
    names = {client: name for name, client in roster.ids.items()}
    evaluate = make['evaluate']() if 'evaluate' in make else None
    training = _Training(remote, directory, ledger, statement, evaluate, names, events)
    training.run(process.initialize(), asked.rounds)
    coordinator.close('the training is complete')
  return 0


def _check_facts(facts: Any, process: Any, session: Mapping[str, Any], clients: int) -> None:
  """Raises unless a ledger's facts are those of the process and of sessions of so many clients."""
  from tff_privacy_agg.errors import ConfigurationError

  changed = process.facts.differences(facts) if hasattr(process, 'facts') else []
  if changed:
    raise ConfigurationError(
      'The ledger is to record the process that is run; its facts differ from those of the process '
      f'in {", ".join(changed)}. Leave `ledger` out: the process knows its facts.'
    )
  fewest = session['minimum_clients']
  if facts.secagg_threshold is not None and facts.secagg_threshold > fewest:
    raise ConfigurationError(
      f'The ledger counts on sums of at least {facts.secagg_threshold} clients; a session opens '
      f'those of {fewest}. Raise `minimum_clients`, or lower `secagg_threshold`.'
    )
  if facts.colluding_fraction < session['colluding_fraction']:
    raise ConfigurationError(
      f'The sessions are made for a colluding fraction of {session["colluding_fraction"]:g}; the '
      f"noise of the ledger's stack for {facts.colluding_fraction:g}. Set "
      '`Cohort.colluding_fraction` to that of the sessions.'
    )
  if clients > facts.maximum:
    raise ConfigurationError(
      f"A session has up to {clients} clients; the ledger's stack admits at most {facts.maximum}. "
      'Set `clients` of the sessions to no more, or raise `Cohort.maximum`.'
    )
  _check_colluders(facts, session, clients)


def _check_colluders(facts: Any, session: Mapping[str, Any], clients: int) -> None:
  """Raises if a ledger counts the noise of clients that a session takes for colluding.

  The session's fraction is one of its clients, the ledger's one of the survivors, and colluders
  do not drop out: all of them may be among the fewest survivors.
  """
  from tff_privacy_agg import accounting
  from tff_privacy_agg.errors import ConfigurationError

  fewest = session['minimum_clients']
  colluders = clients - accounting.honest_survivors(clients, session['colluding_fraction'])
  for survivors in range(fewest, clients + 1):
    if facts.honest(survivors) > max(survivors - colluders, 1):
      raise ConfigurationError(
        f'A session takes {colluders} of {clients} clients for colluding, all of whom may be in a '
        f'sum of {survivors} when others drop out; the ledger counts {facts.honest(survivors)} '
        f'honest ones there. Raise `minimum_clients`, or `Cohort.colluding_fraction` to '
        f'{math.ceil(10_000 * min(colluders / fewest, 0.9999)) / 10_000:g}.'
      )


@dataclasses.dataclass(frozen=True)
class _Training:
  """Rounds from the last checkpoint to the end."""

  remote: Any
  directory: Any
  ledger: Any
  statement: Any
  evaluate: Any
  names: Mapping[int, str]
  events: Any

  def run(self, initial: Any, rounds: int) -> None:
    state, done = self.directory.latest(initial)
    if state is None:
      state = initial
    else:
      self.events('resuming', after=done)
    for round_number in range(done + 1, rounds + 1):
      state, measured, survivors = self._round(round_number, state)
      metrics = self._metrics(state, measured, survivors)
      # Released first: a checkpoint then always has its line in the metrics.
      self.directory.release(metrics, round_number)
      self.directory.save(state, round_number)
      if self.statement is not None:
        asyncio.run(self.statement.release(metrics, round_number))
      self.events('trained', round=f'{round_number}/{rounds}', **_told(metrics))

  def _round(self, round_number: int, state: Any) -> tuple[Any, Any, tuple[int, ...]]:
    """One round; tried again, with other keys and charged again, if it has no sum."""
    from tff_privacy_agg import secagg
    from tff_privacy_agg.learning.ledger_release import settle

    attempt = 0
    while True:
      attempt += 1
      cohort = self.remote.gather()
      charge = None
      if self.ledger is not None:
        who = [self.names[client] for client in sorted(cohort)]
        charge = self.ledger.charge(round_number, planned_survivors=len(who), cohort=who)
      try:
        output, survivors = self.remote.next(state, cohort)
      except secagg.SecAggError as error:
        self.events('round failed', round=round_number, attempt=attempt, reason=str(error))
        if attempt == _ATTEMPTS:
          raise
        continue
      new_state, metrics = _values(output)
      if charge is not None and _private(metrics):
        settle(self.ledger, round_number, metrics, counted=len(survivors))
      elif charge is not None:
        self.ledger.settle(charge, survivors=len(survivors), counted_by='runtime')
      return new_state, metrics, survivors

  def _metrics(self, state: Any, metrics: Any, survivors: tuple[int, ...]) -> dict[str, float]:
    found: dict[str, float] = {'survivors': len(survivors)}
    found.update({f'privacy/{name}': float(value) for name, value in _private(metrics).items()})
    if self.ledger is not None:
      found['ledger/epsilon'] = self.ledger.epsilon('server')
    if self.evaluate is not None:
      found.update({name: float(value) for name, value in self.evaluate(state).items()})
    return found


def _values(output: Any) -> list[Any]:
  """The fields of a `LearningProcessOutput`, or of a pair."""
  return [output.state, output.metrics] if hasattr(output, 'state') else list(output)


def _private(metrics: Any) -> Mapping[str, Any]:
  """The account in a learning process's metrics, if it has one."""
  aggregator = metrics.get('aggregator') if isinstance(metrics, Mapping) else None
  private = aggregator.get('privacy') if isinstance(aggregator, Mapping) else None
  return private or {}


def _told(metrics: Mapping[str, float]) -> dict[str, str]:
  from tff_privacy_agg.ledger.card.field import rounded_up

  told = {name: f'{metrics[name]:.3f}' for name in ('accuracy', 'loss') if name in metrics}
  told['survivors'] = f'{metrics["survivors"]:.0f}'
  if 'ledger/epsilon' in metrics:
    told['epsilon'] = rounded_up(metrics['ledger/epsilon'], 4)
  return told
