"""Wrong inputs of a training: one or two lines, and a ledger that is absent or as it was."""

import collections
import dataclasses
import functools
import re
import sys
import types

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from test_training import DATA, IDS, SIZE, cohorts, model_fn, preprocess, process_with

import tff_privacy_agg as tpa
from tff_privacy_agg import cli
from tff_privacy_agg.errors import PrivacyAggError

SGD = tff.learning.optimizers.build_sgdm


def clients(x=2, names=IDS, dtype=np.float32, labels=1, keys='xy'):
  """Client data of another shape."""
  first, second = keys
  one = {first: np.zeros([4, x], np.float32), second: np.zeros([4, labels], dtype)}
  return tff.simulation.datasets.TestClientData(
    {name: collections.OrderedDict(one) for name in names}
  )


@pytest.fixture(scope='module')
def process():
  return process_with()


@pytest.fixture(scope='module')
def capped():
  return process_with(participation_cap=1)


@functools.cache
def summing():
  """A process of TFF's own builder whose stack has no mean."""
  layers = [tpa.Clipping(norm=1.0), tpa.Quantization(), tpa.SecureModularSum(bits=30)]
  stack = tpa.compose(layers, cohort=tpa.Cohort(expected=SIZE))
  return tff.learning.algorithms.build_unweighted_fed_avg(
    model_fn, SGD(0.1), SGD(1.0), model_aggregator=stack, metrics_aggregator=tpa.no_metrics
  )


def drawn(**changed):
  return {'cohorts': dataclasses.replace(cohorts(), **changed)}


def _fails(dataset):
  raise KeyError('pixels')


class AnotherShapeInTheEnd(tff.simulation.datasets.TestClientData):
  """The last client's examples have three features."""

  def create_tf_dataset_for_client(self, client_id):
    data = clients(3) if client_id == IDS[-1] else DATA
    return data.create_tf_dataset_for_client(client_id)


# What `tpa.train` is called with in place of what works; and what is said.
TRAIN = {
  'no batches': ({'preprocess': None}, 'Batch the examples'),
  'batched twice': ({'preprocess': lambda d: d.batch(2).batch(2)}, 'The process takes batches of'),
  'seven features': (
    {'data': clients(7)},
    r'after `preprocess` a client gives <x=float32\[\?,7\],y=float32\[\?,1\]>',
  ),
  'integer labels': ({'data': clients(dtype=np.int64)}, 'Cast `y` to float32'),
  'wide labels': ({'data': clients(labels=3)}, r'y=float32\[\?,3\]'),
  'other names': ({'data': clients(keys='uv')}, 'Map each client to these names'),
  'only inputs': ({'preprocess': lambda d: d.map(lambda e: e['x']).batch(2)}, 'Map each client'),
  'preprocess fails': ({'preprocess': _fails}, "`preprocess` fails .* KeyError: 'pixels'"),
  'preprocess gives none': ({'preprocess': lambda d: None}, 'must return a `tf.data.Dataset`, got'),
  'preprocess gives a list': ({'preprocess': list}, 'must return a `tf.data.Dataset`, got a list'),
  'preprocess is a size': ({'preprocess': 10}, '`preprocess` must be a function of a dataset'),
  'data of arrays': ({'data': {'a': np.zeros(3)}}, '`data` must be .*ClientData`, got a dict'),
  'data of one client': ({'data': DATA.create_tf_dataset_for_client(IDS[0])}, '`data` must be'),
  'data of nobody': (
    {'data': types.SimpleNamespace(client_ids=[], create_tf_dataset_for_client=None)},
    'has no clients',
  ),
  'cohort below the minimum': (drawn(size=3), 'needs 4 honest ones, so that every round would'),
  'cohort above the maximum': (drawn(size=6), 'admits at most 5. Draw fewer, or build'),
  'few by coins': (
    {'cohorts': tpa.PoissonCohorts(client_ids=IDS, probability=0.7)},
    'draws about 8 clients a round; .* at most 5',
  ),
  'clients without data': (drawn(client_ids=[*IDS, 'nobody']), "lacks 1 of them, such as 'nobody'"),
  'more clients than stated': (
    {
      'data': clients(names=[*IDS, 'one more']),
      **drawn(client_ids=[*IDS, 'one more']),
    },
    r'`population` of the accounting is 12; `cohorts` draws from 13 clients',
  ),
  'cohorts by number': ({'cohorts': 4}, '`cohorts` must be a sampler of cohorts, got a int'),
  'cohorts as a list': ({'cohorts': IDS}, '`cohorts` must be a sampler'),
  'no rounds': ({'rounds': 0}, '`rounds` must be at least 1'),
  'rounds in words': ({'rounds': 'ten'}, "`rounds` must be an integer, got 'ten'"),
  'half a round': ({'rounds': 1.5}, '`rounds` must be an integer'),
  'evaluation as a number': ({'evaluate': 0.5}, '`evaluate` must be a function'),
  'no process': ({'process': None}, '`process` must be a TFF learning process, got None'),
  'a model': ({'process': model_fn}, '`process` must be a TFF learning process'),
  'an aggregator': (
    {'process': tff.aggregators.SumFactory().create(tff.TensorType(np.float32, [2]))},
    'not the process of an aggregator',
  ),
}


