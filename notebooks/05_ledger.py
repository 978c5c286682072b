# %% [markdown]
# # 5. The ledger and the privacy card
#
# An epsilon is only worth as much as its bookkeeping. A training that crashes, drops rounds, or is restarted from an
# older checkpoint has still shown its sums to the server. The ledger is a file that never forgets a round: charged before it
# runs, settled after, one line each, chained by hashes.
#
# We keep the book of a training without running one. Run time: about twenty seconds on two cores.

# %% tags=["setup"]
# The same in all notebooks: setup_cell.py.

# %%
import json
import pathlib
import tempfile

import matplotlib.pyplot as plt
import numpy as np
import tensorflow_federated as tff

import tff_privacy_agg as tpa

folder = pathlib.Path(tempfile.mkdtemp())
path = folder / 'ledger.jsonl'

# %% [markdown]
# ## What every number rests on
#
# The first line states the facts: the stack with its integer design, delta, population, and what is claimed of the
# runtime. `tpa.train` fills them in by itself; here they are by hand.

# %%
aggregator = tpa.compose(
  [
    tpa.Mean(),
    tpa.Clipping(norm=tpa.AdaptiveQuantile(initial=0.1, target=0.5)),
    tpa.HadamardRotation(),
    tpa.Quantization(),
    tpa.DiscreteGaussianNoise(noise_multiplier=3.0),
    tpa.SecureModularSum(bits=16),
  ],
  cohort=tpa.Cohort(expected=100, minimum=80),
  delta=1e-5,
)
stack = aggregator.bind(tff.TensorType(np.float32, [650])).facts()
facts = tpa.ledger.LedgerFacts(
  stack=stack,
  delta=1e-5,
  population=5000,
  randomness='chacha20',
  minimum_clients=60,
  sampling='by check-in, at most once a round',
  task='next digit model',
)
budget = tpa.Budget(epsilon=6.0, delta=1e-5)
ledger = tpa.PrivacyLedger(path, facts, budget=budget)

# %% [markdown]
# ## Charge, run, settle
#
# A charge counts the fewest survivors whose sum the runtime would open (60): less noise, so it costs more. Settling lowers
# it to what happened. Rounds with fewer survivors cost more, and a round that is never settled stays at its worst.

# %%
history = []


def run_round(number, survivors):
  charge = ledger.charge(number, planned_survivors=100)
  charged = ledger.epsilon('server')
  if survivors is not None:  # None: the program is killed here
    ledger.settle(charge, survivors=survivors, counted_by='runtime', accepted=survivors >= 80)
  history.append((charged, ledger.epsilon('server')))


for number, survivors in enumerate([100, 100, 85, 100, None, 100, 65, 100], start=1):
  run_round(number, survivors)

# %% tags=["stable"]
for number, (charged, settled) in enumerate(history, start=1):
  print(f'round {number}: {charged:.3f} when charged, {settled:.3f} when settled')
spent = ledger.spent('server')
print(
  f'epsilon {spent.epsilon:.3f} after {spent.rounds} rounds, {spent.unsettled} of them unsettled'
)

# %% [markdown]
# Round 7 had 65 survivors, fewer than `Cohort.minimum`: the model was left as it was, but the server saw the sum, so it costs.
# Round 5 was cut off. If it runs again it is charged again: the server may have seen two sums.

# %% [markdown]
# ## Until the budget is spent

# %% tags=["stable"]
number = len(history)
try:
  while True:
    number += 1
    run_round(number, 100)
except tpa.BudgetExceededError as refused:
  print(refused)

# %%
figure, axes = plt.subplots(figsize=(5.5, 3), dpi=120)
rounds = range(1, len(history) + 1)
axes.plot(rounds, [charged for charged, _ in history], '.', color='0.6', label='when charged')
axes.step(rounds, [settled for _, settled in history], where='mid', label='settled')
axes.axhline(budget.epsilon, linestyle='--', color='black', label='budget')
axes.set(xlabel='round', ylabel="epsilon, server's view", ylim=(0, None))
axes.legend(loc='lower right')
plt.show()
ledger.close()

# %% [markdown]
# The last round is refused *before* it runs, at its worst. A process from `build_private_learning_process` with this
# budget also halts by itself, inside the TFF computation.
#
# ## The privacy card
#
# What is promised, to whom, on what it rests, and what is not covered. `tff-privacy-agg statement` prints it, as HTML or
# JSON too.

# %%
record = tpa.ledger.LedgerRecord.read(path)
card = record.statement()
print(card)

# %% [markdown]
# ## Can it be believed?
#
# `verify` computes every number anew. Here somebody makes the training look cheaper: 65 survivors become 100 in one
# line.

# %% tags=["stable"]
found = tpa.ledger.verify(path)
print(f'untouched: {"intact" if found.ok else found.problems}')

lines = path.read_text().splitlines(keepends=True)
changed = [line.replace('"survivors":65', '"survivors":100') for line in lines]
assert changed != lines
path.write_text(''.join(changed))
print(*tpa.ledger.verify(path).problems, sep='\n')

# %% [markdown]
# Lines cut off at the end are noticed by the `.head` file beside it.

# %% tags=["stable"]
path.write_text(''.join(lines[:-4]))
print(*tpa.ledger.verify(path).problems, sep='\n')

# %% [markdown]
# Who rewrites *all* files can make them fit each other. Publish the hash of the last line with the model, and that is
# noticed as well:

# %%
path.write_text(''.join(lines))
published = record.hash
print(f'published: {published[:16]}...')
print('with it:', 'intact' if tpa.ledger.verify(path, expected_hash=published).ok else 'broken')
print('with another:', *tpa.ledger.verify(path, expected_hash='0' * 64).problems)

# %% [markdown]
# ## One line
#
# The file is JSON lines: any program can read it, and compute its numbers without this package.

# %%
line = json.loads(lines[2])
print(
  json.dumps({name: line[name] for name in line if name not in ('rdp', 'total', 'utc')}, indent=2)
)
