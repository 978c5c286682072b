"""ChaCha20 against the vectors of RFC 8439 and the key stream of OpenSSL."""

import struct

import numpy as np
import pytest
import tensorflow as tf
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from hypothesis import given, settings, strategies as st

from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.numerics import chacha

RFC_KEY = bytes(range(32))


def key_tensor(key: bytes) -> tf.Tensor:
  return tf.constant(np.frombuffer(key, '<i4'))


def openssl_words(key: bytes, nonce, count: int, first_block: int = 0) -> np.ndarray:
  counter_and_nonce = struct.pack('<4I', first_block, *nonce)
  encryptor = Cipher(algorithms.ChaCha20(key, counter_and_nonce), mode=None).encryptor()
  return np.frombuffer(encryptor.update(bytes(4 * count)), '<i4')


def test_block_vector_of_rfc_8439_section_2_3_2():
  words = chacha.chacha20_words(key_tensor(RFC_KEY), (0x09000000, 0x4A000000, 0), 16, first_block=1)
  expected = """
      e4e7f110 15593bd1 1fdd0f50 c47120a3 c7f4d1c7 0368c033 9aaa2204 4e6cd4c3
      466482d2 09aa9f07 05d7c214 a2028bd9 d19c12b5 b94e16de e883d0cb 4e3c50a2"""
  assert [f'{w:08x}' for w in words.numpy().astype(np.uint32)] == expected.split()


def test_encryption_vector_of_rfc_8439_section_2_4_2():
  text = (
    b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the "
    b'future, sunscreen would be it.'
  )
  words = chacha.chacha20_words(key_tensor(RFC_KEY), (0, 0x4A000000, 0), 29, first_block=1)
  stream = words.numpy().astype('<i4').tobytes()
  cipher = bytes(a ^ b for a, b in zip(text, stream, strict=False))
  assert cipher.hex() == (
    '6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0b'
    'f91b65c5524733ab8f593dabcd62b3571639d624e65152ab8f530c359f0861d8'
    '07ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab7793736'
    '5af90bbf74a35be6b40b8eedf2785e42874d'
  )


@settings(max_examples=20, deadline=None)
@given(
  key=st.binary(min_size=32, max_size=32),
  nonce=st.tuples(*[st.integers(0, 2**32 - 1)] * 3),
  count=st.integers(0, 100),
  first_block=st.integers(0, 2**31 - 1),
)
def test_words_are_those_of_openssl(key, nonce, count, first_block):
  words = chacha.chacha20_words(key_tensor(key), nonce, count, first_block)
  np.testing.assert_array_equal(words, openssl_words(key, nonce, count, first_block))


@pytest.mark.parametrize('count', [0, 1, 16, 17, 2**16, 2**16 + 1, 600_001])
@pytest.mark.parametrize('dynamic', [False, True])
def test_chunks_and_dynamic_counts_in_a_graph(count, dynamic):
  nonce = (7, 1, 2**32 - 1)

  @tf.function(
    autograph=False, input_signature=[tf.TensorSpec([8], tf.int32), tf.TensorSpec([], tf.int32)]
  )
  def words(key, dynamic_count):
    return chacha.chacha20_words(key, nonce, dynamic_count if dynamic else count, first_block=3)

  result = words(key_tensor(RFC_KEY), count)
  assert result.dtype == tf.int32
  np.testing.assert_array_equal(result, openssl_words(RFC_KEY, nonce, count, 3))
  if not dynamic:
    assert words.get_concrete_function().structured_outputs.shape == [count]


def test_the_graph_stays_small():
  @tf.function(autograph=False, input_signature=[tf.TensorSpec([8], tf.int32)])
  def words(key):
    return chacha.chacha20_words(key, (0, 0, 0), 10_000_000)

  graph_def = words.get_concrete_function().graph.as_graph_def()
  nodes = len(graph_def.node) + sum(len(f.node_def) for f in graph_def.library.function)
  assert nodes < 300


@pytest.mark.parametrize(
  'arguments',
  [
    {'nonce': (0, 0)},
    {'nonce': (0, 0, 2**32)},
    {'count': -1},
    {'first_block': -1},
    {'first_block': 2**31},
  ],
)
def test_refuses_arguments_outside_their_range(arguments):
  arguments = {'nonce': (0, 0, 0), 'count': 1, **arguments}
  with pytest.raises(ConfigurationError):
    chacha.chacha20_words(key_tensor(RFC_KEY), **arguments)
