"""Kills writers of ledgers at random moments; run as a program, without TensorFlow.

  python ledger_kill_harness.py DIRECTORY KILLS SEED [late]

Children of this process run rounds and say on a pipe that a round has run, of which kind and
with how many survivors. Every third ledger has rounds of two kinds, every third a cap. Each is killed with SIGKILL. Then the ledger is read, and the
rounds that ran are accounted anew. Prints JSON. `late` charges after the round: the
fault that the test must see.
"""

import collections
import dataclasses
import json
import os
import pathlib
import random
import select
import signal
import sys
import time

sys.path.append(str(pathlib.Path(__file__).parents[1]))  # pytest is not here to do it

from ledger_stacks import facts, stack

from tff_privacy_agg.ledger.reader import LedgerRecord, verify
from tff_privacy_agg.ledger.writer import PrivacyLedger

KILLS_PER_LEDGER = 20
CLIENTS = [f'client {number}' for number in range(100)]


def kinds_of(number):
  """Facts of the rounds of a ledger; the header's first."""
  turn = number // KILLS_PER_LEDGER % 3
  first = facts(participation_cap=100_000 if turn == 1 else None)
  if turn != 2:
    return [first]
  return [first, dataclasses.replace(first, stack=stack(z=1.5), minimum_clients=50)]


def run_rounds(path, kinds, pipe, seed, late):
  """Writes until it is killed."""
  chance = random.Random(seed)
  cohort = CLIENTS if kinds[0].participation_cap else None
  with PrivacyLedger(path, kinds[0]) as ledger:
    while True:
      kind, survivors = chance.randrange(len(kinds)), chance.randint(80, 100)
      if late:
        os.write(pipe, b'%d/%d\n' % (kind, survivors))
      charge = ledger.charge(1, cohort=cohort, facts=kinds[kind])
      if not late:
        os.write(pipe, b'%d/%d\n' % (kind, survivors))
      if chance.random() < 0.8:  # the others are discarded and never settled
        ledger.settle(charge, survivors=survivors, counted_by='runtime')


def killed(path, kinds, chance, late):
  """Kind and survivors of the rounds that a writer ran before it was killed."""
  reading, writing = os.pipe()
  child = os.fork()
  if child == 0:
    os.close(reading)
    try:
      run_rounds(path, kinds, writing, chance.random(), late)
    finally:
      os._exit(3)
  os.close(writing)
  if chance.random() < 0.6:  # while rounds run, however slow the machine is
    select.select([reading], [], [], 10.0)
  time.sleep(chance.uniform(0.0, 0.02))
  os.kill(child, signal.SIGKILL)
  _, status = os.waitpid(child, 0)
  with os.fdopen(reading, 'rb') as said:
    ran = [tuple(map(int, line.split(b'/'))) for line in said.read().split()]
  return ran, os.WIFSIGNALED(status)


def main(directory, kills, seed, late):
  chance = random.Random(seed)
  found = collections.Counter()
  path, rounds = None, collections.Counter()
  for number in range(kills):
    if number % KILLS_PER_LEDGER == 0:
      rounds = collections.Counter()
      path = pathlib.Path(directory) / f'{number}.jsonl'
      kinds = kinds_of(number)
      costs = [one.costs() for one in kinds]
    ran, by_signal = killed(path, kinds, chance, late)
    rounds.update(ran)
    found['kills'] += 1
    found['ended otherwise'] += not by_signal
    found['rounds'] += len(ran)
    if not path.exists():
      found['understated'] += bool(rounds)
      continue
    found['unreadable'] += not verify(path).ok
    spent = 0.0
    if rounds:
      prices = [(costs[kind].price, one, times) for (kind, one), times in rounds.items()]
      distance = sum(price.distance(one) * times for price, one, times in prices)
      total = sum(costs[0].account.row(price, one) * times for price, one, times in prices)
      spent, _ = costs[0].account.epsilon(total, 5e-4, distance)
    found['understated'] += LedgerRecord.read(path).epsilon('server') < spent * (1 - 1e-12)
  found['tensorflow'] = int('tensorflow' in sys.modules)
  print(json.dumps(found))


if __name__ == '__main__':
  main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), 'late' in sys.argv)
