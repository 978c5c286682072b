"""What the server has shown one client of a session, and whether it agrees with itself."""

import contextlib
from collections.abc import Mapping

import numpy as np

from tff_privacy_agg._wording import counted
from tff_privacy_agg.secagg import graph, receipts, thresholds, wire
from tff_privacy_agg.secagg.errors import (
  CapacityError,
  InconsistentSurvivors,
  InvalidPublicKey,
  NotEnoughClients,
  SignatureInvalid,
  UnknownClient,
  UnsafeUnmaskRequest,
)
from tff_privacy_agg.secagg.params import SessionParams
from tff_privacy_agg.secagg.primitives import keys
from tff_privacy_agg.secagg.rounds import Round


class View:
  """The session as one client sees it; holds no secret.

  Neighbours are columns, in the ascending order of their ids.

  Args:
    params: Parameters of the session.
    client_id: The client's id.
    roster: {id: Ed25519 public key}, not from the server.
    server_key: Ed25519 public key that must have signed the receipt, or None.

  Attributes:
    parameters: k, t and the graph; those of no clients before round 1.
    neighbours: Ids of the neighbours.
    survivors: [k]; which of them are in the sum.
  """

  def __init__(
    self,
    params: SessionParams,
    client_id: int,
    roster: Mapping[int, bytes],
    server_key: bytes | None,
  ):
    self._params, self._id = params, client_id
    self._roster = keys.verifying_keys(dict(roster))
    self._server_key = None
    if server_key is not None:
      self._server_key = keys.verifying_keys({wire.SERVER: server_key})[wire.SERVER]
    self._salt = params.salt()
    self.neighbours: list[int] = []
    self._roll = receipts.NO_ROLL
    self.survivors = np.zeros(0, bool)
    self.parameters = thresholds.GraphParameters('none', 0, 0, 0, 0, 0)

  def meet(
    self, message: wire.Message, own: wire.Advertisement
  ) -> tuple[thresholds.GraphParameters, dict[int, wire.Advertisement]]:
    """Round 1: checks the neighbours, and their keys.

    Args:
      message: The server's.
      own: What this client advertised.

    Returns:
      The session's k and t, and what each neighbour advertised.
    """
    params, n = self._params, message.number
    if n < params.minimum_clients:
      raise NotEnoughClients(
        f'{counted(n, "client")} advertised, {params.minimum_clients} needed.', round=Round.SHARES
      )
    if params.maximum_clients is not None and n > params.maximum_clients:
      raise CapacityError(
        f'{counted(n, "client")} advertised, {params.maximum_clients} allowed.', round=Round.SHARES
      )
    parameters = thresholds.session_parameters(params, n)
    entries, ring = graph.split_notice(message.body, parameters, params.version)
    peers = wire.decode_keys(entries, params.layout, params.authenticated)
    graph.check_neighbours(parameters, self._id, list(peers), self._salt, ring)
    self._check_keys(own, {client: advert for client, (advert, _) in peers.items()})
    for client, (advert, signature) in peers.items() if params.authenticated else ():
      if client not in self._roster:
        raise UnknownClient(
          f'Client {client} is not in the roster.', round=Round.SHARES, clients=(client,)
        )
      keys.verify(self._roster[client], signature, self._salt, Round.KEYS, client, advert.encode())
    adverts = {client: advert for client, (advert, _) in peers.items()}
    if params.authenticated:
      everyone = {**adverts, self._id: own}
      self._roll = receipts.roll_digest(self._salt, everyone)
    return parameters, adverts

  def _check_keys(self, own: wire.Advertisement, peers: Mapping[int, wire.Advertisement]) -> None:
    owners: dict[bytes, int] = {}
    for client, advert in [(self._id, own), *peers.items()]:
      for key in advert.parts():
        if key in owners:
          raise InvalidPublicKey(
            f'Clients {owners[key]} and {client} announce the same key, or one key in two roles.',
            round=Round.SHARES,
            clients=(owners[key], client),
          )
        owners[key] = client

  def check_shares(self, have: int) -> None:
    """Round 2: refuses to mask a vector with fewer neighbours than can hide and open it."""
    parameters, fewest = self.parameters, self._params.minimum_clients
    if have < parameters.t or (parameters.graph == 'complete' and have + 1 < fewest):
      raise NotEnoughClients(
        f'{counted(have, "neighbour")} shared their secrets, {max(parameters.t, fewest - 1)} needed.',
        round=Round.MASKED,
      )

  def members(self) -> list[int]:
    """Ids of the survivors that this client sees, its own included."""
    peers = [self.neighbours[column] for column in np.flatnonzero(self.survivors)]
    return sorted([*peers, self._id])

  def survivors_digest(self) -> bytes:
    """What clients sign of the survivors that they were shown."""
    return receipts.survivors_digest(self._salt, self._roll, self.members())

  def check_confirmations(self, signatures: Mapping[int, bytes]) -> None:
    """Round 4: refuses unless more than t clients signed the same survivors, this one among them."""
    members = self.members()
    digest = self.survivors_digest()
    valid = set()
    for client in signatures.keys() & set(members):
      with contextlib.suppress(SignatureInvalid):
        keys.verify(
          self._roster[client], signatures[client], self._salt, Round.CONSISTENCY, client, digest
        )
        valid.add(client)
    if len(valid) <= self.parameters.t or self._id not in valid:
      raise InconsistentSurvivors(
        f'{counted(len(valid), "client")} signed the survivors that the server showed, '
        f'{self.parameters.t + 1} needed, this one among them. It has shown others different '
        'ones, or too few are left. Nothing is sent.',
        round=Round.UNMASK,
      )

  def check_survivors(self, own: bool, alive: np.ndarray, shared: np.ndarray) -> None:
    """Refuses sets of survivors whose shares could open one input.

    Args:
      own: Whether this client is among them.
      alive: [k]; which neighbours are.
      shared: [k]; which neighbours shared their secrets.
    """
    parameters = self.parameters
    error = InconsistentSurvivors if self._params.authenticated else UnsafeUnmaskRequest
    strangers = np.flatnonzero(alive & ~shared)
    if strangers.size or not own:
      clients = [self.neighbours[column] for column in strangers]
      raise error(
        'The survivors include clients that shared no secret, or leave out this client, which '
        'sent its vector. Nothing is sent.',
        round=Round.CONSISTENCY if self._params.authenticated else Round.UNMASK,
        clients=clients or (self._id,),
      )
    have, needed = int(alive.sum()), parameters.t
    if parameters.graph == 'complete':
      needed = max(needed, self._params.minimum_clients - 1)
    if have < needed:
      raise error(
        f'{counted(have, "neighbour survives", "neighbours survive")}, {needed} needed. Nothing is '
        'sent.',
        round=Round.CONSISTENCY if self._params.authenticated else Round.UNMASK,
      )

  def check_receipt(self, receipt: receipts.Receipt, survivors: np.ndarray) -> None:
    """Round 5: refuses a statement about others than the survivors that were shown before.

    Args:
      receipt: The statement.
      survivors: [k]; which neighbours are in the sum, as it comes with the receipt.
    """
    if self._server_key is not None:
      keys.verify(
        self._server_key,
        receipt.signature,
        self._salt,
        Round.RESULT,
        wire.SERVER,
        receipt.statement,
      )
    members = self.members()
    same = bool((survivors == self.survivors).all()) and receipt.survivors >= len(members)
    if self.parameters.graph == 'complete':
      same &= receipt.survivors == len(members)
      same &= receipt.survivors_digest == self.survivors_digest()
    if not same:
      raise InconsistentSurvivors(
        f'The server states a sum over {counted(receipt.survivors, "client")}, not over those that '
        'it showed before. Keep the receipt.',
        round=Round.RESULT,
      )
