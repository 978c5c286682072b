"""Trainings with correlated noise: lost rounds, checkpoints, and what no output may show."""

import os
import re
import stat

import numpy as np
import pytest
import tensorflow_federated as tff
from test_training import DATA, IDS, model_fn, preprocess, process_with as independent, train

import tff_privacy_agg as tpa
from tff_privacy_agg.aggregation.noise_history import holds_noise, map_stacks, without_noise
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning import LocalRounds, PrivateLearningProcess, RunDirectory
from tff_privacy_agg.learning.flat_metrics import flatten
from tff_privacy_agg.ledger import LedgerRecord, verify
from tff_privacy_agg.reports.page import write_report

pytestmark = pytest.mark.integration

STRATEGY = tpa.BandedToeplitz.from_floats([1.0, 0.55, 0.45], separation=3)
SIZE = 4


def process_with(algorithm='fed_avg', cohort=None, **options):
  sgd = tff.learning.optimizers.build_sgdm
  options = {
    'fed_sgd': {},
    'fed_prox': {'proximal_strength': 0.1, 'client_optimizer_fn': sgd(0.1)},
    'fed_avg': {'client_optimizer_fn': sgd(0.1)},
    'mime_lite': {'base_optimizer': sgd(0.1), 'server_optimizer': sgd(1.0)},
  }[algorithm] | options
  if algorithm != 'mime_lite':
    options['server_optimizer_fn'] = sgd(1.0)
  aggregator = tpa.dp_aggregator(
    3.0, SIZE, zeroing=False, correlated=STRATEGY, clipping_norm=0.5, maximum_clients=SIZE
  )
  if cohort is not None:
    aggregator = tpa.compose(aggregator.layers, cohort=cohort)
  return tpa.build_private_learning_process(
    algorithm,
    model_fn,
    aggregator=aggregator,
    accounting=tpa.Accounting(population=len(IDS), minimum_clients=SIZE, delta=1e-3),
    **options,
  )


@pytest.fixture(scope='module')
def process(simulation_worker):
  with tpa.runtime.use(simulation_worker):
    return process_with()


@pytest.fixture(autouse=True)
def _runs_in_simulation(simulation):
  """Every test here runs its computations."""


def cohorts(seed=0):
  return tpa.SeparatedCohorts(client_ids=IDS, size=SIZE, separation=3, seed=seed)


def history(state):
  return np.asarray(state.aggregator['correlated_noise']['history'])


def client_data(process, clients=SIZE):
  return [preprocess(DATA.create_tf_dataset_for_client(IDS[i])) for i in range(clients)]


@pytest.mark.parametrize('algorithm', ['fed_avg', 'fed_prox', 'fed_sgd', 'mime_lite'])
def test_every_algorithm_keeps_and_restarts_its_noise(algorithm):
  process = process_with(algorithm)
  state = process.initialize()
  for _ in range(2):
    output = process.next(state, client_data(process))
    state = output.state
  assert history(state).any(axis=1).all()
  account = output.metrics['aggregator']['privacy']
  assert account['epsilon'] == np.inf
  assert np.isfinite(account['release_epsilon'])
  vectors = process.facts.price.vectors
  assert [bool(one.steps) for one in vectors] == [True] * (2 if algorithm == 'mime_lite' else 1)
  anew = process.restart_noise(state)
  assert anew.aggregator['privacy']['rounds'] == 3
  kept = []

  def note(stack):
    kept.append(stack)
    return stack

  map_stacks(note, anew)
  assert len(kept) == (2 if algorithm == 'mime_lite' else 1)
  for stack in kept:
    assert not np.any(stack['correlated_noise']['history'])
    assert stack['privacy']['since_restart'] == 0
  after = process.next(anew, client_data(process)).state
  assert history(after)[0].any()
  assert not history(after)[1].any()


def test_noise_of_gradients_goes_on_through_a_round_that_is_not_accepted():
  process = process_with('mime_lite', cohort=tpa.Cohort(expected=SIZE, minimum=2))
  state = process.next(process.initialize(), client_data(process)).state
  rejected = process.next(state, client_data(process, 1))
  assert not rejected.metrics['aggregator']['privacy']['accepted']
  found = []
  map_stacks(lambda new, old: found.append((old, new)) or new, rejected.state, state)
  assert len(found) == 2
  for old, new in found:
    before, after = (one['correlated_noise']['history'] for one in (old, new))
    np.testing.assert_array_equal(after[1:], before[:-1])
    assert np.any(after[0])


def test_independent_noise_has_nothing_to_restart():
  process = independent()
  with pytest.raises(ConfigurationError, match='there is none to restart'):
    process.restart_noise(process.initialize())


def test_checkpoints_are_exact_and_for_the_owner_alone(process, tmp_path):
  state = process.next(process.initialize(), client_data(process)).state
  before = os.umask(0o022)
  try:
    directory = RunDirectory(tmp_path / 'run', {'rounds': 3})
    directory.save(state, 1)
  finally:
    os.umask(before)
  loaded, done = directory.latest(process.initialize())
  assert done == 1
  np.testing.assert_array_equal(history(loaded), history(state))
  assert history(loaded).dtype == np.int64
  checkpoints = tmp_path / 'run/checkpoints'
  assert stat.S_IMODE(checkpoints.stat().st_mode) == 0o700
  for file in checkpoints.rglob('program_state_1/**/*'):
    assert stat.S_IMODE(file.stat().st_mode) == (0o700 if file.is_dir() else 0o600)
  # The noise that is carried over is that of the checkpoint: a state without it has other noise.
  assert holds_noise(loaded)
  assert not np.any(history(without_noise(loaded)))


