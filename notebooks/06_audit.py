# %% [markdown]
# # 6. Audit: what leaks, measured
#
# A ledger says what cannot leak. An audit attacks, and measures what does, through the same path. If it finds more than
# the ledger allows, something is wrong; if less, nothing is proved, since a better attack may exist.
#
# Run time: about a minute and a half on two cores, without a network.

# %% tags=["setup"]
# The same in all notebooks: setup_cell.py.

# %%
import matplotlib.pyplot as plt
import numpy as np
import tensorflow_federated as tff

import tff_privacy_agg as tpa
from tff_privacy_agg.audit import attacks
from tff_privacy_agg.learning import models

# %% [markdown]
# ## The gallery
#
# Six attacks. Each runs twice: against an unprotected variant, where it must succeed (or it would show
# nothing), and against this package.

# %%
reports = {name: attack(0) for name, attack in attacks.GALLERY.items()}
for name, report in reports.items():
  print(f'{name}: {report.attempt}')
  print(f'  unprotected: {report.unprotected}')
  print(f'  here:        {report.ours}\n')

# %% tags=["stable"]
for name, report in reports.items():
  print(f'{name:17} succeeds unprotected: {report.succeeded}, defended here: {report.defended}')

# %% [markdown]
# ### Pictures from updates
#
# A linear model's update for one picture *is* the picture, times a number. From top to bottom: the truth; read
# from the update in the clear; clipped; with noise; from sums of 2, 10 and 100 without noise; and from this
# package's noised sum of 100. Clipping hides nothing, a sum of two hides little.

# %%
figure, axes = plt.subplots(figsize=(3.2, 5.2), dpi=120)
axes.imshow(reports['inversion'].pictures['inversion'], cmap='gray_r')
rows = ['truth', 'clear', 'clipped', 'noised', 'sum of 2', 'sum of 10', 'sum of 100', 'here']
axes.set_yticks([60 * row + 30 for row in range(len(rows))], rows)
axes.set_xticks([])
plt.show()

# %% [markdown]
# ## Canaries: how much epsilon can be seen
#
# A canary is an ordinary client whose update is a random direction, longer than the clip. A coin decides whether it
# sends that or zeros, as in the neighbouring data set of the account. Afterwards its direction is compared with each
# change of the model: from the scores follows a lower bound on epsilon (arXiv:2302.03098).
#
# Forty clients with digits and sixty canaries train a model, once without noise to speak of and once with it.

# %%
examples = tpa.data.load_digits(num_clients=40)
canaries = tpa.audit.Canaries(count=60, norm=4.0)
audited = tpa.audit.with_canaries(models.softmax_regression)
spec = audited().input_spec
everybody = [*examples.train.client_ids, *canaries.ids]
DELTA, ROUNDS = 1e-3, 5


def dataset_of(client):
  if client in canaries.ids:
    return canaries.dataset(client, spec)
  batches = examples.train.create_tf_dataset_for_client(client).batch(10)
  return tpa.audit.mark_ordinary(batches, spec)


def measure(noise_multiplier):
  aggregator = tpa.compose(
    [
      tpa.Mean(),
      tpa.Clipping(norm=1.0),
      tpa.HadamardRotation(),
      tpa.Quantization(),
      tpa.DiscreteGaussianNoise(noise_multiplier=noise_multiplier),
      tpa.SecureModularSum(bits=20),
    ],
    cohort=tpa.Cohort(expected=len(everybody)),
    delta=DELTA,
  )
  process = tff.learning.algorithms.build_unweighted_fed_avg(
    audited,
    client_optimizer_fn=tff.learning.optimizers.build_sgdm(1.0),
    model_aggregator=aggregator,
    metrics_aggregator=tpa.no_metrics,
    loop_implementation=tff.learning.LoopImplementation.DATASET_ITERATOR,
  )
  promised = []
  audit = tpa.audit.run_with_canaries(
    process,
    canaries,
    dataset_of=dataset_of,
    cohort_of=lambda number: everybody,
    rounds=ROUNDS,
    observe_round=lambda number, metrics: promised.append(
      metrics['aggregator']['privacy']['epsilon']
    ),
  )
  return float(promised[-1]), audit.result(delta=DELTA)


with tpa.runtime.simulation_context():
  found = {z: measure(z) for z in (0.1, 2.0)}

# %%
for z, (promised, result) in found.items():
  print(
    f'noise multiplier {z}: the account says {promised:.2f}, the canaries prove '
    f'{result.lower:.2f} at {result.confidence:.0%} confidence'
  )

# %% tags=["stable"]
for z, (promised, result) in found.items():
  print(
    f'noise multiplier {z}: epsilon {promised:.3f} of the account, exceeded: {result.exceeds(promised)}'
  )

# %%
figure, axes = plt.subplots(figsize=(5, 2.6), dpi=120)
labels = [f'z = {z}' for z in found]
positions = np.arange(len(labels))
axes.barh(positions + 0.2, [p for p, _ in found.values()], 0.4, label='account: at most')
axes.barh(positions - 0.2, [r.lower for _, r in found.values()], 0.4, label='canaries: at least')
axes.set_yticks(positions, labels)
axes.set(xlabel='epsilon', xscale='log')
axes.legend()
figure.tight_layout()
plt.show()

# %% [markdown]
# The gap is no slack to spend: the account holds for every attacker and every client, the canaries show what one
# attacker learns of clients that hide among others.
#
# `tff-privacy-agg audit RUN_DIR` does all this for a training of yours, adds membership inference and memorization,
# and writes a note into its ledger. [docs/audit.md](../docs/audit.md) says what each number means.
