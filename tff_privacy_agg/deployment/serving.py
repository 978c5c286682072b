"""A training with real clients, from Python: `serve` at the server, `take_part` at each client."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tff_privacy_agg import _validate
from tff_privacy_agg._files import sole_user
from tff_privacy_agg._tff import compat
from tff_privacy_agg.deployment import served_rounds
from tff_privacy_agg.deployment.config_sections import ClientPolicy, Keys, Session
from tff_privacy_agg.deployment.coordinator import Coordinator
from tff_privacy_agg.deployment.events import Events
from tff_privacy_agg.deployment.keys import tls
from tff_privacy_agg.deployment.keys.member import Member
from tff_privacy_agg.deployment.keys.roster import Roster
from tff_privacy_agg.deployment.metrics_port import MeasuredEvents, MetricsPort
from tff_privacy_agg.deployment.participant import Participant
from tff_privacy_agg.deployment.round_numbers import RoundBook
from tff_privacy_agg.deployment.served_session import Deadlines
from tff_privacy_agg.deployment.standing import STRIKES, Standing
from tff_privacy_agg.learning import RunDirectory, TrainingLoop, TrainingResult
from tff_privacy_agg.learning.preparation.session_limits import SessionLimits, check_limits
from tff_privacy_agg.learning.private_process import PrivateLearningProcess, check_facts
from tff_privacy_agg.ledger import LedgerFacts, PrivacyLedger


@_validate.plain_numbers
def serve(
  process: Any,
  rounds: int,
  *,
  task: str,
  address: str,
  keys: Keys,
  run_directory: str | os.PathLike[str],
  clients_per_round: int | None = None,
  session: Session | None = None,
  strikes: int = STRIKES,
  deadlines: Deadlines | None = None,
  evaluate: Callable[[Any], Mapping[str, float]] | None = None,
  ledger_facts: LedgerFacts | None = None,
  process_name: str | None = None,
  release_managers: Sequence[compat.ReleaseManager] = (),
  events: Events | None = None,
  metrics: str | None = None,
) -> TrainingResult:
  """Runs, or resumes, a training with clients in other processes, by the loop of `tpa.train`.

  A round waits for its clients, is charged in the ledger, runs as one session of the secure
  aggregation protocol, and is settled with the survivors that the protocol counted. At the
  end, the last round or a spent budget, the clients are told why.

  Computations of the server run in the current TFF context, such as
  `tpa.runtime.InProcessContext(worker=False)`.

  Args:
    process: A process with TFF computations `initialize` and `next`; clients build the same.
    rounds: Rounds in all, at least 1; may grow when the training is resumed.
    task: Name of the task; clients of another are refused.
    address: `host:port` to listen on.
    keys: The server's files, such as `Keys.of('keys', 'server')`.
    run_directory: Where the files of the run go, and from where it resumes.
    clients_per_round: Most clients of a round; None takes all of the roster.
    session: What every session keeps.
    strikes: Times that a client may send what no honest client sends before it is out of the
      run; 0 for any number. `strikes.json` in the run directory counts them by name.
    deadlines: How long to wait.
    evaluate: From the model weights to metrics on held-out data.
    ledger_facts: For a process that does not know its own facts; None takes the process's, or
      keeps no ledger.
    process_name: Where the process comes from, such as its entry point; a resumed run must
      say the same.
    release_managers: Take each round's flat metrics.
    events: Takes what happens; None prints it.
    metrics: `host:port` on which to serve counts and the price so far to a Prometheus server, in
      the clear and to whoever reaches it; None for nowhere. Needs prometheus_client.

  Returns:
    The last state and metrics, and whether the budget ended the training.

  Raises:
    ConfigurationError: If the process has something summed in the clear, the ledger counts on
      what sessions do not keep, or the run directory holds another run; nothing is charged then.
    RuntimeUnavailableError: If an address cannot be listened on, or prometheus_client is missing.
    SecAggError: If a round had no sum in any of its sessions, or too few clients came.
  """
  _validate.at_least(1, rounds=rounds)
  _validate.at_least(0, strikes=strikes)
  session, deadlines = session or Session(), deadlines or Deadlines()
  events = events or Events.to_terminal('server', as_json=False)
  roster = Roster.read(keys.roster)
  credentials = tls.server_credentials(keys.ca, keys.certificate, keys.key)
  identity = tls.read_identity(keys.identity)
  clients = len(roster.ids) if clients_per_round is None else clients_per_round
  _validate.at_least(session.minimum_clients, clients_per_round=clients)
  facts = getattr(process, 'facts', None)
  if ledger_facts is not None and facts is not None:
    check_facts(facts, ledger_facts)
  facts = ledger_facts or facts
  if facts is not None:
    limits = SessionLimits(
      minimum_clients=session.minimum_clients,
      maximum_clients=clients,
      colluding_fraction=session.colluding_fraction,
      dropout_fraction=session.dropout_fraction,
    )
    check_limits(facts, limits)
  form = served_rounds.form_of(process, len(roster.ids))
  config = {'task': task, 'clients': clients_per_round, **dataclasses.asdict(session)}
  with contextlib.ExitStack() as stack:
    directory = RunDirectory(run_directory, {**config, 'process': process_name})
    ledger = None
    if ledger_facts is not None:  # otherwise the loop opens that of the process
      path, budget = directory.path / 'ledger.jsonl', getattr(process, 'budget', None)
      ledger = stack.enter_context(PrivacyLedger(path, ledger_facts, budget=budget))
    managers = list(release_managers)
    if metrics is not None:
      if ledger is None and isinstance(process, PrivateLearningProcess):
        ledger = stack.enter_context(process.open_ledger(directory.path / 'ledger.jsonl'))
      events = measured = MeasuredEvents(events, rounds)
      measured.ledger = ledger
      measured.reprice()
      port = MetricsPort(metrics, measured)
      stack.callback(port.close)
      events('metrics', address=port.address)
      managers.append(served_rounds.MeasuredRounds(measured))
    if events.as_json:
      managers.append(served_rounds.RoundEvents(events, rounds))
    coordinator = Coordinator(
      address=address,
      credentials=credentials,
      clients=roster.ids,
      task=task,
      schema=form.schema,
      deadlines=deadlines,
      roster=roster.keys if session.mode == 'authenticated' else None,
      identity=identity,
      events=events,
      standing=Standing(
        {client: name for name, client in roster.ids.items()},
        strikes,
        directory.path / 'strikes.json',
        events,
      ),
      expiry=tls.Expiry(keys.ca, keys.certificate),
    )
    if metrics is not None:
      measured.coordinator = coordinator
    # After the loop has told the clients why it ended, this does nothing.
    stack.callback(coordinator.close, 'the server has stopped')
    remote = served_rounds.ServedRounds(
      form=form,
      coordinator=coordinator,
      book=RoundBook(directory.path / 'sessions.json'),
      ids=roster.ids,
      clients=clients,
      session={'task': task, 'maximum_clients': len(roster.ids), **dataclasses.asdict(session)},
    )
    loop = TrainingLoop(
      process=process,
      source=remote,
      rounds=rounds,
      evaluate=evaluate,
      directory=directory,
      ledger=ledger,
      managers=managers,
      report=events,
    )
    result = loop.run()
  return result


@_validate.plain_numbers
def take_part(
  process: Any,
  data: Any,
  *,
  name: str,
  task: str,
  server: str,
  keys: Keys,
  directory: str | os.PathLike[str],
  policy: ClientPolicy | None = None,
  reconnect_seconds: float = 60.0,
  events: Events | None = None,
) -> int:
  """Takes part in a training until its server says that it has ended.

  The client's computation runs in the current TFF context, such as
  `tpa.runtime.InProcessContext(worker=False)`.

  Args:
    process: The process, as this client builds it from its own code.
    data: A `tf.data.Dataset` of this client's batches.
    name: The client's name in its certificate and in the roster.
    task: Name of the task, as at the server.
    server: `host:port`.
    keys: The client's files, such as `Keys.of('keys', 'north')`.
    directory: Where the client keeps what it must remember between runs.
    policy: Least parameters that it accepts.
    reconnect_seconds: How long to look for a server that is not there, positive.
    events: Takes what happens; None prints it.

  Returns:
    Sessions that this client took part in to their end.

  Raises:
    ConfigurationError: If the name is not in the roster, the files of `keys` are another client's,
      another client runs in the directory, or the server has another task or process.
    RoundTimeout: If the server was not there for `reconnect_seconds`.
  """
  roster = Roster.read(keys.roster)
  policy = policy or ClientPolicy()
  own = keys.identity if policy.authenticated else None
  roster.check_client(name, keys.certificate, own)
  member = Member(
    name=name,
    client_id=roster.ids[name],
    identity=tls.read_identity(keys.identity),
    roster=roster.keys,
    server_key=roster.server_key,
    policy=policy,
  )
  form = served_rounds.form_of(process, len(roster.ids))
  where = pathlib.Path(directory)
  where.mkdir(parents=True, exist_ok=True)
  refusal = f'Another client runs in {where}. Wait for its end, or choose another directory.'
  # Of two, each would take a round that the other has served for a new one.
  with sole_user(where, refusal):
    client = Participant(
      address=server,
      credentials=tls.channel_credentials(keys.ca, keys.certificate, keys.key),
      member=member,
      task=task,
      schema=form.schema,
      book=RoundBook(where / 'rounds.json'),
      reconnect_seconds=reconnect_seconds,
      events=events or Events.to_terminal(name, as_json=False),
      expiry=tls.Expiry(keys.ca, keys.certificate),
    )
    with contextlib.closing(client):
      return client.serve(served_rounds.client_work(form, data))
