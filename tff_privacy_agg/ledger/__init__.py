"""The privacy ledger: an append-only file of what every round may have revealed.

From the bytes up: `line_format` (one sealed line, the schema), `line_reader` and `line_file` (reading
and appending), `costs` (what a round costs, to whom), `facts` (the header) with `claims` and
`stack_facts`, `recomputed` (what follows from them), `sampling_claims` and `participation` (who took
part), `replay` (what the lines add up to), `verification` (what they state, computed anew), `reader`,
`opening`, `writer` and `settlement`, and `card` (the statement that a ledger supports).
"""

from tff_privacy_agg.ledger.account import Spent
from tff_privacy_agg.ledger.facts import LedgerFacts
from tff_privacy_agg.ledger.line_format import schema
from tff_privacy_agg.ledger.reader import LedgerRecord, Verification, verify
from tff_privacy_agg.ledger.sampling_claims import Sampling
from tff_privacy_agg.ledger.writer import PrivacyLedger

__all__ = [
  'LedgerFacts',
  'LedgerRecord',
  'PrivacyLedger',
  'Sampling',
  'Spent',
  'Verification',
  'schema',
  'verify',
]
