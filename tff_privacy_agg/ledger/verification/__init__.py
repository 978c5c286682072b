"""Recomputation, for `verify`, of every number that the lines of a ledger state."""
