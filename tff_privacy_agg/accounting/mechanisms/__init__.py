"""Curves of the noise distributions: what one round of each mechanism proves."""