def arguments(process, changed):
  given = {'process': process, 'data': DATA, 'rounds': 2, 'cohorts': cohorts()}
  return {**given, 'preprocess': preprocess, 'report': lambda line: None, **changed}


def refused(call, sentence):
  with pytest.raises(PrivacyAggError) as caught:
    call()
  text = str(caught.value)
  assert re.search(sentence, text), text
  assert len(text.splitlines()) <= 2
  assert text.rstrip().endswith('.')


@pytest.mark.parametrize(('changed', 'sentence'), TRAIN.values(), ids=TRAIN.keys())
def test_train_refuses_before_it_makes_a_ledger(simulation, process, tmp_path, changed, sentence):
  given = arguments(process, changed)
  refused(lambda: tpa.train(run_directory=tmp_path / 'run', **given), sentence)
  assert not (tmp_path / 'run').exists()
  with process.open_ledger(tmp_path / 'ledger.jsonl') as ledger:
    before = ledger.path.read_bytes()
    refused(lambda: tpa.train(ledger=ledger, **given), sentence)
    assert ledger.path.read_bytes() == before


def test_what_the_table_starts_from_trains(simulation, process, tmp_path):
  assert tpa.train(run_directory=tmp_path / 'run', **arguments(process, {})).rounds_done == 2


def test_a_stack_that_sums_is_refused_whoever_built_its_process(simulation):
  refused(lambda: tpa.train(**arguments(summing(), {})), 'has no mean: it would move the model by')


def test_a_cap_that_cannot_last_is_refused(simulation, capped, tmp_path):
  given = arguments(capped, {'rounds': 4})
  refused(lambda: tpa.train(run_directory=tmp_path / 'run', **given), 'for at most 3 rounds')
  assert not (tmp_path / 'run').exists()


def test_a_context_without_secure_sums_is_refused(process, tmp_path):
  native = tff.backends.native.create_sync_local_cpp_execution_context()
  with tff.framework.get_context_stack().install(native):
    refused(
      lambda: tpa.train(run_directory=tmp_path / 'run', **arguments(process, {})),
      r'cannot run secure sums. Call `tff_privacy_agg.runtime.simulation_context\(\)` first',
    )
  assert not (tmp_path / 'run').exists()


PROGRAM = ('no batches', 'seven features', 'cohort above the maximum', 'clients without data')


@pytest.mark.parametrize('name', PROGRAM)
def test_the_data_source_of_a_program_refuses_the_same(simulation, process, tmp_path, name):
  changed, sentence = TRAIN[name]
  given = arguments(process, changed)
  with process.open_ledger(tmp_path / 'ledger.jsonl') as ledger:
    before = ledger.path.read_bytes()
    refused(
      lambda: tpa.CohortDataSource(
        given['data'],
        given['cohorts'],
        preprocess=given['preprocess'],
        ledger=ledger,
        process=process,
      ),
      sentence,
    )
    assert ledger.path.read_bytes() == before


def test_a_program_s_round_is_charged_only_where_its_session_keeps_the_threshold(tmp_path, process):
  """Its survivors are counted by clients, who may say that they are more."""
  assert process.facts.minimum_clients == SIZE
  for fewest in (SIZE - 1, SIZE):
    context = tpa.runtime.SecAggContext(minimum_clients=fewest, colluding_fraction=0.0)
    with (
      tpa.runtime.use(context),
      process.open_ledger(tmp_path / f'{fewest}.jsonl') as ledger,
    ):
      source = tpa.CohortDataSource(
        DATA, cohorts(), preprocess=preprocess, ledger=ledger, process=process
      )
      if fewest < SIZE:
        refused(source.iterator().select, f'a session opens sums of {fewest}')
      else:
        source.iterator().select()
      assert ledger.state.rounds == (fewest == SIZE)


