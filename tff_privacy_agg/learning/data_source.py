"""The clients of each round as a TFF program's data source, charged as they are drawn."""

import copy
import functools
import hashlib
import json
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tff_privacy_agg._tff import compat
from tff_privacy_agg._tff.error_hints import last_line
from tff_privacy_agg._wording import counted
from tff_privacy_agg.errors import ConfigurationError, PrivacyAggError
from tff_privacy_agg.learning.preparation.checks import (
  check_cohorts,
  check_element,
  check_process,
  check_size,
)
from tff_privacy_agg.learning.preparation.session_limits import check_limits, running_limits
from tff_privacy_agg.learning.private_process import check_facts
from tff_privacy_agg.learning.rounds.cohorts import Cohorts
from tff_privacy_agg.ledger import PrivacyLedger

# Making a client's dataset costs milliseconds, keeping it a few kilobytes.
_DATASETS_KEPT = 4096
_sources: weakref.WeakValueDictionary[str, 'CohortDataSource'] = weakref.WeakValueDictionary()


class CohortDataSource(compat.FederatedDataSource):
  """Datasets of the clients that a sampler of cohorts chooses.

  For `tpa.train`, and for `tff.learning.programs.train_model`. With a ledger, a round is
  charged, with its cohort, when its clients are selected: before it runs. A selection that
  is made again (a discarded round, a restart) is charged again.

  Args:
    data: The clients' examples.
    cohorts: Who takes part in which round.
    preprocess: From a client's examples to its batches; None takes them as they are.
    ledger: Record of the training; None keeps none.
    process: The learning process that trains on them. Data, cohorts, stack and runtime are then
      compared with it at once, and every client's batches before its round is charged.

  Raises:
    ConfigurationError: If the data are no clients, `preprocess` fails, or something does not fit
      the process or the ledger.
    RuntimeUnavailableError: If the process cannot run in the current TFF context.
  """

  def __init__(
    self,
    data: tff.simulation.datasets.ClientData,
    cohorts: Cohorts,
    *,
    preprocess: Callable[[tf.data.Dataset], tf.data.Dataset] | None = None,
    ledger: PrivacyLedger | None = None,
    process: Any = None,
  ):
    _check_arguments(data, cohorts, preprocess)
    self._stacks = [] if process is None else check_process(process)
    self.cohorts = cohorts
    self.ledger = ledger
    self._process = process
    self._clients = data.client_ids

    @functools.lru_cache(maxsize=_DATASETS_KEPT)
    def dataset(client: str) -> tf.data.Dataset:
      examples = data.create_tf_dataset_for_client(client)
      batches = examples if preprocess is None else _preprocessed(preprocess, examples)
      if process is not None:
        check_element(process, compat.tensorflow_to_type(batches.element_spec))
      return batches

    self.dataset = dataset
    self.key = hashlib.sha256(repr(cohorts).encode()).hexdigest()
    _sources[self.key] = self
    element = compat.tensorflow_to_type(dataset(data.client_ids[0]).element_spec)
    self._type = compat.FederatedType(compat.SequenceType(element), compat.CLIENTS)
    self.check(rounds=None)

  def check(self, *, rounds: int | None) -> None:
    """Refuses cohorts that data, process or ledger cannot have, before anything is charged.

    Args:
      rounds: Rounds in all; None if that is not known.

    Raises:
      ConfigurationError: If they do not fit.
      LedgerError: If the ledger records another process.
    """
    facts = getattr(self._process, 'facts', None)
    if self.ledger is not None:
      if facts is not None:
        check_facts(facts, self.ledger.facts)
      facts = self.ledger.facts
    check_cohorts(
      self.cohorts,
      clients=self._clients,
      stacks=self._stacks,
      facts=facts,
      rounds=rounds,
    )

  @property
  def federated_type(self) -> Any:
    """Type of a cohort's datasets."""
    return self._type

  def iterator(self) -> 'CohortIterator':
    """An iterator that begins with round 1."""
    return CohortIterator(self, 0)


