"""A TFF execution context whose secure sums are secure: the real protocol, clients in process."""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from tff_privacy_agg import _validate, secagg
from tff_privacy_agg._tff import compat, program_contexts
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.runtime.drops import Drops, plan_of
from tff_privacy_agg.runtime.executors import LocalExecutor
from tff_privacy_agg.runtime.in_process import InProcessContext, use
from tff_privacy_agg.runtime.round_form import RoundForm, secure_intrinsics
from tff_privacy_agg.runtime.round_report import RoundReport
from tff_privacy_agg.secagg.local.processes import PartyProcesses
from tff_privacy_agg.secagg.local.session import LocalSession


@_validate.plain_numbers
class SecAggContext(compat.SyncContext):
  """Runs TFF computations; what they sum securely goes through the real protocol.

  A computation (state at server, data at clients ...) -> (state, output ...) that contains
  `federated_secure_sum`, `_sum_bitwidth` or `_modular_sum` runs as TFF's map-reduce form:
  `prepare` on the server, `work` for each client, a session of `tff_privacy_agg.secagg` over
  what the clients' work gave, `update` on the server. The server's code gets the sum, the
  survivors and nothing else. Every other computation runs as it is. All computations run in this
  process, in `InProcessContext`: no worker, and no open port.

  All parties are on this machine: it is the real protocol with simulated parties. See
  docs/runtime.md for real ones.

  Args:
    mode: 'semi_honest' or 'authenticated', as in `secagg.SessionParams`.
    colluding_fraction: At most this part of a round's clients helps the server.
    dropout_fraction: At most this part of a round's clients drops out.
    minimum_clients: Fewest clients in a sum, 3 or more.
    maximum_clients: Most clients of a round; bounded sums get the bits for so many.
    drops: None, {client's position: protocol round from which it is silent} for every round,
      or `RandomDrops`.
    verify: None or 'mac': clients check the published sum.
    version: Version of the protocol, as in `secagg.SessionParams`.
    graph: 'auto', 'complete' or 'ring'.
    allow_clear: Leaves that the computation may sum in the clear, by the names that
      `ClearAggregandError` tells; a structure's name allows all below it.
    task: Name of the task in the protocol's messages.
    executor: Where the clients' work runs; by default in this process.
    concurrency: How many clients' work runs at once in this process.
    processes: How many processes hold the clients' side of the protocol; 0: this one alone does.
      None: one for each core in rounds that gain by it, with many pairs of clients and at most
      1 MiB a client.

  Attributes:
    last_round: `RoundReport` of the last round that ended well, or None.

  Raises:
    ConfigurationError: If an argument is outside its range.
  """

  def __init__(
    self,
    *,
    mode: str = 'semi_honest',
    colluding_fraction: float = 0.05,
    dropout_fraction: float = 0.1,
    minimum_clients: int = 3,
    maximum_clients: int = 1024,
    drops: Drops = None,
    verify: str | None = None,
    version: int = 2,
    graph: str = 'auto',
    allow_clear: Collection[str] = (),
    task: str = 'training',
    executor: Any = None,
    concurrency: int = 2,
    processes: int | None = None,
  ):
    _validate.at_least(minimum_clients, maximum_clients=maximum_clients)
    if isinstance(allow_clear, str):
      raise ConfigurationError(f'`allow_clear` must be a collection of names, got {allow_clear!r}.')
    self._session_arguments: dict[str, Any] = {
      'task': task,
      'mode': mode,
      'graph': graph,
      'colluding_fraction': colluding_fraction,
      'dropout_fraction': dropout_fraction,
      'minimum_clients': minimum_clients,
      'maximum_clients': maximum_clients,
      'verify': verify,
      'version': version,
    }
    # Refuses what no session takes, before a worker starts.
    secagg.SessionParams(
      round_number=0, leaves=[secagg.Leaf('x', (), 1)], **self._session_arguments
    )
    self._drops = drops
    self._allow_clear = tuple(allow_clear)
    self._maximum_clients = maximum_clients
    self._identities: dict[int, bytes] = {}
    self._sessions = itertools.count(1)
    # A computation is kept with what was made of it: its id stays its own.
    self._compiled: dict[int, tuple[Any, RoundForm | None]] = {}
    self._inner = InProcessContext(concurrency=concurrency)
    self._executor = LocalExecutor(self._inner, concurrency) if executor is None else executor
    self._processes = PartyProcesses(processes)
    self.last_round: RoundReport | None = None

  @property
  def session(self) -> Mapping[str, Any]:
    """Arguments of every round's `secagg.SessionParams`, such as `minimum_clients`."""
    return dict(self._session_arguments)

  def compile(self, computation: Any) -> RoundForm | None:
    """Compiles `computation` to a `RoundForm`, or returns None if it has no secure sum.

    Raises:
      ConfigurationError: If it has one and does not fit TFF's map-reduce form.
      ClearAggregandError: If clients' values would leave in the clear.
      CapacityError: If the sums of `maximum_clients` do not fit.
      UnsupportedModulusError: If a modulus is not a power of two.
    """
    known = self._compiled.get(id(computation))
    if known is None:
      form = None
      found = secure_intrinsics(computation)
      if 'federated_secure_select' in found:
        raise ConfigurationError(
          '`federated_secure_select` was called; the protocol sums, it does not select. Use '
          '`federated_select`, which tells the server the keys, or broadcast all.'
        )
      if found:
        with use(self._inner):
          form = RoundForm(
            computation, maximum_clients=self._maximum_clients, allow_clear=self._allow_clear
          )
      known = self._compiled[id(computation)] = (computation, form)
    return known[1]

  def invoke(self, comp: Any, arg: Any) -> Any:
    """Runs `comp` on `arg`; TFF calls this.

    Raises:
      SecAggError: If a secure sum has no result: `NotEnoughClients`, `NotEnoughShares`, ...
        Nothing about the clients' values is known then, and no state has changed.
    """
    form = self.compile(comp)
    if form is None:
      return self._inner.invoke(comp, arg)
    state, *placed = (arg[index] for index in range(len(arg)))
    return self._run(form, state, form.data_of(placed))

  def program_context(self) -> Any:
    """A `tff.program.NativeFederatedContext` on this context; see `SimulationContext`."""
    return program_contexts.as_awaitable(self)

  def close(self) -> None:
    """Ends what the context started. The context refuses to run anything then."""
    self._executor.close()
    self._processes.close()
    self._inner.close()

  def _run(self, form: RoundForm, state: Any, data: Sequence[Any]) -> Any:
    self.last_round = None
    session = next(self._sessions)
    if len(data) > self._maximum_clients:
      raise secagg.CapacityError(
        f'{len(data)} clients were given to a context of at most {self._maximum_clients}. Raise '
        '`maximum_clients`.'
      )
    drops = plan_of(self._drops, session, len(data))
    start = time.perf_counter()
    with use(self._inner):
      broadcast = form.prepare(state)
    seconds_server = time.perf_counter() - start
    params = secagg.SessionParams(
      round_number=session,
      leaves=form.leaves,
      context=secagg.context_digest(form.broadcast_arrays(broadcast)),
      **self._session_arguments,
    )
    clear: dict[int, Any] = {}

    def input_of(one: tuple[int, Any]) -> tuple[int, Mapping[str, Any]]:
      client, result = one
      split = form.split(result)
      if form.clear:
        clear[client] = split.clear
      return client, split.inputs

    def inputs(clients: Sequence[int]) -> Iterator[tuple[int, Mapping[str, Any]]]:
      wanted = {client: data[client] for client in clients}
      results = self._executor.run(form, wanted, broadcast)
      work.callback(results.close)
      # `map` keeps nothing of a client while the session works on its vector.
      return map(input_of, results)

    clients = range(len(data))
    identities = self._identities_of(len(data))
    # The work ends with the session, also where an error holds on to what drew on it.
    with contextlib.ExitStack() as work:
      result = LocalSession(params, clients, drops, identities, self._processes.parties).run(inputs)
    start = time.perf_counter()
    with use(self._inner):
      kept = [clear[client] for client in result.survivors if form.clear]
      joined = form.join(result.words, kept)
      result = dataclasses.replace(result, words={})  # `update` works on its own copy
      output = form.update(state, joined)
    self.last_round = RoundReport.of(
      result,
      session=session,
      plain_bytes=form.plain_bytes,
      seconds_server=seconds_server + time.perf_counter() - start,
    )
    return form.result(output)

  def _identities_of(self, clients: int) -> Mapping[int, bytes] | None:
    if self._session_arguments['mode'] != 'authenticated':
      return None
    missing = [client for client in range(clients) if client not in self._identities]
    self._identities.update(secagg.generate_identities(missing))
    return {client: self._identities[client] for client in range(clients)}
