# %% [markdown]
# # 4. Secure aggregation: drop-outs and a curious server
#
# Twelve clients hold one picture each. A server wants the mean picture. We run the real protocol, message by
# message, in this process: we let clients drop out, read what the server reads, and then let the server lie.
#
# No TensorFlow until the last section. Run time: about half a minute on two cores, without a network.

# %% tags=["setup"]
# The same in all notebooks: setup_cell.py.

# %%
import dataclasses

import matplotlib.pyplot as plt
import numpy as np
from sklearn import datasets

from tff_privacy_agg import secagg
from tff_privacy_agg.secagg import wire
from tff_privacy_agg.secagg.primitives import packing

CLIENTS, BITS = 12, 16
pictures = datasets.load_digits().images[:CLIENTS].astype(int)

SETTINGS = dict(
  task='mean-picture',
  round_number=1,
  leaves=[secagg.Leaf('picture', (64,), bits=BITS), secagg.Leaf('count', (), bits=8)],
  minimum_clients=6,
  colluding_fraction=0.1,
  dropout_fraction=0.3,
)
inputs = {i: {'picture': pictures[i].ravel(), 'count': 1} for i in range(CLIENTS)}


def show(images, titles, columns=6):
  rows = -(-len(images) // columns)
  figure, axes = plt.subplots(rows, columns, figsize=(1.2 * columns, 1.4 * rows), dpi=120)
  for axis in axes.flat:
    axis.axis('off')
  for axis, image, title in zip(axes.flat, images, titles, strict=False):
    axis.imshow(image, cmap='gray_r')
    axis.set_title(title, fontsize=8)
  figure.tight_layout()
  plt.show()


# %% [markdown]
# ## A whole session, with drop-outs
#
# Client 3 never sends its vector, client 7 sends it and then goes silent. The sum is that of the eleven who
# sent one, exactly: the masks that client 3 shares with the others are recovered from them, and so is the self mask
# of client 7.

# %% tags=["stable"]
params = secagg.SessionParams(**SETTINGS)
result = secagg.run_in_memory(params, inputs, drops={3: 2, 7: 4})
expected = sum(pictures[i].ravel() for i in result.survivors)
print(f'in the sum: {result.survivors}, counted {result.values["count"]}')
print(f'the sum is exact: {np.array_equal(result.values["picture"], expected)}')

# %% [markdown]
# With more drop-outs than promised, nothing comes out: too few shares are left to take the masks off. Nor would a
# server that waits for so many to leave learn anything of those who stayed.

# %% tags=["stable"]
try:
  secagg.run_in_memory(params, inputs, drops=dict.fromkeys(range(7), 4))
except secagg.SecAggError as error:
  print(f'{type(error).__name__}: {error}')

# %% [markdown]
# ## What a curious server reads
#
# The same session by hand: `Client` and `Server` turn bytes into bytes, so we can keep each message. In round 2
# the clients send their vectors under masks.

# %%


class Watched:
  """Clients and a server, with hands on every message."""

  def __init__(self, **changes):
    self.params = secagg.SessionParams(**{**SETTINGS, **changes})
    identities, roster = {}, None
    if self.params.authenticated:
      identities = secagg.generate_identities(list(range(CLIENTS)))
      roster = secagg.roster_of(identities)
    self.server = secagg.Server(self.params, roster)
    self.clients = {
      i: secagg.Client(self.params, i, identities.get(i), roster) for i in range(CLIENTS)
    }
    for i, client in self.clients.items():
      client.provide(inputs[i])
    self.outgoing = dict.fromkeys(self.clients, b'')
    self.read, self.left = {}, {}

  def step(self, tamper=lambda client, message: message):
    """One round: clients answer, the server reads the answers, and closes."""
    for i, message in self.outgoing.items():
      try:
        client, message = self.clients[i], tamper(i, message)
        self.read[i] = client.receive(message) if message else client.start()
      except secagg.SecAggError as error:
        self.left[i] = error
        self.read[i] = self.clients[i].abort(error)
      self.server.receive(i, self.read[i])
    self.outgoing = self.server.close_round()


def masked_picture(message):
  """What the bytes of round 2 say of the picture: all that there is to read."""
  body = memoryview(message[wire.HEADER.size :])
  packed, _ = wire.decode_masked(body, [(64, BITS), (1, 8)], CLIENTS - 1)
  return packing.unpack(packed[0], BITS)[:64].reshape(8, 8)


session = Watched()
for _ in range(3):
  session.step()
seen = {i: masked_picture(session.read[i]) for i in session.clients}
some = [0, 1, 2, 3, 4, 5]
show(
  [pictures[i] for i in some] + [seen[i] for i in some],
  [f'client {i}' for i in some] + ['on the wire'] * len(some),
)

# %% [markdown]
# Every upload is uniform modulo 2^16, whatever the picture. Adding them up in the clear helps nothing, either: the
# masks between two clients cancel, the self masks stay until enough clients answer in round 4. Then the sum
# appears, and only the sum.

# %%
sum_of_uploads = sum(seen.values()) % 2**BITS
while session.server.result is None:
  session.step()
total = session.server.result.values['picture'].reshape(8, 8)
show([sum_of_uploads, total / CLIENTS], ['sum of uploads', 'result / 12'], columns=2)

# %% [markdown]
# A mean of twelve still says something about each: this is what differential privacy is for. Secure aggregation
# and noise do different work, and a private training needs both.

# %% [markdown]
# ## A server that lies
#
# To open client 5's vector a server needs both its secrets: the self mask (given out for survivors) and its pair
# masks (given out for those who dropped out). So it tells half of the clients that client 5 is gone. In the authenticated
# mode clients sign what they were told before any share leaves, and compare.

# %% tags=["stable"]
lying = Watched(mode='authenticated')
for _ in range(3):
  lying.step()


def without_client_5(client, message):
  if client % 2 or client == 5:
    return message
  changed = bytearray(message)
  survivors = wire.decode_bitmap(memoryview(changed[wire.HEADER.size :]), CLIENTS)
  survivors[5] = False
  changed[wire.HEADER.size :] = wire.encode_bitmap(survivors)
  return bytes(changed)


signed = {}
for i, message in lying.outgoing.items():
  answer = lying.clients[i].receive(without_client_5(i, message))
  signed[i] = answer[wire.HEADER.size :]
request = wire.encode(
  wire.Kind.UNMASK_REQUEST,
  lying.params.session_id,
  CLIENTS,
  wire.encode_entries(sorted(signed.items())),
)
refused = {}
for i, client in lying.clients.items():
  try:
    client.receive(request)
  except secagg.SecAggError as error:
    refused[i] = error
print(f'clients that give no share: {len(refused)} of {CLIENTS}')
print(refused[0])

# %% [markdown]
# Another trick: send client 5 a different model, and read its answer off the difference. What was broadcast is part of
# every key (`context`), so a client that got another model shares no mask with anybody.

# %% tags=["stable"]
model = [np.zeros(10, np.float32)]
alike = Watched(context=secagg.context_digest(model))
other = dataclasses.replace(alike.params, context=secagg.context_digest([np.ones(10, np.float32)]))
alike.clients[5] = secagg.Client(other, 5, None, None)
alike.clients[5].provide(inputs[5])
try:
  while alike.server.result is None:
    alike.step()
  print(f'in the sum: {alike.server.result.survivors}')
except secagg.SecAggError as error:
  print(f'the server is left with: {type(error).__name__}: {error}')

# %% [markdown]
# ## What it costs
#
# A client's bytes, all rounds and both directions, over a plain upload of 16 bits a coordinate. On the ring each client
# agrees on keys with few others, so the cost hardly grows with the cohort.

# %%
figure, axes = plt.subplots(figsize=(5, 3), dpi=120)
cohorts = [64, 128, 256, 512, 1024]
for graph in ('complete', 'ring'):
  factors = []
  for n in cohorts:
    bits = secagg.bits_of_bitwidth(16, n)
    cost = secagg.communication_cost(n, 2**17, bits, graph=graph)
    factors.append(cost.expansion)
  axes.plot(cohorts, factors, marker='o', label=graph)
axes.plot(cohorts, [secagg.bits_of_bitwidth(16, n) / 16 for n in cohorts], ':', label='bits alone')
axes.set(
  xlabel='clients', ylabel='bytes / plain upload', title='131,072 coordinates', ylim=(1, None)
)
axes.legend()
plt.show()

# %% [markdown]
# ## The same under TFF
#
# `SecAggContext` runs any TFF computation that contains secure sums with this protocol, all parties on one machine. Here one
# round of a private mean of twenty vectors, with two clients that drop out after their keys. The noise of those two is
# missing, so the account counts eighteen.

# %%
import tensorflow_federated as tff

import tff_privacy_agg as tpa

aggregator = tpa.ddp_secure_aggregator(2.0, 20, bits=16, minimum_clients=15, delta=1e-3)
context = tpa.runtime.SecAggContext(dropout_fraction=0.25, drops={4: 2, 11: 2})
with tpa.runtime.use(context):
  process = aggregator.create(tff.TensorType(np.float32, [64]))
  output = process.next(process.initialize(), [np.full(64, 0.01, np.float32)] * 20)
context.close()

# %% tags=["stable"]
privacy = output.measurements['privacy']
print(f'survivors {privacy["survivors"]}, dropped {dict(context.last_round.dropped)}')
print(f'effective noise multiplier {privacy["noise_multiplier"]:.3f}, 2 was promised for 15')
print(f'epsilon of this round: {privacy["epsilon"]:.3f} at delta {privacy["delta"]:g}')

# %% [markdown]
# Real parties, each a process of its own with its own keys, speak over TLS: `tpa.deployment.Coordinator` and
# `Participant`. The protocol is described in [docs/secagg.md](../docs/secagg.md), what each adversary learns in
# [docs/threat-models.md](../docs/threat-models.md).