def test_no_round_with_a_client_of_another_shape_is_charged(simulation, process, tmp_path):
  changed = {
    'data': AnotherShapeInTheEnd({name: {'x': [0.0]} for name in IDS}),
    'cohorts': tpa.UniformCohorts(client_ids=IDS[-SIZE:], size=SIZE),
  }
  with process.open_ledger(tmp_path / 'ledger.jsonl') as ledger:
    given = arguments(process, changed)
    before = ledger.path.read_bytes()
    refused(lambda: tpa.train(ledger=ledger, **given), r'gives <x=float32\[\?,3\]')
    source = tpa.CohortDataSource(
      given['data'], given['cohorts'], preprocess=preprocess, ledger=ledger, process=process
    )
    refused(source.iterator().select, r'gives <x=float32\[\?,3\]')
    assert ledger.path.read_bytes() == before


def test_too_many_clients_end_in_our_sentence_without_tffs(simulation, process):
  datasets = [preprocess(DATA.create_tf_dataset_for_client(name)) for name in IDS[:7]]
  state = process.initialize()
  refused(lambda: process.next(state, datasets), r'at most 5 clients a round; 7 took part\. Raise')
  refused(lambda: process.next(state, []), 'A round needs at least one client')


def build(algorithm='fed_avg', stack=None, **changed):
  given = {
    'aggregator': stack or tpa.ddp_secure_aggregator(3.0, SIZE),
    'accounting': tpa.Accounting(population=len(IDS), minimum_clients=SIZE),
    'client_optimizer_fn': SGD(0.1),
    'server_optimizer_fn': SGD(1.0),
    **changed,
  }
  return tpa.build_private_learning_process(algorithm, given.pop('model_fn', model_fn), **given)


def noisy(*first, **options):
  layers = [
    *first,
    tpa.Clipping(norm=1.0),
    tpa.Quantization(),
    tpa.DiscreteGaussianNoise(noise_multiplier=3.0),
    tpa.SecureModularSum(bits=20),
  ]
  return tpa.compose(layers, cohort=tpa.Cohort(expected=SIZE), **options)


BUILD = {
  'a sum': ({'stack': noisy()}, '`aggregator` has no mean'),
  'two deltas': (
    {'stack': noisy(tpa.Mean(), delta=1e-4)},
    'delta of 0.0001; `accounting` has 0.00833333. State delta once',
  ),
  'two deltas, of a recipe': (
    {'stack': tpa.ddp_secure_aggregator(3.0, SIZE, delta=1e-6)},
    'State delta once',
  ),
  'two budgets': (
    {'stack': noisy(tpa.Mean(), budget=tpa.Budget(epsilon=9.0, delta=0.1 / 12))},
    'State the budget once',
  ),
  'an optimizer of Keras': (
    {'client_optimizer_fn': lambda: tf.keras.optimizers.SGD(0.1)},
    "`client_optimizer_fn` must be one of TFF's optimizers",
  ),
  'a learning rate': ({'server_optimizer_fn': 0.1}, '`server_optimizer_fn` must be one of'),
  'no optimizer': ({'client_optimizer_fn': None}, '`client_optimizer_fn` must be one of'),
  'a model itself': ({'model_fn': model_fn()}, 'refuses the model or an option: '),
  'a function of something else': ({'model_fn': lambda: 3}, 'refuses the model or an option: '),
  "one that TFF's loops cannot run": (
    {'client_optimizer_fn': tff.learning.optimizers.build_adafactor(learning_rate=0.1)},
    "refuses the model or an option: KeyError: 'steps'.",
  ),
}


@pytest.mark.parametrize(('changed', 'sentence'), BUILD.values(), ids=BUILD.keys())
def test_the_builder_refuses_what_cannot_train(simulation, changed, sentence):
  refused(lambda: build(**changed), sentence)


