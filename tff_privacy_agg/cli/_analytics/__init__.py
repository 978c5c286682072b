"""Parts of the command `analytics`: its question, the clients' rows, its answer and its ledger."""
