"""Every attack of the gallery works where it should, and fails against this package."""

import io

import numpy as np
import pytest
from matplotlib import image

from tff_privacy_agg.aggregation.layers import CentralDiscreteGaussianNoise, Clipping, PlainSum
from tff_privacy_agg.audit.attacks import GALLERY, rounds
from tff_privacy_agg.audit.pictures import png
from tff_privacy_agg.errors import ConfigurationError

pytestmark = pytest.mark.integration


@pytest.mark.parametrize('name', [name for name in GALLERY if name != 'mask_seed'])
def test_an_attack_succeeds_where_it_should_and_fails_here(name):
  found = GALLERY[name](1)
  assert found.name == name
  assert found.succeeded, found.unprotected
  assert found.defended, found.ours
  assert all(np.isfinite(value) for value in found.figures.values())
  assert all(picture.ndim == 2 for picture in found.pictures.values())


@pytest.mark.slow
def test_the_seed_of_a_mask_is_found():
  found = GALLERY['mask_seed'](1)
  assert found.succeeded
  assert found.defended


def test_the_inverted_pictures_fade_with_protection():
  figures = GALLERY['inversion'](2).figures
  assert figures['correlation_clear'] > 0.99
  assert figures['correlation_clipped'] > 0.99
  assert figures['correlation_sum_of_2'] > figures['correlation_sum_of_10'] - 0.1
  assert abs(figures['correlation_ours']) < 0.5


def test_pictures_are_png_files_that_others_read():
  gradient = np.linspace(-0.5, 1.5, 35).reshape(5, 7)
  read = image.imread(io.BytesIO(png(gradient)))
  np.testing.assert_allclose(read, np.clip(gradient, 0, 1), atol=0.5 / 255 + 1e-6)
  with pytest.raises(ConfigurationError, match='finite numbers'):
    png(np.full([2, 2], np.nan))


def test_an_attack_on_residues_needs_residues():
  stack = rounds.stack_of(
    [Clipping(norm=1.0), CentralDiscreteGaussianNoise(noise_multiplier=1.0), PlainSum()], 3, 2
  )
  with pytest.raises(ConfigurationError, match='SecureModularSum'):
    rounds.received(stack, [])
