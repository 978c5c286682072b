# %% [markdown]
# # 3. Choosing epsilon, bits and the cohort
#
# Four numbers decide a private training before it starts: epsilon, the clients of a round, the rounds, and
# the bits of an upload. `tpa.accounting.plan` solves for the noise and the bits, with the reasons. It is
# NumPy: no TensorFlow, no training. Run time: about a minute on two cores.

# %% tags=["setup"]
# The same in all notebooks: setup_cell.py.

# %%
import pathlib
import tempfile

import matplotlib.pyplot as plt
import numpy as np

import tff_privacy_agg as tpa

TRAINING = dict(
  target_epsilon=8.0,
  target_delta=1e-6,
  rounds=200,
  clients_per_round=500,
  population=100_000,
  dimension=100_000,
)


def draw(axes, xlabel, xs, ys, **options):
  axes.plot(xs, ys, marker='o', markersize=4, **options)
  axes.set(xlabel=xlabel)
  axes.grid(alpha=0.3)


# %% [markdown]
# ## One plan

# %% tags=["stable"]
plan = tpa.accounting.plan(**TRAINING)
print(f'noise multiplier {plan.noise_multiplier:.2f}, {plan.bits} bits, epsilon {plan.epsilon:.2f}')
print(f'{plan.bytes_per_client / 1e6:.2f} MB a client and round; floats would be 0.40 MB')
print(*plan.reasons, sep='\n')

# %% [markdown]
# ## What the cohort buys
#
# The noise in the *mean* is `noise_multiplier * clip / clients`: epsilon fixes the first factor, the number of
# clients divides it. So a larger cohort is the cheapest way to a better model at the same epsilon. Against the
# server there is no gain from sampling, so more rounds need more noise, whoever takes part.

# %%
cohorts = [50, 100, 200, 500, 1000, 2000]
by_cohort = [tpa.accounting.plan(**{**TRAINING, 'clients_per_round': n}) for n in cohorts]
rounds = [10, 30, 100, 300, 1000]
by_rounds = [tpa.accounting.plan(**{**TRAINING, 'rounds': t}) for t in rounds]

figure, axes = plt.subplots(1, 2, figsize=(8, 3), dpi=120)
noise_in_mean = [p.noise_multiplier / n for n, p in zip(cohorts, by_cohort, strict=True)]
draw(axes[0], 'clients a round', cohorts, noise_in_mean)
axes[0].set(xscale='log', yscale='log', ylabel='noise in the mean / clip norm')
draw(axes[1], 'rounds', rounds, [p.noise_multiplier for p in by_rounds])
axes[1].set(xscale='log', yscale='log', ylabel='noise multiplier')
figure.suptitle('At epsilon 8 and delta 1e-6')
figure.tight_layout()
plt.show()

# %% [markdown]
# That noise is per coordinate; its length grows with the square root of the dimension. Compare it with the clip
# norm: far above 1, a round's step is mostly noise, which only many rounds average out. In notebook 01, which
# learns well, it is 0.7.

# %% tags=["stable"]
for n, p in zip(cohorts, by_cohort, strict=True):
  ratio = np.sqrt(TRAINING['dimension']) * p.noise_multiplier / n
  print(
    f'{n:5} clients: noise multiplier {p.noise_multiplier:5.2f}, length of noise / clip {ratio:6.2f}'
  )

# %% [markdown]
# ## What epsilon costs
#
# Halving epsilon nearly doubles the noise. Fewer rounds, fewer parameters and larger cohorts win it back. Each
# change can be tried here before anybody is asked for data.

# %%
targets = [1, 2, 4, 8, 16]
figure, axes = plt.subplots(figsize=(5, 3), dpi=120)
for count in (20, 200):
  needed = [
    tpa.accounting.plan(**{**TRAINING, 'target_epsilon': e, 'rounds': count}).noise_multiplier
    for e in targets
  ]
  draw(axes, 'target epsilon', targets, needed, label=f'{count} rounds')
axes.set(xscale='log', yscale='log', ylabel='noise multiplier')
axes.legend()
plt.show()

