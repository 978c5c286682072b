"""The search for a ring's degree: fast, and what floating point skips, exact numbers refuse."""

import pytest
from hypothesis import given, settings, strategies as st

from tff_privacy_agg.secagg import thresholds


@st.composite
def searches(draw):
  n = draw(st.integers(3, 400))
  bad = st.integers(0, n // 2 + 1)
  bits = st.sampled_from([1, 10, 40, 80])
  return n, draw(bad), draw(bad), draw(st.booleans()), draw(bits), draw(bits)


@settings(max_examples=60)
@given(searches(), st.data())
def test_no_degree_is_skipped_that_serves(search, data):
  k = data.draw(st.integers(1, (search[0] - 1) // 2)) * 2
  if thresholds._hopeless(*search, k):
    assert thresholds._thresholds(*search, k) is None


@pytest.mark.parametrize(
  ('n', 'colluding', 'dropouts'),
  [(10**5, 49_990, 30_000), (10**5, 49_990, 45_000), (10**9, 10**8, 33 * 10**7)],
)
def test_few_degrees_need_exact_numbers(monkeypatch, n, colluding, dropouts):
  exact, tried = thresholds._thresholds, []
  monkeypatch.setattr(thresholds, '_thresholds', lambda *args: tried.append(args) or exact(*args))
  options = {'authenticated': False, 'sigma': 40, 'eta': 30}
  thresholds.ring_parameters.__wrapped__(n, colluding, dropouts, **options)
  assert len(tried) <= 4  # of up to 1024


@pytest.mark.parametrize('n', [50, 113, 300])
@pytest.mark.parametrize('colluding', [0.05, 0.2, 0.4999])
@pytest.mark.parametrize('dropouts', [0.0, 0.1, 0.33])
def test_the_search_finds_the_smallest_degree_of_all(monkeypatch, n, colluding, dropouts):
  search = thresholds.ring_parameters.__wrapped__
  arguments = n, int(colluding * n), int(dropouts * n)
  options = {'authenticated': False, 'sigma': 40, 'eta': 30}
  found = search(*arguments, **options)
  monkeypatch.setattr(thresholds, '_hopeless', lambda *unused: False)
  assert search(*arguments, **options) == found
