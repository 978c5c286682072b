"""Rounds of the wrong size, and clients with broken values."""

import cases
import numpy as np
import pytest

import tff_privacy_agg as tpa

pytestmark = pytest.mark.integration

COHORT = tpa.Cohort(expected=5, maximum=6, minimum=4)
VALUE = np.array([0.5, 0.25, 0, 0], np.float32)


@pytest.mark.parametrize(
  ('clients', 'sentence'),
  [
    (7, 'The cohort admits at most 6 clients a round; 7 took part. Raise `Cohort.maximum`'),
    (0, 'A round needs at least one client; no client took part. Pass client data.'),
  ],
)
@pytest.mark.parametrize('private', [True, False])
def test_refuses_rounds_of_impossible_size(clients, sentence, private):
  stack = cases.noised(COHORT) if private else cases.exact(maximum=6)
  process = stack.create(cases.VECTOR)
  state = process.initialize()
  # TFF's worker wraps the failure of a round in gRPC's error.
  with pytest.raises(Exception, match=sentence):
    process.next(state, [VALUE] * clients)
  # The process is still of use.
  assert process.next(state, [VALUE] * 5).measurements['privacy']['accepted']


def test_round_with_too_few_survivors_changes_nothing_but_the_account():
  process = cases.noised(COHORT).create(cases.VECTOR)
  state = process.initialize()
  full, few = (process.next(state, [VALUE] * clients) for clients in (5, 3))
  np.testing.assert_array_equal(few.result, np.zeros(4))
  assert np.any(full.result)
  for layer, name in (('clipping', 'norm'), ('zeroing', 'estimate')):
    assert few.state[layer][name] == state[layer][name]
    assert full.state[layer][name] != state[layer][name]
  privacy, full_privacy = few.measurements['privacy'], full.measurements['privacy']
  assert (privacy['survivors'], privacy['honest'], privacy['accepted']) == (3, 3, False)
  assert full_privacy['accepted']
  # Three shares of noise hide less than five, and the sum was seen all the same.
  assert privacy['epsilon'] > full_privacy['epsilon'] > 0
  assert privacy['noise_multiplier'] < full_privacy['noise_multiplier']
  assert few.state['privacy']['rounds'] == 1
  assert np.all(few.state['privacy']['cost'][0] > full.state['privacy']['cost'][0])


def test_promised_noise_multiplier_is_that_of_the_smallest_accepted_round():
  process = cases.noised(COHORT, noise_multiplier=2.0).create(cases.VECTOR)
  privacy = process.next(process.initialize(), [VALUE] * 4).measurements['privacy']
  assert privacy['accepted']
  assert 2.0 <= privacy['noise_multiplier'] < 2.01


def test_colluding_clients_do_not_count_as_survivors():
  cohort = tpa.Cohort(expected=6, minimum=3, colluding_fraction=0.5)
  process = cases.noised(cohort).create(cases.VECTOR)
  found = []
  for clients in (5, 4):
    privacy = process.next(process.initialize(), [VALUE] * clients).measurements['privacy']
    found.append((privacy['survivors'], privacy['honest'], privacy['accepted']))
  # Of five survivors two are taken to collude, of four as well.
  assert found == [(5, 3, True), (4, 2, False)]


BROKEN = {
  'NaN': np.array([np.nan, 1, 1, 1], np.float32),
  'infinity': np.array([1, np.inf, 1, 1], np.float32),
  'minus infinity': np.array([1, 1, -np.inf, 1], np.float32),
  'all NaN': np.full([4], np.nan, np.float32),
}
STACKS = {
  'modular': [tpa.Clipping(norm=100.0), tpa.Quantization(), tpa.SecureModularSum(bits=44)],
  'zeroing': [
    tpa.Zeroing(threshold=tpa.AdaptiveQuantile(initial=10.0, target=0.98)),
    tpa.Clipping(norm=100.0),
    tpa.HadamardRotation(),
    tpa.Quantization(),
    tpa.SecureModularSum(bits=44),
  ],
  'plain': [tpa.PlainSum()],
  'plain, clipped': [tpa.Clipping(norm=100.0), tpa.PlainSum()],
}


@pytest.mark.parametrize('name', STACKS)
def test_broken_values_count_as_zeros(name):
  cohort = tpa.Cohort(expected=3, minimum=1)
  process = tpa.compose(STACKS[name], cohort=cohort).create(cases.VECTOR)
  healthy = [VALUE, 2 * VALUE]
  for case, value in BROKEN.items():
    output = process.next(process.initialize(), [healthy[0], value, healthy[1]])
    np.testing.assert_allclose(output.result, sum(healthy), atol=1e-5, err_msg=case)
    assert output.measurements['privacy']['survivors'] == 3


def test_broken_values_do_not_break_a_private_round():
  process = cases.noised(COHORT, noise_multiplier=0.1).create(cases.VECTOR)
  overflowing = np.full([4], 3e38, np.float32)
  output = process.next(process.initialize(), [*BROKEN.values(), overflowing])
  assert np.all(np.isfinite(output.result))
  # All of them are above every threshold; the bits' noise is over half a client.
  assert output.measurements['zeroing']['above'] > 0.5
