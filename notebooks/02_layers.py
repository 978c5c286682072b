# %% [markdown]
# # 2. The layers, one by one
#
# A stack is a list of layers. Each is a frozen dataclass with pure functions on tensors, so it can be
# run here by hand, without TFF: we follow the updates of 20 clients from floats to residues, and the
# sum back.
#
# Everything is seeded. Run time: some ten seconds on two cores, without a network.

# %% tags=["setup"]
# The same in all notebooks: setup_cell.py.

# %%
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

import tff_privacy_agg as tpa
from tff_privacy_agg.aggregation import binding
from tff_privacy_agg.numerics.randomness import RandomStream

CLIENTS, DIMENSION = 20, 1000

layers = [
  tpa.Clipping(norm=1.0),
  tpa.HadamardRotation(),
  tpa.Quantization(),
  tpa.DiscreteGaussianNoise(noise_multiplier=0.5),
  tpa.SecureModularSum(bits=12),
]
bound = binding.bind(layers, tpa.Cohort(expected=CLIENTS), DIMENSION, tf.float32)
design = bound.design


def prepare(layer, client=0):
  """What a layer's `encode` and `decode` get: seeded randomness here, the kernel's in a round."""
  params = dict(layer.prepare(bound.slots[layer.name], states[layer.name]))
  if layer.uses_randomness:
    key = np.random.default_rng([7, client]).integers(-(2**31), 2**31, 8).astype(np.int32)
    params['randomness'] = RandomStream(kind='philox', key=tf.constant(key))
  return params


tf.random.set_seed(1)
states = {layer.name: layer.init(bound.slots[layer.name]) for layer in layers}


def encode(layer, values):
  slot = bound.slots[layer.name]
  return np.stack(
    [layer.encode(slot, prepare(layer, i), tf.constant(v))[0].numpy() for i, v in enumerate(values)]
  )


# %% [markdown]
# ## The updates: few large coordinates
#
# Real updates are uneven. Here every tenth coordinate is large; all clients agree on a direction, and each adds
# its own deviation.

# %%
rng = np.random.default_rng(0)
direction = rng.normal(size=DIMENSION) * np.where(np.arange(DIMENSION) % 10 == 0, 5.0, 0.2)
updates = direction + rng.normal(size=[CLIENTS, DIMENSION]) * 0.5
updates *= rng.uniform(0.2, 2.0, size=[CLIENTS, 1]) / np.linalg.norm(updates, axis=1, keepdims=True)
updates = updates.astype(np.float32)


def picture(rows, titles, ylabel=None, **limits):
  figure, axes = plt.subplots(1, len(rows), figsize=(3.6 * len(rows), 2.4), dpi=120, squeeze=False)
  for axis, values, title in zip(axes[0], rows, titles, strict=True):
    axis.plot(values, '.', markersize=2)
    axis.set(title=title, xlabel='coordinate', **limits)
  axes[0][0].set_ylabel(ylabel)
  figure.tight_layout()
  plt.show()


# %% [markdown]
# ## Clipping: what one client can move
#
# Longer vectors are projected onto the ball of radius `norm`, and handed on in units of it. It is the
# only step that loses information on purpose: without a bound there is no privacy to account.

# %% tags=["stable"]
clipping, rotation, quantization, noise, modular_sum = layers
clipped = encode(clipping, updates)
before, after = np.linalg.norm(updates, axis=1), np.linalg.norm(clipped, axis=1)
print(f'norms before: {before.min():.2f} to {before.max():.2f}')
print(f'norms after:  {after.min():.2f} to {after.max():.2f}')

# %% [markdown]
# ## Rotation: the same length, spread evenly
#
# A public random rotation makes every coordinate about as large as any other. The length stays, so the
# sensitivity stays; the largest coordinate shrinks, so few bits a coordinate suffice. (1000 coordinates are
# padded to the next order for which there is a Hadamard matrix.)

# %%
rotated = encode(rotation, clipped)
picture([clipped[0], rotated[0]], ['clipped', 'rotated'], 'value', ylim=(-0.25, 0.25))


# %% tags=["stable"]
def flatness(vector):
  """Largest coordinate over the root mean square: 1 is perfectly flat."""
  return np.abs(vector).max() / np.sqrt(np.mean(vector**2))


print(f'{DIMENSION} coordinates become {rotated.shape[1]}')
print(f'length {np.linalg.norm(clipped[0]):.4f} becomes {np.linalg.norm(rotated[0]):.4f}')
print(
  f'largest over root mean square: {flatness(clipped[0]):.1f} becomes {flatness(rotated[0]):.1f}'
)

