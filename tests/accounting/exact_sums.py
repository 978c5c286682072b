"""Exact laws of sums of discrete Gaussian shares on the line, and what tells two of them apart."""

import numpy as np
from scipy import signal


def share(variance):
  """Probabilities of one discrete Gaussian, on -r..r."""
  radius = int(np.ceil(9.5 * np.sqrt(variance))) + 2
  z = np.arange(-radius, radius + 1)
  weights = np.exp(-(z**2) / (2 * variance))
  return weights / weights.sum()


def sum_of_shares(variance, shares):
  """Probabilities of the sum of `shares` shares: no FFT, whose error `e^epsilon` would multiply."""
  power, total = share(variance), np.ones(1)
  while shares:
    if shares % 2:
      total = np.convolve(total, power)
    shares //= 2
    if shares:
      power = np.convolve(power, power)
  return total


def pair(variance, shares, shift):
  """The laws of the sum for neighbours that differ by `shift`, on one grid."""
  law = sum_of_shares(variance, shares)
  empty = np.zeros(shift)
  return np.concatenate([law, empty]), np.concatenate([empty, law])


def delta(p, q, epsilon):
  """The exact delta of two laws at `epsilon`, in the worse direction."""
  scale = np.exp(epsilon)
  return max(np.maximum(p - scale * q, 0).sum(), np.maximum(q - scale * p, 0).sum())


def composed_delta_at_least(p, q, rounds, epsilon, grid=2e-3):
  """A lower bound on delta of `rounds` independent rounds: losses are rounded down to a grid."""
  seen = (p > 1e-13) & (q > 1e-13)
  losses = np.floor(np.log(p[seen] / q[seen]) / grid).astype(int)
  mass = np.bincount(losses - losses.min(), weights=p[seen])
  total, power = np.ones(1), mass
  for bit in bin(rounds)[:1:-1]:
    if bit == '1':
      total = signal.fftconvolve(total, power)
    power = signal.fftconvolve(power, power)
  loss = grid * (np.arange(total.size) + rounds * losses.min())
  above = loss > epsilon
  return float((np.maximum(total[above], 0) * -np.expm1(epsilon - loss[above])).sum()) - 1e-13


def true_positive_rate(p, q, false_positive_rate):
  """The exact power of the best test of `q` against `p` at a false-positive rate."""
  order = np.argsort(-np.where(p > 0, q / np.maximum(p, 1e-300), np.inf))
  alarms, hits = np.cumsum(p[order]), np.cumsum(q[order])
  return float(np.interp(false_positive_rate, np.append(0, alarms), np.append(0, hits)))
