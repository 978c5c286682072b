"""A whole session in one process: for tests, simulations and measurements."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.secagg import wire
from tff_privacy_agg.secagg.client import Client
from tff_privacy_agg.secagg.errors import SecAggError
from tff_privacy_agg.secagg.params import SessionParams
from tff_privacy_agg.secagg.primitives import keys
from tff_privacy_agg.secagg.results import SessionResult
from tff_privacy_agg.secagg.server import Server

ROUNDS = 6


class _Meter:
  """Adds up the seconds of calls, by party; None is the server."""

  def __init__(self) -> None:
    self.seconds: dict[int | None, float] = {}

  def run(self, party: int | None, call: Callable[..., Any], *args: Any) -> Any:
    start = time.perf_counter()
    try:
      return call(*args)
    finally:
      self.seconds[party] = self.seconds.get(party, 0.0) + time.perf_counter() - start


def generate_identities(clients: list[int]) -> dict[int, bytes]:
  """A fresh Ed25519 private key, 32 raw bytes, for each client."""
  return {client: bytes(keys.Secret().data) for client in clients}


def roster_of(identities: Mapping[int, keys.Identity]) -> dict[int, bytes]:
  """The Ed25519 public keys of private ones."""
  return {
    client: keys.signing_key(identity).public_key().public_bytes_raw()
    for client, identity in identities.items()
  }


def run_in_memory(
  params: SessionParams,
  inputs: Mapping[int, Mapping[str, Any]],
  drops: Mapping[int, int] | None = None,
  identities: Mapping[int, keys.Identity] | None = None,
) -> SessionResult:
  """Runs a session with real clients and a real server.

  Args:
    params: Parameters of the session.
    inputs: {client id: {leaf: integer array}}.
    drops: {client id: the first round, 0 to 5, in which it sends nothing}.
    identities: {client id: Ed25519 private key}; drawn in the authenticated mode if None.

  Raises:
    SecAggError: If the session ends without a result, or an input does not fit.
  """
  drops = dict(drops or {})
  if not set(drops) <= set(inputs):
    raise ConfigurationError(f'`drops` names clients without inputs: {set(drops) - set(inputs)}.')
  if params.authenticated and identities is None:
    identities = generate_identities(list(inputs))
  roster = roster_of(identities) if identities is not None else None
  meter = _Meter()
  server = meter.run(None, Server, params, roster)
  clients: dict[int, Client] = {}
  for client_id, values in inputs.items():
    identity = identities[client_id] if identities is not None else None
    client = meter.run(client_id, Client, params, client_id, identity, roster)
    meter.run(client_id, client.provide, values)
    clients[client_id] = client
  bytes_up = {client_id: [0] * ROUNDS for client_id in inputs}
  bytes_down = {client_id: [0] * ROUNDS for client_id in inputs}
  left: dict[int, SecAggError] = {}
  incoming: dict[int, bytes] = dict.fromkeys(inputs, b'')
  while incoming:
    now = server.round
    while incoming:
      client_id, message = incoming.popitem()
      if drops.get(client_id, ROUNDS) <= now or client_id in left:
        continue
      client = clients[client_id]
      try:
        answer = meter.run(client_id, *((client.receive, message) if message else (client.start,)))
      except SecAggError as error:
        left[client_id] = error
        answer = meter.run(client_id, client.abort, error)
      bytes_up[client_id][now] += len(answer)
      meter.run(None, server.receive, client_id, answer)
    if server.result is None:
      incoming = meter.run(None, server.close_round)
      for client_id, message in incoming.items():
        bytes_down[client_id][wire.Kind(message[5]).round] += len(message)
  server_seconds = meter.seconds.pop(None)
  return SessionResult(
    values=server.result.values,
    survivors=server.result.survivors,
    blamed=server.result.blamed,
    refused=dict(server.refused),
    left=left,
    verdicts=dict(server.verdicts),
    bytes_up=bytes_up,
    bytes_down=bytes_down,
    seconds_client={client_id: meter.seconds[client_id] for client_id in inputs},
    seconds_server=server_seconds,
  )
