"""The privacy ledger: an append-only file of what every round may have revealed.

From the bytes up: `lines` (one sealed line, the schema), `file` (appending and reopening),
`costs` and `views` (what a round costs, to whom), `facts` (the header), `sampling_claims` and
`participants` (who took part), `state` (what the lines add up to), `record` (reading),
`privacy_ledger` (writing).
"""

from tff_privacy_agg.accounting.ledger.privacy_ledger import PrivacyLedger as PrivacyLedger
