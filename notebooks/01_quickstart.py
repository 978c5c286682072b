# %% [markdown]
# # 1. Quickstart: a private federated model, with its epsilon
#
# Two hundred clients hold seven handwritten digits each. We train one model on all of them such that
# nobody, not even the server that runs the training, learns much about a single client. How much
# is a number, **epsilon**: the smaller, the less.
#
# Run time: about a minute on two cores, without a network once it is installed.

# %% tags=["setup"]
# The same in all notebooks: setup_cell.py.

# %% [markdown]
# ## Data and model
#
# Scikit-learn's digits, split among clients by a non-IID rule, and a linear model in Keras.
# TFF trains the model as it would without this package.

# %%
import collections
import pathlib
import tempfile

import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

import tff_privacy_agg as tpa

examples = tpa.data.load_digits(num_clients=200)


def model_fn():
  keras_model = tf.keras.Sequential(
    [
      tf.keras.layers.InputLayer(input_shape=[64]),
      tf.keras.layers.Dense(10, kernel_initializer='zeros'),
    ]
  )
  return tff.learning.models.from_keras_model(
    keras_model,
    loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    input_spec=collections.OrderedDict(
      x=tf.TensorSpec([None, 64]), y=tf.TensorSpec([None], tf.int32)
    ),
  )


accuracies = []


def evaluate(weights):
  kernel, bias = weights.trainable
  predicted = (examples.test_x @ kernel + bias).argmax(axis=1)
  accuracy = float((predicted == examples.test_y).mean())
  accuracies.append(100 * accuracy)
  return {'accuracy': accuracy}


def batches(dataset):
  return dataset.repeat(4).batch(10)  # four local epochs


# %% [markdown]
# ## What happens in a round
#
# Each client turns its update into residues in which its own part is hidden by noise; the secure sum shows the server
# nothing but the total. The ledger charges a round before it runs.


# %%
def draw_pipeline():
  rows = {
    1.6: ('each of 100\nclients', ['clip', 'rotate', 'quantize', 'add noise', 'modulo $2^{16}$']),
    0.0: ('server', ['secure sum', 'centre', 'rotate back', 'mean', 'new model']),
  }
  axes = plt.figure(figsize=(7.2, 2.3), dpi=120).gca()
  box = dict(boxstyle='round,pad=0.5', facecolor='#e8f0fa', edgecolor='#345')
  arrow = dict(arrowstyle='->', color='#345', shrinkA=24, shrinkB=24)
  for height, (who, steps) in rows.items():
    axes.text(-0.9, height, who, ha='center', va='center', style='italic')
    for x, step in enumerate(steps):
      axes.text(x, height, step, ha='center', va='center', fontsize=8, bbox=box)
      if x:
        axes.annotate('', (x, height), (x - 1, height), arrowprops=arrow)
  axes.annotate('', (0, 0), (4, 1.6), arrowprops=arrow | dict(connectionstyle='arc3,rad=0.05'))
  axes.text(2.5, 0.55, 'residues', ha='center', fontsize=8)
  axes.set(xlim=(-1.4, 4.5), ylim=(-0.5, 2.1))
  axes.axis('off')
  plt.show()


draw_pipeline()

# %% [markdown]
# ## Train
#
# `tpa.runtime.simulation_context()` starts a TFF runtime in which secure sums run. The aggregator reads
# from top to bottom as each client runs it, and `noise_multiplier` is the effective one of a
# whole round. Then ten lines build and train; all that is released is in one account.

# %%
aggregator = tpa.compose(
  [
    tpa.Mean(),
    tpa.Clipping(norm=tpa.AdaptiveQuantile(initial=1.0, target=0.5)),
    tpa.HadamardRotation(),
    tpa.Quantization(),
    tpa.DiscreteGaussianNoise(noise_multiplier=2.75),
    tpa.SecureModularSum(bits=16),
  ],
  cohort=tpa.Cohort(expected=100),
)

