"""Noise that is correlated over rounds: the sensitivity of its integers and its coefficients."""
