"""Arguments that no number can be computed from are refused with their names."""

import math

import pytest

from tff_privacy_agg import accounting
from tff_privacy_agg.errors import ConfigurationError

PRICE = accounting.RoundPrice(mechanism='gaussian', minimum=1, maximum=2, central_multiplier=1.0)


@pytest.mark.parametrize(
  ('call', 'name'),
  [
    (lambda: accounting.epsilon(3, 1e-5), 'curve'),
    (lambda: accounting.delta(3, 1.0), 'curve'),
    (lambda: accounting.epsilon(accounting.gaussian(1.0), 1e-5, orders=[]), 'orders'),
    (lambda: accounting.epsilon_at_orders([1.0], [2.0], 2.0, 0.0), 'delta'),
    (lambda: accounting.epsilon_at_orders([1.0], [2.0], 1e-5, -1.0), 'distance'),
    (lambda: accounting.poisson_epsilon([], 0.1, 1e-5), 'rounds'),
    (lambda: accounting.fixed_rounds_epsilon(PRICE, {}, 0.1, 1e-5, 0.0), 'rounds'),
    (lambda: accounting.fixed_rounds_epsilon(PRICE, {1: -3}, 0.1, 1e-5, 0.0), 'rounds'),
    (lambda: accounting.default_channel_stddev(1.0, 10, 0), 'minimum_honest'),
    (lambda: accounting.channel_resolution(64, -1.0, 10), 'stddev'),
    (lambda: accounting.central_channel_resolution(64, 0.0), 'stddev'),
    (lambda: accounting.channel_share_variance(64, 1.0, 0), 'expected'),
    (lambda: accounting.xnoise_remaining_variance([1.0], sampled=-1, dropouts=0), 'sampled'),
    (
      lambda: accounting.fits_modulus(
        1.0, 1.0, clients=-1, bits=8, dimension=1, modclip_prob=0.1, rho=1.0
      ),
      'clients',
    ),
  ],
)
def test_the_argument_is_named(call, name):
  with pytest.raises(ConfigurationError, match=f'`{name}` must'):
    call()


@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_coefficients_are_numbers(bad):
  with pytest.raises(ConfigurationError, match='must be finite'):
    accounting.BandedColumn.from_floats([1.0, bad])