# %% [markdown]
# ## Quantization: integers of an exactly bounded length
#
# The vector is scaled by K and rounded up or down at random, so that the expectation stays. A rounding that
# came out longer than the bound B is drawn again: B is what the noise is measured against. K, B, the noise
# and the bits are solved together, once, when the dimension is known.

# %%
integers = encode(quantization, rotated)
lengths = np.linalg.norm(integers.astype(np.float64), axis=1)
print(f'K = {design.scaled_norm:.1f}: a clipped vector becomes integers of length at most that')
print(f'B = {design.l2_bound:.1f}: the bound after rounding; longest here {lengths.max():.1f}')

# %%
error = integers[0] / design.scaled_norm - rotated[0]
figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.4), dpi=120)
axes[0].plot(rotated[0] * design.scaled_norm, integers[0], '.', markersize=2)
axes[0].set(title='rounded at random', xlabel='value times K', ylabel='integer')
axes[1].hist(error * design.scaled_norm, bins=41)
axes[1].set(title='quantization error', xlabel='steps of the grid')
figure.tight_layout()
plt.show()

# %% [markdown]
# ## Noise: each client a share
#
# Every client adds integer noise of variance v. One share protects little; the sum of the honest clients'
# shares protects everybody. `noise_multiplier` is about that sum: its standard deviation over B.

# %%
noised = encode(noise, integers)
share = noised - integers
total_noise = share.sum(axis=0)
measured = np.std(total_noise)
promised = np.sqrt(CLIENTS * design.local_variance)
print(
  f'one share:   standard deviation {np.std(share[0]):.1f}, promised {promised / np.sqrt(CLIENTS):.1f}'
)
print(f'all shares:  standard deviation {measured:.1f}, promised {promised:.1f}')
print(f'effective noise multiplier at {CLIENTS} honest clients: {promised / design.l2_bound:.3f}')

# %%
figure, axes = plt.subplots(figsize=(5, 2.4), dpi=120)
span = 4 * promised
bins = np.linspace(-span, span, 81)
axes.hist(integers.sum(axis=0), bins=bins, alpha=0.6, label='sum of the updates')
axes.hist(total_noise, bins=bins, alpha=0.6, label='sum of the noise')
axes.set(xlabel='integer', ylabel='coordinates')
axes.legend()
plt.show()

# %% [markdown]
# ## Wrap: residues leave the client
#
# What leaves a client is a residue modulo 2^12. The server adds residues, modulo the same number, and
# centres the result: as long as the true sum fits, nothing was lost. The bits are chosen so that it nearly
# always fits; a coordinate that wraps is an error of the model, never of privacy.

# %%
sent = encode(modular_sum, noised)
picture([noised[0], sent[0]], ['noised', 'sent: residues'], 'integer')

# %% tags=["stable"]
slot = bound.slots['secure_modular_sum']
total = modular_sum.decode(slot, prepare(modular_sum), tf.constant(sent.sum(axis=0)), {}).numpy()
print(f'bits a coordinate: {design.bits}, against 32 for a float')
print(f'wrapped coordinates: {np.sum(total != noised.sum(axis=0))} of {len(total)}')

# %% [markdown]
# ## Back again
#
# The server undoes the layers from the last to the first. What it gets is the sum of the clipped updates
# with an error, nearly all of which is the noise that was asked for.

# %%
survivors = {'survivors': tf.constant(float(CLIENTS), tf.float64)}
decoded = tf.constant(sent.sum(axis=0))
for layer in reversed(layers):
  decoded = layer.decode(bound.slots[layer.name], prepare(layer), decoded, survivors)
truth = clipped.sum(axis=0)
error = np.linalg.norm(decoded.numpy() - truth) / np.sqrt(DIMENSION)
central = 0.5 * 1.0  # noise multiplier times clip norm: what a trusted server would have added
print(
  f'error a coordinate: {error:.3f}; of central Gaussian noise of the same multiplier: {central:.3f}'
)
print(f'the design promises {design.error_over_central(CLIENTS):.3f} times that of central noise')

# %% [markdown]
# ## Too few bits are refused
#
# A modulus that cannot carry the noise is not silently used; the error names the smallest that can.

# %%
try:
  binding.bind(
    [*layers[:-1], tpa.SecureModularSum(bits=4)],
    tpa.Cohort(expected=CLIENTS),
    DIMENSION,
    tf.float32,
  )
except tpa.ConfigurationError as refused:
  print(refused)