MINE = """
import collections
import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from tff_privacy_agg.learning.data import FederatedExamples

def examples(features=3, names='xy', test=None):
  one = dict(zip(names, (np.zeros([5, features], np.float32), np.zeros([5, 1], np.float32))))
  train = tff.simulation.datasets.TestClientData({f'c{i}': one for i in range(8)})
  x = np.zeros([4, 3], np.float32) if test is None else test
  return FederatedExamples(train=train, test_x=x, test_y=np.zeros([4, 1], np.float32))

load = examples
wide = lambda: examples(7)
other = lambda: examples(names='uv')
untested = lambda: examples(test=np.zeros([4, 7], np.float32))
uneven = lambda: examples(test=np.zeros([3, 3], np.float32))
arrays = lambda: np.zeros([5, 3])
nobody = lambda: FederatedExamples(train=None, test_x=np.zeros([1]), test_y=np.zeros([1]))
broken = lambda: 1 / 0

def model():
  keras = tf.keras.Sequential(
    [tf.keras.layers.InputLayer(input_shape=[3]), tf.keras.layers.Dense(1)]
  )
  return tff.learning.models.from_keras_model(
    keras, loss=tf.keras.losses.MeanSquaredError(), input_spec=collections.OrderedDict(
      x=tf.TensorSpec([None, 3]), y=tf.TensorSpec([None, 1])),
  )

keras = lambda: tf.keras.Sequential([tf.keras.layers.Dense(1)])
"""
SMALL = ['--population', '8', '--clients-per-round', '4', '--rounds', '2', '--delta', '0.01']
OWN = [*SMALL, '--model', 'mine_refused:model', '--data']
# What the command is called with; and what is said. Those that build a process are slow.
COMMAND = {
  'own data, no model': (
    [*SMALL, '--data', 'mine_refused:load'],
    r"--data is your own, 'mine_refused:load', and --model is 'linear'",
  ),
  'no such data': ([*SMALL, '--data', 'letters'], "is one of 'digits'"),
  'no such module': ([*OWN, 'nowhere_at_all:load'], 'does not name a `module:function`'),
  'data of arrays': ([*OWN, 'mine_refused:arrays'], 'must be a FederatedExamples'),
  'data without clients': ([*OWN, 'mine_refused:nobody'], 'client data of at least one client'),
  'data of other names': ([*OWN, 'mine_refused:other'], 'mappings of `x` and `y`'),
  'data that fails': ([*OWN, 'mine_refused:broken'], 'ZeroDivisionError'),
  'uneven test data': ([*OWN, 'mine_refused:uneven'], 'must hold equally many examples'),
  'another population': (
    [*OWN, 'mine_refused:load', '--population', '9'],
    'the data has 8 clients',
  ),
  'more clients than there are': ([*SMALL, '--clients-per-round', '9'], 'at most --population'),
  'a model of Keras': (
    [*SMALL, '--data', 'mine_refused:load', '--model', 'mine_refused:keras'],
    'refuses the model or an option',
  ),
  'delta': ([*SMALL, '--delta', '0.5'], 'must be below 1/population'),
  'noise': ([*SMALL, '--noise-multiplier', '0'], 'must be finite and positive'),
  'drop-outs of nothing': ([*SMALL, '--dropout-rate', '0.1'], 'nobody drops out of a simulated'),
  'a directory of something else': ([*SMALL, '--run-dir', '.'], 'holds other files'),
  'seven features': ([*OWN, 'mine_refused:wide'], r'x=float32\[\?,7\]'),
  'test data of seven features': (
    [*OWN, 'mine_refused:untested'],
    '`test_x` and `test_y` give',
  ),
}
BUILDS = ('seven features', 'test data of seven features')


@pytest.mark.parametrize(
  ('arguments', 'sentence'),
  [
    pytest.param(*one, id=name, marks=[pytest.mark.slow] if name in BUILDS else [])
    for name, one in COMMAND.items()
  ],
)
def test_the_command_refuses_what_cannot_train(tmp_path, monkeypatch, capsys, arguments, sentence):
  (tmp_path / 'mine_refused.py').write_text(MINE)
  monkeypatch.chdir(tmp_path)
  monkeypatch.delitem(sys.modules, 'mine_refused', raising=False)
  where = [] if '--run-dir' in arguments else ['--run-dir', 'run']
  assert cli.main(['train', *where, *arguments]) == 2
  said = capsys.readouterr().err
  assert re.search(sentence, said), said
  lines = [line for line in said.splitlines() if not line.endswith(' ...')]
  assert len(lines) <= 2
  assert not (tmp_path / 'run').exists()
  assert not (tmp_path / 'ledger.jsonl').exists()
