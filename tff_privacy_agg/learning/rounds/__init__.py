"""Rounds of a training: who takes part, where they run, and what follows if one has no sum."""
