"""What a cluster's worker is asked to do, in a module that imports nothing.

Dask's scheduler imports the module of each function that it hands on. With this one it needs
neither TensorFlow, nor its memory, nor the seconds that its import takes.
"""

from typing import Any


def run_part(*part: Any) -> Any:
  """Runs `pool_worker.run_part`."""
  from tff_privacy_agg.runtime import pool_worker

  return pool_worker.run_part(*part)
