"""What the audits of a run found, as its file and its ledger state it."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tff_privacy_agg.audit.canary_run import CanaryResult


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunAudit:
  """Results of the audits of a run.

  Attributes:
    claim: The ledger's epsilon at its delta, of the view that the audit tests.
    exceeded: Whether a lower bound is above the claim, at the stated confidence.
    found: All results by audit, as JSON values; what is in `audit.json`.
  """

  claim: float
  exceeded: bool
  found: Mapping[str, Any]


def ledger_note(
  found: Mapping[str, Any], shown: CanaryResult | None, audits: list[str]
) -> Mapping[str, Any]:
  """The note in the ledger: the numbers of the report's field, and the file's hash."""
  text = json.dumps(found, sort_keys=True, separators=(',', ':'))
  entry: dict[str, Any] = {
    'audits': audits,
    'exceeded': found['exceeded'],
    'claim': found['claim']['epsilon'],
    'confidence': found['confidence'],
    'results_sha256': hashlib.sha256(text.encode()).hexdigest(),
  }
  if shown is not None:
    entry |= {
      'method': 'random canary directions, one-shot and one-run',
      'canaries': shown.one_run.canaries,
      'lower_bound': shown.lower,
      'estimate': shown.all_iterates.epsilon,
      'estimate_final_model': shown.final_model.epsilon,
      'delta': shown.delta,
    }
  return plain(entry)


def plain(value: Any) -> Any:
  """JSON values; an infinite number is the word inf, as in the ledger."""
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    fields = dataclasses.fields(value)
    return {field.name: plain(getattr(value, field.name)) for field in fields}
  if isinstance(value, Mapping):
    return {str(key): plain(one) for key, one in value.items()}
  if isinstance(value, list | tuple):
    return [plain(one) for one in value]
  if isinstance(value, float | np.floating):
    return float(value) if math.isfinite(value) else 'inf'
  if isinstance(value, np.integer):
    return int(value)
  return bool(value) if isinstance(value, np.bool_) else value