# %% tags=["trains"]
tpa.runtime.simulation_context()
process = tpa.build_private_learning_process(
  'fed_avg',
  model_fn,
  aggregator=aggregator,
  accounting=tpa.Accounting(population=200, delta=5e-4, minimum_clients=100),
  client_optimizer_fn=tff.learning.optimizers.build_sgdm(1.0),
)
cohorts = tpa.UniformCohorts(client_ids=examples.train.client_ids, size=100)
ledger = process.open_ledger(pathlib.Path(tempfile.mkdtemp()) / 'ledger.jsonl')
result = tpa.train(
  process,
  examples.train,
  rounds=10,
  cohorts=cohorts,
  preprocess=batches,
  evaluate=evaluate,
  ledger=ledger,
)

# %% [markdown]
# ## What it cost
#
# The epsilon holds against an honest-but-curious server that sees every sum, for all rounds so far,
# and claims nothing from sampling. It is a constant of the plan: run this again, and the accuracy
# moves by a point or two, the epsilon does not.

# %% tags=["stable"]
privacy = {name: result.metrics[f'privacy/{name}'] for name in ('epsilon', 'delta', 'rounds')}
print(
  f'epsilon {privacy["epsilon"]:.2f} at delta {privacy["delta"]:g} after {privacy["rounds"]} rounds'
)

# %% [markdown]
# The ledger, a file, says the same to those who were not there:

# %% tags=["stable"]
print(f'{tpa.ledger.LedgerRecord.read(ledger.path).epsilon("server"):.2f}')

# %%
figure, axes = plt.subplots(figsize=(5, 3), dpi=120)
axes.plot(range(1, len(accuracies) + 1), accuracies, marker='o')
axes.set(xlabel='round', ylabel='accuracy on held-out digits, %', title='Private training')
axes.grid(alpha=0.3)
plt.show()

# %% [markdown]
# ## Only a number?
#
# Many questions need no model. `tpa.analytics` asks for counts, sums, means, histograms and quantiles in one round of
# the same stack. Here: which digit does each client hold most of? The answer costs epsilon of its own, on top of the
# training's. The law of its noise is public, so each answer comes with confidence intervals, which cost nothing.

# %%
labels = [
  [int(example['y']) for example in examples.train.create_tf_dataset_for_client(client)]
  for client in examples.train.client_ids
]
favourite = np.array([np.bincount(held, minlength=10).argmax() for held in labels])

query = tpa.analytics.Histogram(categories=[str(digit) for digit in range(10)])
statistic = tpa.analytics.private_statistic(query, tpa.Cohort(expected=200), noise_multiplier=3.0)
found = statistic.answer(list(np.eye(10, dtype=bool)[favourite]))
low, high = np.moveaxis(statistic.intervals(found, confidence=0.95)['counts'], -1, 0)

figure, axes = plt.subplots(figsize=(5, 2.6), dpi=120)
axes.bar(np.arange(10) - 0.2, np.bincount(favourite, minlength=10), 0.4, label='exact')
axes.bar(np.arange(10) + 0.2, found['counts'], 0.4, label='private')
axes.vlines(np.arange(10) + 0.2, low, high, color='black', label='95 % interval')
axes.set(xlabel='digit', ylabel='clients')
axes.set_xticks(range(10))
axes.legend()
plt.show()

# %% tags=["stable"]
print(
  f'epsilon {statistic.epsilon(delta=5e-4):.2f}; with 95 % confidence, each count is off by at most '
  f'{statistic.precision(0.95)["counts"]:.1f} clients'
)

# %% [markdown]
# ## Next
#
# * With `run_directory='runs/mine'` a program's training resumes where it was cut off;
#   `budget=tpa.Budget(epsilon=8.0, delta=5e-4)` in `Accounting` makes it stop by itself.
# * A simulation computes the secure sum in the clear on this machine: it computes the right thing and
#   hides nothing from it. What a deployment needs is in [docs/threat-models.md](../docs/threat-models.md).
# * [02](02_layers.ipynb) shows what each layer does to an update, [03](03_choosing.ipynb) how to choose the numbers.
