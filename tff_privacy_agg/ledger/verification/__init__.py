"""What `verify` computes anew: every number that the lines of a ledger state."""