def test_states_are_refused_by_what_releases(process):
  state = process.next(process.initialize(), client_data(process)).state
  with pytest.raises(ConfigurationError, match='holds the noise of earlier rounds'):
    flatten({'state': state})


class Crash(Exception):
  """The program ends here."""


def train_to(process, rounds, path, **kwargs):
  return train(process, rounds, path, cohorts=cohorts(), **kwargs)


def test_a_resumed_training_goes_on_with_its_noise_and_pays_by_participation(process, tmp_path):
  first, lines = train_to(process, 2, tmp_path / 'run')
  resumed, more = train_to(process, 4, tmp_path / 'run')
  assert not any('noise begins anew' in line for line in [*lines, *more])
  after, before = history(resumed.state), history(first.state)
  assert before.any(axis=1).all()
  assert not np.array_equal(after, before)
  third, _ = train_to(process, 5, tmp_path / 'run')
  np.testing.assert_array_equal(history(third.state)[1], after[0])
  record = LedgerRecord.read(tmp_path / 'run/ledger.jsonl')
  assert verify(tmp_path / 'run/ledger.jsonl').ok
  assert record.state.most == 2  # of five rounds, three rounds apart
  metrics = third.metrics
  assert metrics['ledger/epsilon'] == metrics['privacy/epsilon'] == np.inf
  assert metrics['ledger/release_epsilon'] == pytest.approx(
    metrics['privacy/release_epsilon'], rel=1e-9
  )
  assert 'nothing is promised' in record.statement()


@pytest.mark.parametrize('when', ['before it ran', 'before it was saved'])
def test_a_lost_round_is_not_run_again_on_its_noise(process, tmp_path, monkeypatch, when):
  def crash(*_):
    raise Crash

  train_to(process, 2, tmp_path / 'run')
  with monkeypatch.context() as patched:
    if when == 'before it ran':
      patched.setattr(LocalRounds, 'run', crash)
    else:
      patched.setattr(RunDirectory, 'save', crash)
    with pytest.raises(Crash):
      train_to(process, 3, tmp_path / 'run')
  resumed, lines = train_to(process, 3, tmp_path / 'run')
  assert sum('noise begins anew' in line for line in lines) == 1
  assert history(resumed.state)[0].any()
  assert not history(resumed.state)[1:].any()  # nothing of the rounds before the lost one
  assert resumed.metrics['privacy/rounds'] == 4
  record = LedgerRecord.read(tmp_path / 'run/ledger.jsonl')
  assert verify(tmp_path / 'run/ledger.jsonl').ok
  assert record.state.rounds == 4
  assert record.epsilon('release') <= resumed.metrics['privacy/release_epsilon'] * (1 + 1e-9)
  # It goes on from there without another restart.
  _, lines = train_to(process, 4, tmp_path / 'run')
  assert not any('noise begins anew' in line for line in lines)


def test_a_process_that_cannot_restart_is_not_resumed(process, tmp_path, monkeypatch):
  train_to(process, 1, tmp_path / 'run')
  monkeypatch.delattr(PrivateLearningProcess, 'restart_noise')
  ledger = tmp_path / 'run/ledger.jsonl'
  with process.open_ledger(ledger) as opened:
    opened.charge(2, cohort=opened.eligible(IDS)[:SIZE])
  with pytest.raises(ConfigurationError, match='cannot restart its noise'):
    train_to(process, 2, tmp_path / 'run')


def shows(content, vector):
  """Whether bytes hold a vector, as numbers of any type or as text."""
  for dtype in (np.int32, np.int64, np.float32, np.float64):
    if np.asarray(vector, dtype).tobytes() in content:
      return True
  text = content.decode('latin-1')
  return all(re.search(rf'(?<![\d.]){re.escape(f"{x:.7g}")}', text) for x in vector)


def test_no_output_of_a_training_shows_the_noise(process, tmp_path):
  run, managed = tmp_path / 'run', []

  class Manager(tff.program.ReleaseManager):
    async def release(self, value, key):
      managed.append(repr((value, key)))

  result, lines = train_to(process, 3, run, release_managers=[Manager()])
  tpa.export_model(run, tmp_path / 'model', format='npz')
  write_report(run, tmp_path / 'report.html')
  secrets = [row for row in history(result.state) if row.any()]
  scale = process.facts.stack['integer_design']['scaled_norm']
  secrets += [row / scale for row in secrets] + [0.5 * row / scale for row in secrets]
  outputs = [path for path in tmp_path.rglob('*') if path.is_file()]
  outputs = [path for path in outputs if 'checkpoints' not in path.parts]
  assert {'metrics.csv', 'ledger.jsonl', 'report.html'} <= {path.name for path in outputs}
  contents = [path.read_bytes() for path in outputs]
  contents += ['\n'.join([*lines, *managed]).encode()]
  assert not any(shows(content, secret) for content in contents for secret in secrets)
  checkpoint = (run / 'checkpoints').rglob('*')
  held = [path.read_bytes() for path in checkpoint if path.is_file()]
  assert any(shows(content, secrets[0]) for content in held)  # the search finds it where it is
