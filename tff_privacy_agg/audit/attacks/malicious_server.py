"""A server that gives one client another model, so that the sum is that client's update."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tff_privacy_agg import secagg
from tff_privacy_agg.audit.attacks.report import AttackReport
from tff_privacy_agg.learning import data
from tff_privacy_agg.learning.data.digits import NUM_CLASSES, NUM_PIXELS

_CLIENTS, _HIDDEN, _VICTIM = 8, 32, 3
_BITS, _SCALE = 32, 2.0**20
_SIDE, _SEEN = 8, 0.9


def run(seed: int = 0) -> AttackReport:
  """Sends the others a model whose hidden units are dead: their gradients are zero.

  arXiv:2111.07380. The sum of the first layer's gradients is then the victim's alone,
  however many take part. `secagg` binds the keys to a digest of the model that each client
  was given, so the victim's shares open for none of the others.
  """
  rng = np.random.default_rng(seed)
  x, y = _pictures(rng)
  honest = (
    0.2 * rng.standard_normal([NUM_PIXELS, _HIDDEN]),
    np.zeros(_HIDDEN),
    0.2 * rng.standard_normal([_HIDDEN, NUM_CLASSES]),
  )
  dead = (honest[0], np.full(_HIDDEN, -1e6), honest[2])
  models = {client: honest if client == _VICTIM else dead for client in range(1, _CLIENTS + 1)}
  updates = {client: _gradient(models[client], x[client - 1], y[client - 1]) for client in models}

  bared = _invert(np.sum(list(updates.values()), axis=0))
  unprotected = _correlation(bared, x[_VICTIM - 1])
  survivors, total = _session(models, updates)
  found = _invert(total)
  ours = _correlation(found, x[_VICTIM - 1])
  excluded = _VICTIM not in survivors
  return AttackReport(
    name='malicious_server',
    attempt=f'gives {_CLIENTS - 1} of {_CLIENTS} clients a model with dead units',
    unprotected=f"the victim's picture from the sum: correlation {unprotected:.2f}",
    ours=(
      'no sum: shares made for one model do not open for another, and the session ends'
      if not survivors
      else 'a sum without the victim, who left when no share of another opened'
      if excluded
      else f'the victim was in the sum: correlation {ours:.2f}'
    ),
    succeeded=unprotected > _SEEN,
    defended=excluded and ours < _SEEN,
    figures={'correlation_unprotected': unprotected, 'correlation_ours': ours},
    pictures={'malicious_server': _sheet([x[_VICTIM - 1], bared, found])},
  )


def _session(
  models: Mapping[int, Sequence[np.ndarray]], updates: Mapping[int, np.ndarray]
) -> tuple[tuple[int, ...], np.ndarray]:
  """A session in which every client's context is the model that it was given.

  Returns:
    Who is in the sum, and the sum; zeros where the session was aborted.
  """
  size = len(next(iter(updates.values())))
  params = secagg.SessionParams(
    task='gallery', round_number=1, leaves=[secagg.Leaf('update', (size,), bits=_BITS)]
  )
  contexts = {client: secagg.context_digest(model) for client, model in models.items()}
  most = max(set(contexts.values()), key=list(contexts.values()).count)
  server = secagg.Server(dataclasses.replace(params, context=most))
  clients, incoming = {}, {}
  for client, update in updates.items():
    own = dataclasses.replace(params, context=contexts[client])
    clients[client] = secagg.Client(own, client)
    clients[client].provide({'update': np.rint(_SCALE * update).astype(np.int64)})
    incoming[client] = b''
  left: set[int] = set()
  try:
    while server.result is None:
      for client, message in incoming.items():
        if client in left:
          continue
        try:
          answer = clients[client].receive(message) if message else clients[client].start()
        except secagg.SecAggError as error:
          left.add(client)
          answer = clients[client].abort(error)
        if answer is not None:
          server.receive(client, answer)
      if server.result is None:
        incoming = server.close_round()
  except secagg.SecAggError:
    return (), np.zeros(size)
  residues = np.asarray(server.result.values['update']).astype(np.int64)
  return server.result.survivors, ((residues + 2**31) % 2**32 - 2**31) / _SCALE


def _gradient(model: Sequence[np.ndarray], x: np.ndarray, label: int) -> np.ndarray:
  """Gradient of a picture's cross entropy in the first layer: kernel, then bias."""
  kernel, bias, top = model
  before = x @ kernel + bias
  hidden = np.maximum(before, 0)
  logits = hidden @ top
  chances = np.exp(logits - logits.max())
  errors = chances / chances.sum() - np.eye(NUM_CLASSES)[label]
  back = (top @ errors) * (before > 0)
  return np.concatenate([np.outer(x, back).ravel(), back])


def _invert(vector: np.ndarray) -> np.ndarray:
  kernel = vector[: NUM_PIXELS * _HIDDEN].reshape(NUM_PIXELS, _HIDDEN)
  bias = vector[NUM_PIXELS * _HIDDEN :]
  unit = int(np.argmax(np.abs(bias)))
  return kernel[:, unit] / bias[unit] if bias[unit] else np.zeros(NUM_PIXELS)


def _pictures(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
  examples = data.load_digits(1)
  chosen = rng.choice(len(examples.test_y), _CLIENTS, replace=False)
  return examples.test_x[chosen].astype(np.float64), examples.test_y[chosen]


def _correlation(found: np.ndarray, truth: np.ndarray) -> float:
  return float(np.corrcoef(found, truth)[0, 1]) if found.std() > 0 else 0.0


def _sheet(pictures: list[np.ndarray]) -> np.ndarray:
  """The truth, what an unprotected sum gives, what ours gives."""
  tiles = []
  for one in pictures:
    top = one.max()
    tile = np.clip(one / top if top > 0 else one, 0, 1).reshape(_SIDE, _SIDE)
    tiles.append(np.pad(tile, 1, constant_values=0.5))
  return np.kron(np.hstack(tiles), np.ones([6, 6]))
