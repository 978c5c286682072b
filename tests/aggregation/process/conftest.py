import pytest


@pytest.fixture(autouse=True)
def _runs_in_simulation(simulation):
  """Every test here runs its computations."""