def _check_arguments(data: Any, cohorts: Any, preprocess: Any) -> None:
  if not hasattr(data, 'create_tf_dataset_for_client') or not hasattr(data, 'client_ids'):
    raise ConfigurationError(
      f'`data` must be a `tff.simulation.datasets.ClientData`, got a {type(data).__name__}. Make one '
      'with `tff.simulation.datasets.TestClientData({client: arrays})`.'
    )
  if not len(data.client_ids):
    raise ConfigurationError('`data` has no clients. Pass data of at least one.')
  if not all(hasattr(cohorts, name) for name in ('client_ids', 'cohort', 'sampling')):
    raise ConfigurationError(
      f'`cohorts` must be a sampler of cohorts, got a {type(cohorts).__name__}. Pass '
      '`tpa.UniformCohorts(client_ids=data.client_ids, size=...)`.'
    )
  if preprocess is not None and not callable(preprocess):
    raise ConfigurationError(
      f'`preprocess` must be a function of a dataset, got a {type(preprocess).__name__}. Pass '
      'such as `lambda dataset: dataset.batch(10)`.'
    )


def _preprocessed(preprocess: Callable[[Any], Any], examples: tf.data.Dataset) -> tf.data.Dataset:
  try:
    batches = preprocess(examples)
  except PrivacyAggError:
    raise
  except Exception as error:
    raise ConfigurationError(
      f'`preprocess` fails on a client whose examples are {examples.element_spec}: '
      f'{last_line(error)} Fix the function.'
    ) from error
  if not isinstance(batches, tf.data.Dataset):
    raise ConfigurationError(
      f'`preprocess` must return a `tf.data.Dataset`, got a {type(batches).__name__}. Return the '
      'batches of the client.'
    )
  return batches


class CohortIterator(compat.FederatedDataSourceIterator):
  """Selects one cohort after the other.

  Args:
    source: The data source.
    round_number: Rounds that were selected before.
  """

  def __init__(self, source: CohortDataSource, round_number: int):
    self._source = source
    self.round_number = round_number
    self.cohort: Sequence[str] = ()

  def select(self, k: int | None = None) -> list[tf.data.Dataset]:
    """Datasets of the next round's cohort; charges the round.

    Args:
      k: Clients that are expected; None takes the cohort as it comes.

    Raises:
      ConfigurationError: If the sampler chooses another number of clients than `k`, or the
        ledger counts on what the secure sums of the current context do not keep.
      BudgetExceededError: If the ledger's budget does not admit the round.
      LedgerError: If the cohort breaks what the ledger claims of it.
    """
    round_number = self.round_number + 1
    cohorts, ledger = self._source.cohorts, self._source.ledger
    eligible = None if ledger is None else ledger.eligible(cohorts.client_ids)
    cohort = cohorts.cohort(round_number, eligible)
    if k is not None and k != len(cohort):
      raise ConfigurationError(
        f'The round needs {counted(k, "client")}; the cohort sampler chose {len(cohort)}. Give '
        'both the same size.'
      )
    datasets = [self._source.dataset(client) for client in cohort]
    if ledger is not None:
      check_size(len(cohort), ledger.facts, round_number)
      check_limits(ledger.facts, running_limits(len(cohort)))
      ledger.charge(
        round_number, planned_survivors=len(cohort), cohort=cohort, drawn=cohorts.sampling
      )
    self.round_number, self.cohort = round_number, cohort
    return datasets

  @property
  def federated_type(self) -> Any:
    """Type of a cohort's datasets."""
    return self._source.federated_type

  def to_bytes(self) -> bytes:
    """The rounds selected so far, and which sampler selected them."""
    return json.dumps({'source': self._source.key, 'round': self.round_number}).encode()

  @classmethod
  def from_bytes(cls, buffer: bytes) -> 'CohortIterator':
    """Inverse of `to_bytes`, in a program that has made the data source again.

    Raises:
      ConfigurationError: If there is no such data source.
    """
    found = json.loads(buffer)
    source = _sources.get(found['source'])
    if source is None:
      raise ConfigurationError(
        'A program resumes with the sampler of cohorts that it began with; the one of this '
        'checkpoint is not there. Make the `CohortDataSource` with the same sampler first.'
      )
    return cls(source, found['round'])

  def __deepcopy__(self, memo: Any) -> 'CohortIterator':
    # TFF copies iterators to repeat a round; data and ledger stay one.
    copied = copy.copy(self)
    memo[id(self)] = copied
    return copied

  def __eq__(self, other: object) -> bool:
    if not isinstance(other, CohortIterator):
      return NotImplemented
    return self.to_bytes() == other.to_bytes()

  def __hash__(self) -> int:
    return hash(self.to_bytes())
