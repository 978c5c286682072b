"""The privacy statement next to the numbers: as text in TensorBoard, in an MLflow run."""

import math
import os
import textwrap
import time
from typing import Any

import numpy as np
import tensorflow as tf

from tff_privacy_agg._tff import compat
from tff_privacy_agg.errors import ConfigurationError, RuntimeUnavailableError
from tff_privacy_agg.learning.flat_metrics import flatten
from tff_privacy_agg.ledger import PrivacyLedger

_TAG = 'privacy/statement'


class StatementReleaseManager(compat.ReleaseManager):
  """A release manager that shows a ledger's statement in TensorBoard, as text.

  The statement after each round stands in the tab "Text" as `privacy/statement`. For the
  numbers take `tff.program.TensorBoardReleaseManager`, with another directory: TensorBoard
  follows one file of a directory. `train` keeps both in its run directory.

  Args:
    summary_dir: Directory of the event file, made if missing.
    ledger: The ledger of the training.
  """

  def __init__(self, summary_dir: str | os.PathLike[str], ledger: PrivacyLedger):
    self._writer = tf.summary.create_file_writer(os.fspath(summary_dir))
    self._ledger = ledger

  async def release(self, value: Any, key: int) -> None:
    """Writes the statement as it is now.

    Args:
      value: Not used: what is stated is the ledger's.
      key: Number of the round.
    """
    # The four blanks keep the lines apart in Markdown.
    text = textwrap.indent(self._ledger.statement(), '    ')
    with self._writer.as_default():
      tf.summary.text(_TAG, text, step=int(key))
    self._writer.flush()


class MLflowReleaseManager(compat.ReleaseManager):
  """A release manager that logs rounds, ledger and statement to an MLflow run.

  Each round's numbers become metrics at the step of the round; infinite ones stay
  infinite, as far as the tracking store can hold them. The ledger's file and its statement
  become the artifacts `privacy/ledger.jsonl` and `privacy/statement.txt`, replaced each
  round. The ledger's file names no client; the register of participants next to it is not sent.

  Needs `mlflow-skinny` below 3, which `make env-mlflow` installs from a lock. What later
  versions ask for, a newer typing_extensions, breaks TensorFlow 2.14.

  Args:
    run_id: The run, such as `mlflow.start_run().info.run_id`. A training that resumes
      goes on in its run if it is given the same.
    ledger: The ledger of the training; None logs the numbers only.
    tracking_uri: Where the run is; None takes MLflow's own setting.

  Raises:
    RuntimeUnavailableError: If MLflow is not installed.
    ConfigurationError: If there is no such run.
  """

  def __init__(
    self, run_id: str, *, ledger: PrivacyLedger | None = None, tracking_uri: str | None = None
  ):
    try:
      import mlflow
    except ImportError:
      raise RuntimeUnavailableError(
        'MLflow is not installed. Run `make env-mlflow` in a clone of the project, or '
        '`pip install --no-deps --require-hashes -r requirements/mlflow.txt`.'
      ) from None
    self._metric = mlflow.entities.Metric
    self._client = mlflow.MlflowClient(tracking_uri)
    try:
      self._client.get_run(run_id)
    except mlflow.exceptions.MlflowException as error:
      raise ConfigurationError(
        f'Cannot read the MLflow run {run_id!r}: {error} Start a run and pass its id.'
      ) from error
    self._run_id, self._ledger = run_id, ledger

  async def release(self, value: Any, key: int) -> None:
    """Logs a round.

    Args:
      value: Its metrics, nested or flat. What is neither a number nor a bool is left out,
        and so is NaN.
      key: Number of the round.
    """
    numbers = _numbers(await compat.materialize_value(value))
    now = int(1000 * time.time())
    metrics = [self._metric(name, number, now, int(key)) for name, number in numbers.items()]
    self._client.log_batch(self._run_id, metrics=metrics)
    if self._ledger is not None:
      self._client.log_text(self._run_id, self._ledger.statement(), f'{_TAG}.txt')
      self._client.log_artifact(self._run_id, os.fspath(self._ledger.path), 'privacy')


def _numbers(metrics: Any) -> dict[str, float]:
  """The scalars of nested metrics by their path."""
  found = {}
  for name, value in flatten(metrics).items():
    array = np.asarray(value)
    if array.shape == () and array.dtype.kind in 'biuf' and not math.isnan(array):
      found[name] = float(array)
  return found
