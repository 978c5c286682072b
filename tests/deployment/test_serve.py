"""The server's training loop: what is charged, tried again, settled, saved."""

import types

import pytest

from tff_privacy_agg import secagg
from tff_privacy_agg.cli.serve import _Training


class Events(list):
  def __call__(self, event, **fields):
    self.append((event, fields))


class Remote:
  """Rounds that fail where told."""

  def __init__(self, failures):
    self._failures = failures
    self.sessions = 0

  def gather(self):
    return frozenset({0, 2})

  def next(self, state, cohort):
    self.sessions += 1
    if self.sessions in self._failures:
      raise secagg.NotEnoughShares('on purpose')
    private = {'survivors': 1, 'honest': 1, 'accepted': True, 'noise_multiplier': 2.0}
    metrics = {'aggregator': {'privacy': private}}
    return (state + 1, metrics), (0,)


class Directory:
  def __init__(self, done=0):
    self.saved, self.released = {done: done} if done else {}, {}

  def latest(self, initial):
    return (max(self.saved), max(self.saved)) if self.saved else (None, 0)

  def save(self, state, round_number):
    assert round_number in self.released
    self.saved[round_number] = state

  def release(self, metrics, round_number):
    self.released[round_number] = metrics


class Ledger:
  """Keeps its lines; it is of a stack whose noise multiplier is 2."""

  def __init__(self):
    self.lines = []
    costs = types.SimpleNamespace(noise_multiplier=lambda honest: 2.0)
    self.state = types.SimpleNamespace(
      open={}, costs=costs, kinds={0: costs}, kind_of=lambda charge: costs
    )
    self.facts = types.SimpleNamespace(honest=lambda survivors: survivors)

  def charge(self, round_number, *, planned_survivors, cohort):
    self.lines.append(('charge', round_number, planned_survivors, tuple(cohort)))
    self.state.open[len(self.lines)] = round_number
    return len(self.lines)

  def settle(self, charge, *, survivors, counted_by, honest, accepted):
    assert counted_by == 'runtime'  # the protocol
    del self.state.open[charge]
    self.lines.append(('settle', charge, survivors, accepted))

  def epsilon(self, view):
    return float(len(self.lines))


class Statement:
  def __init__(self):
    self.rounds = []

  async def release(self, metrics, round_number):
    self.rounds.append(round_number)


def training(failures=(), done=0):
  return _Training(
    remote=Remote(failures),
    directory=Directory(done),
    ledger=Ledger(),
    statement=Statement(),
    evaluate=lambda state: {'accuracy': state / 10},
    names={0: 'north', 2: 'east'},
    events=Events(),
  )


def test_a_round_without_a_sum_is_charged_and_tried_again():
  one = training(failures=[2])
  one.run(0, 2)
  cohort = ('north', 'east')
  assert one.ledger.lines == [
    ('charge', 1, 2, cohort),
    ('settle', 1, 1, True),
    ('charge', 2, 2, cohort),  # never settled: it stays at its worst
    ('charge', 2, 2, cohort),
    ('settle', 4, 1, True),
  ]
  assert one.directory.saved == {1: 1, 2: 2}
  assert one.directory.released[2]['survivors'] == 1
  assert one.directory.released[2]['accuracy'] == 0.2
  assert one.statement.rounds == [1, 2]
  assert [fields['attempt'] for event, fields in one.events if event == 'round failed'] == [1]


def test_three_attempts_are_enough():
  one = training(failures=[2, 3, 4])
  with pytest.raises(secagg.NotEnoughShares):
    one.run(0, 2)
  assert one.directory.saved == {1: 1}
  assert [line[0] for line in one.ledger.lines] == ['charge', 'settle'] + ['charge'] * 3


def test_it_goes_on_after_its_checkpoint():
  one = training(done=3)
  one.run(0, 5)
  assert sorted(one.directory.saved) == [3, 4, 5]
  assert one.events[0] == ('resuming', {'after': 3})
