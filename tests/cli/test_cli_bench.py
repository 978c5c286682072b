"""The profile: one row for each layer, shares of one whole, for people and for machines."""

import json

import pytest
import tensorflow as tf

import tff_privacy_agg as tpa
from tff_privacy_agg import cli
from tff_privacy_agg.aggregation import profiling
from tff_privacy_agg.errors import ConfigurationError

pytestmark = pytest.mark.integration

LAYERS = [
  tpa.Mean(),
  tpa.Clipping(norm=1.0),
  tpa.Quantization(),
  tpa.DiscreteGaussianNoise(noise_multiplier=1.0),
  tpa.SecureModularSum(bits=20),
]
SMALL = [
  'bench',
  '--profile',
  '--values',
  '50',
  '--clients-per-round',
  '5',
  '--randomness',
  'philox',
]


@pytest.mark.parametrize('randomness', ['chacha20', 'philox'])
def test_each_layer_has_a_row_and_the_parts_are_one_whole(randomness):
  rows = profiling.profile(
    LAYERS, cohort=tpa.Cohort(expected=5), dim=100, randomness=randomness, repetitions=3
  )
  *parts, whole = rows
  assert [row.name for row in parts[1:]] == [layer.name for layer in LAYERS]
  assert sum(row.share for row in parts) == pytest.approx(1)
  assert all(row.nanoseconds > 0 for row in rows)
  assert whole.nanoseconds > max(row.nanoseconds for row in parts) / 10


def test_a_layer_that_works_longer_shows_it():
  class Slow(tpa.Mean):
    def encode(self, slot, params, value):
      for _ in range(80):
        value = tf.sort(-value)
      return value, {}

  rows = profiling.profile(
    [Slow(), *LAYERS[1:]], cohort=tpa.Cohort(expected=5), dim=20_000, repetitions=3
  )
  assert max(rows[:-1], key=lambda row: row.share).name == 'mean'


def test_the_command_prints_a_table_or_json(capsys):
  assert cli.main(SMALL) == 0
  text = capsys.readouterr().out
  assert text.startswith('50 values, philox; CPU time of one client\n')
  assert 'secure_modular_sum' in text
  assert cli.main([*SMALL, '--json']) == 0
  rows = json.loads(capsys.readouterr().out)
  assert set(rows[0]) == {'name', 'nanoseconds', 'share'}


def test_a_profile_of_no_values_is_refused():
  with pytest.raises(ConfigurationError, match='dim'):
    profiling.profile(LAYERS, cohort=tpa.Cohort(expected=5), dim=0)