# %% [markdown]
# ## How many bits
#
# The modulus has to hold the noisy sum. With too few bits the values are scaled down until rounding costs
# accuracy, or nothing fits at all: the first point of each curve is the fewest bits that work. Past a point
# more bits cost traffic and buy nothing. `plan` takes the fewest within 1 % of the best.

# %%
figure, axes = plt.subplots(figsize=(5, 3), dpi=120)
for epsilon in (2, 8, 32):
  widths, errors = [], []
  for bits in range(10, 22):
    try:
      p = tpa.accounting.plan(**{**TRAINING, 'target_epsilon': epsilon, 'bits': bits})
    except tpa.ConfigurationError:
      continue  # so few bits cannot carry the noise
    widths.append(bits)
    errors.append(p.error_over_central)
  draw(axes, 'bits a coordinate', widths, errors, label=f'epsilon {epsilon}')
axes.set(ylabel='error / error of central noise', ylim=(0.98, 1.4))
axes.legend()
plt.show()

# %% [markdown]
# ## Who drops out, who colludes
#
# Only the noise of honest survivors counts. Planning for drop-outs and colluders makes each client add more: the
# sum of a full round then has more noise than it needs.

# %% tags=["stable"]
for dropout, colluding in ((0.0, 0.0), (0.1, 0.0), (0.1, 0.05), (0.3, 0.1)):
  p = tpa.accounting.plan(**TRAINING, dropout=dropout, colluding_fraction=colluding)
  extra = np.sqrt(TRAINING['clients_per_round'] / p.minimum_honest)
  print(
    f'drop-outs {dropout:4.0%}, colluders {colluding:4.0%}: minimum {p.minimum_honest}, '
    f'{p.bits} bits, noise of a full round {extra:.2f} times the least'
  )

# %% [markdown]
# ## Fewer rounds of one client
#
# A public schedule that lets each client take part in at most k rounds bounds what one client can lose,
# against the server, too. The ledger counts every client's rounds (as salted hashes) and refuses one too many.

# %% tags=["stable"]
for cap in (200, 50, 10, 1):
  p = tpa.accounting.plan(**TRAINING, participation_cap=cap)
  print(f'at most {cap:3} of 200 rounds: noise multiplier {p.noise_multiplier:5.2f}')

# %% [markdown]
# ## Noise that cancels over rounds
#
# If you trust the server with the sum, its noise in one round can take back part of the noise of earlier rounds, so
# that less is left in the accumulated model. The gain depends on how long a client rests between its rounds. It is
# 1.0, nothing, where everybody takes part in every round, as in the first row. The server sees each sum without noise:
# epsilon in its view is infinite.

# %% tags=["stable"]
for rounds, population in ((200, 100), (30, 600), (200, 2000), (1000, 10_000)):
  p = tpa.plan_correlated(
    rounds=rounds, target_epsilon=8.0, clients_per_round=100, population=population, delta=1e-6
  )
  print(
    f'{rounds:4} rounds of 100 of {population:6} clients: {p.participations:3} rounds of each, '
    f'{p.strategy.separation:3} apart, {p.gain:.1f} times less error'
  )

# %% [markdown]
# `tpa.CorrelatedNoise(noise_multiplier=p.noise_multiplier, strategy=p.strategy)` is the layer, and
# `tpa.SeparatedCohorts` draws the cohorts. The ledger refuses a client that returns too soon. The clip norm is a
# number, or an `AdaptiveQuantile` with `frozen_after`: noise cancels once the norm stays.
#
# ## From the plan to the stack
#
# `tff-privacy-agg plan` prints the same on a command line, `--json` for machines. What it found goes into three
# places: `noise_multiplier` of the noise layer, `bits` of the sum, `Cohort.minimum`. Or into a file from which
# `tff-privacy-agg train --config run.toml` trains. Here for the demo's two hundred clients and 650 weights:

# %% tags=["stable"]
plan = tpa.plan(
  target_epsilon=8.0, rounds=30, clients_per_round=100, population=200, parameters=650
)
run = pathlib.Path(tempfile.mkdtemp()) / 'run.toml'
run.write_text(plan.toml())
print(run.read_text())

# %% [markdown]
# [docs/choosing-parameters.md](../docs/choosing-parameters.md) has the advice in short.
