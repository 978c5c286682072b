"""What the rounds of a ledger cost: one round, in each view, and by the kinds of rounds."""
