"""The split of the digits is what its docstring says."""

import numpy as np
import pytest

from tff_privacy_agg import errors
from tff_privacy_agg.learning import data


def _examples(client_data, client):
  dataset = client_data.create_tf_dataset_for_client(client)
  return list(dataset.as_numpy_iterator())


def test_every_client_has_the_same_number_and_no_example_is_used_twice():
  split = data.load_digits(100, seed=3)
  seen = []
  for client in split.train.client_ids:
    examples = _examples(split.train, client)
    assert len(examples) == 14
    seen += [example['x'].tobytes() for example in examples]
  seen += [row.tobytes() for row in split.test_x]
  assert len(split.test_y) == 359
  # The 1,797 pictures are all different, so a repeat would be an example used twice.
  assert len(set(seen)) == len(seen) == 1400 + 359


def test_split_depends_on_the_seed_only():
  first, again, other = (data.load_digits(50, seed=seed) for seed in (1, 1, 2))
  np.testing.assert_array_equal(first.test_x, again.test_x)
  client = first.train.client_ids[7]
  for a, b in zip(_examples(first.train, client), _examples(again.train, client), strict=True):
    np.testing.assert_array_equal(a['x'], b['x'])
  assert not np.array_equal(first.test_y, other.test_y)


def test_labels_are_skewed_as_the_concentration_says():
  def mean_labels(concentration):
    split = data.load_digits(100, concentration=concentration, seed=0)
    counts = [
      len({int(example['y']) for example in _examples(split.train, client)})
      for client in split.train.client_ids
    ]
    return np.mean(counts)

  skewed, even = mean_labels(0.1), mean_labels(100.0)
  assert skewed < 4.5 < 7 < even


def test_pixels_and_labels_are_in_range():
  split = data.load_digits(20)
  assert split.test_x.dtype == np.float32
  assert split.test_x.min() == 0.0
  assert split.test_x.max() == 1.0
  assert set(split.test_y) == set(range(10))


@pytest.mark.parametrize('clients', [0, 1439, 2.5, True])
def test_impossible_splits_are_refused(clients):
  with pytest.raises(errors.ConfigurationError, match='`num_clients` must be'):
    data.load_digits(clients)
