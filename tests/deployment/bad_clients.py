"""Clients of the roster that follow the protocol but in one thing, each a kind of its own."""

from tff_privacy_agg import secagg


def _changed_seal(client, change):
  cipher = client._custody._cipher
  seal = cipher.seal
  cipher.seal = lambda peer, associated, plaintext: change(seal, peer, associated, plaintext)


def _flip(data, at=0, by=1):
  return data[:at] + bytes([data[at] ^ by]) + data[at + 1 :]


def seals_wrongly(client):
  """Right sizes, a valid signature, shares that open for nobody."""
  _changed_seal(client, lambda seal, *rest: _flip(seal(*rest)))


def deals_falsely(client):
  """Shares that open and are on no polynomial."""
  _changed_seal(
    client,
    lambda seal, peer, associated, plain: seal(peer, associated, _flip(plain, by=1 + peer % 7)),
  )


def offers_falsely(client):
  """Mask keys that their receivers cannot confirm: those leave."""
  mask = client._custody._mask
  offer = mask.offer

  def false(peer):
    key, made = offer(peer)
    return key, _flip(made)

  mask.offer = false


def complains_of_all(client):
  """Says that no share opened."""
  custody = client._custody
  opened = custody.open

  def complains(shared, *rest):
    extras = opened(shared, *rest)
    custody.complaints = shared.copy()
    custody._shares = [None] * len(custody._shares)
    return extras

  custody.open = complains


def answers_falsely(client):
  """Wrong shares in the last round, of everybody's secrets."""
  custody = client._custody
  answer = custody.answer

  def false(survivors):
    body = bytearray(answer(survivors))
    for at in range((len(survivors) + 7) // 8, len(body), 34):
      body[at] ^= 1
    return bytes(body)

  custody.answer = false


def sends_rubbish(client):
  """Bytes that are no message."""
  client.receive = lambda data: b'rubbish'


def leaves(client):
  """Leaves where its vector is due."""

  def raises(*unused):
    raise secagg.InputOutOfRange('on purpose')

  client._custody.open = raises


KINDS = (
  seals_wrongly,
  deals_falsely,
  offers_falsely,
  complains_of_all,
  answers_falsely,
  sends_rubbish,
  leaves,
)


def among(bad):
  """A `secagg.Client` whose instances of these ids are bad: {id: (round number) -> kind}."""
  real = secagg.Client

  def make(params, client_id, *arguments, **named):
    client = real(params, client_id, *arguments, **named)
    if client_id in bad:
      bad[client_id](params.round_number)(client)
    return client

  return make
