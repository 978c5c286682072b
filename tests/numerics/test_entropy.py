"""The key must be fresh at every execution: for each client, round, call and optimiser."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from tensorflow.core.protobuf import rewriter_config_pb2
from tensorflow.python.framework import op_def_registry
from tensorflow.python.grappler import tf_optimizer

from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.numerics import entropy, samplers
from tff_privacy_agg.numerics.randomness import MODEL_NOISE, RandomStream

UUID_PATH = '/proc/sys/kernel/random/uuid'


def compiled_key():
  return tf.function(
    entropy.operating_system_key,
    autograph=False,
    input_signature=[tf.TensorSpec([], tf.int32)],
  )


def distinct(keys) -> int:
  return len({tuple(np.ravel(key)) for key in keys})


def test_key_is_eight_words_and_fresh_in_eager_mode():
  keys = [entropy.operating_system_key(tf.constant(0)) for _ in range(10)]
  assert all(key.dtype == tf.int32 and key.shape == [8] for key in keys)
  assert distinct(keys) == 10


@pytest.mark.parametrize('unfoldable', [0, 1, -1, 2**31 - 1, -(2**31)])
def test_every_value_of_the_argument_serves(unfoldable):
  assert compiled_key()(unfoldable).shape == [8]


def test_every_execution_of_one_optimised_graph_gives_another_key():
  read = compiled_key()
  assert distinct(read(0).numpy() for _ in range(50)) == 50


def test_two_keys_in_one_graph_differ():
  @tf.function(autograph=False, input_signature=[tf.TensorSpec([], tf.int32)])
  def two_clients(unfoldable):
    return tf.stack([entropy.operating_system_key(unfoldable) for _ in range(2)])

  keys = np.concatenate([two_clients(0).numpy() for _ in range(10)])
  assert distinct(keys) == 20


def nodes_after_aggressive_optimisation(build, operation: str) -> int:
  """Counts an operation in a graph after Grappler's passes at their most aggressive level."""
  with tf.Graph().as_default() as graph:
    result = build(tf.compat.v1.placeholder(tf.int32, []))
    graph.add_to_collection('train_op', result)  # what Grappler must keep
    meta_graph = tf.compat.v1.train.export_meta_graph(graph=graph)
  config = tf.compat.v1.ConfigProto()
  rewrites = config.graph_options.rewrite_options
  rewrites.min_graph_nodes = -1
  rewrites.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.TWO
  for name in ('constant_folding', 'function_optimization', 'common_subgraph_elimination'):
    setattr(rewrites, name, rewriter_config_pb2.RewriterConfig.AGGRESSIVE)
  optimised = tf_optimizer.OptimizeGraph(config, meta_graph)
  return sum(node.op == operation for node in optimised.node)


def test_aggressive_optimisation_leaves_every_read():
  """Four paths to one node; two keys in one graph are two nodes."""

  def two_keys(unfoldable):
    return tf.stack([entropy.operating_system_key(unfoldable) for _ in range(2)])

  for operation in ('TextLineDataset', 'DatasetToSingleElement'):
    assert nodes_after_aggressive_optimisation(entropy.operating_system_key, operation) == 1
    assert nodes_after_aggressive_optimisation(two_keys, operation) == 2


def test_of_the_test_aggressive_optimisation_merges_constant_reads():
  def faulty(_):
    return tf.stack([tf.io.read_file(UUID_PATH) for _ in range(2)])

  assert nodes_after_aggressive_optimisation(faulty, 'ReadFile') == 1


def test_all_256_bits_are_random():
  """Each bit is set in half the keys: z below 5 for 256 bits, false alarm rate 1.5e-4."""
  read = compiled_key()
  keys = np.stack([read(0).numpy() for _ in range(1000)])
  bits = np.unpackbits(keys.view(np.uint8), axis=1)
  z = (bits.mean(axis=0) - 0.5) * 2 * np.sqrt(len(bits))
  assert np.abs(z).max() < 5
  assert len(np.unique(keys)) > 7990  # 8000 words, 0.007 expected collisions


def test_words_are_the_first_and_last_eight_digits():
  texts = ['01234567-89ab-4cde-8f01-2345fedcba98', 'ffffffff-0000-4000-8000-000000000001']
  words = entropy._words(tf.constant(texts)).numpy().astype(np.uint32)
  assert [f'{word:08x}' for word in words] == ['01234567', 'fedcba98', 'ffffffff', '00000001']


def test_a_missing_file_is_an_error(monkeypatch, tmp_path):
  monkeypatch.setattr(entropy, '_DIRECTORY', f'{tmp_path}/')
  with pytest.raises(tf.errors.NotFoundError):
    compiled_key()(0)


@pytest.mark.parametrize('text', ['', 'short\n', 'f' * 100, ('f' * 36 + '\n') * 2])
def test_a_file_of_another_length_is_an_error(monkeypatch, tmp_path, text):
  monkeypatch.setattr(entropy, '_DIRECTORY', f'{tmp_path}/')
  (tmp_path / 'uuid').write_text(text)
  with pytest.raises(tf.errors.InvalidArgumentError):
    compiled_key()(0)


def test_a_file_that_never_changes_is_an_error(monkeypatch, tmp_path):
  monkeypatch.setattr(entropy, '_DIRECTORY', f'{tmp_path}/')
  (tmp_path / 'uuid').write_text('01234567-89ab-4cde-8f01-2345fedcba98\n')
  with pytest.raises(tf.errors.InvalidArgumentError, match='equal texts'):
    compiled_key()(0)


def test_a_constant_argument_is_refused():
  with pytest.raises(ConfigurationError, match='constant'):
    tf.function(lambda: entropy.operating_system_key(tf.constant(1)), autograph=False)()


def test_the_operations_are_registered_as_the_module_says():
  for operation in ('TextLineDataset', 'DatasetToSingleElement', 'Timestamp'):
    assert op_def_registry.get(operation).is_stateful
  assert not op_def_registry.get('ReadFile').is_stateful  # what is not used any more


def test_of_the_test_a_constant_path_is_folded_and_merged():
  """What the module guards against: one constant for every call, and for both reads."""

  @tf.function(autograph=False)
  def faulty():
    return tf.stack([tf.io.read_file(UUID_PATH) for _ in range(2)])

  assert len({text for _ in range(5) for text in faulty().numpy()}) == 1


def run_in_tff(client_work, clients: int, rounds: int) -> list:
  local = tff.tensorflow.computation(client_work, np.int32)

  @tff.federated_computation(
    tff.FederatedType(np.int32, tff.SERVER), tff.FederatedType(np.int32, tff.CLIENTS)
  )
  def one_round(broadcast, unused_values):
    return tff.federated_map(local, tff.federated_broadcast(broadcast))

  return [result for _ in range(rounds) for result in one_round(0, [0] * clients)]


def test_each_client_and_round_has_its_own_key_in_the_tff_worker(record_property, default_context):
  sampler = samplers.noise_sampler('discrete_gaussian', 3500**2)

  def client_work(broadcast):
    key = entropy.operating_system_key(broadcast)
    return key, sampler.sample(RandomStream(kind='chacha20', key=key), MODEL_NOISE, 300_000)

  tff.backends.test.set_sync_test_cpp_execution_context()
  results = run_in_tff(client_work, clients=6, rounds=4)
  # Whether TFF's compiler folds a constant path depends on its version: recorded only.
  faulty = run_in_tff(lambda _: tf.io.read_file(UUID_PATH), clients=2, rounds=2)
  record_property('distinct_keys_of_the_faulty_variant', len(set(faulty)))
  keys = [key for key, _ in results]
  assert len(keys) == 24
  assert distinct(keys) == 24
  for key, noise in results[:3]:  # the worker computes what eager mode does, ties included
    stream = RandomStream(kind='chacha20', key=tf.constant(key))
    np.testing.assert_array_equal(noise, sampler.sample(stream, MODEL_NOISE, 300_000))
