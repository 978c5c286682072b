"""What the noise does to a round, and what noise that is correlated leaves of it in the model."""

import math

import numpy as np

from tff_privacy_agg.accounting import BandedToeplitz, IntegerDesign
from tff_privacy_agg.accounting.correlated.column import ONE
from tff_privacy_agg.ledger import LedgerRecord
from tff_privacy_agg.ledger.costs.rounds import strategy_of
from tff_privacy_agg.reports.charts import Line, chart
from tff_privacy_agg.reports.markup import Html
from tff_privacy_agg.reports.run_files import RunFiles, Total

# Below, it makes no difference that noise is correlated.
_SOME_GAIN = 1.05


def charts(run: RunFiles, ledger: LedgerRecord) -> tuple[list[Html], list[str]]:
  """Charts of noise, signal and wrap-around of a ledger with an integer design; what is to be said."""
  stack = ledger.facts.stack
  design, strategy = IntegerDesign(**stack['integer_design']), strategy_of(stack)
  rotated = any('Rotation(' in name for name in stack['layers'])
  settled = [one for one in run.totals if one.survivors]
  variances = _variances(design, strategy, run.totals)
  figures = [
    chart(
      'chart-noise',
      'Noise in one coordinate of the mean update (standard deviation)',
      [Line(name='noise', points=_of_means(run, design, settled, variances))],
      x='round',
    ),
    chart(
      'chart-signal',
      'Signal-to-noise of the sum, every update at full length',
      [
        Line(name='all in one direction', points=_signal(design, settled, variances, 1.0)),
        Line(name='all at right angles', points=_signal(design, settled, variances, 0.5), style=1),
      ],
      x='settled rounds',
    ),
    chart(
      'chart-wrap',
      'Wrap-around: coordinates expected to wrap, at most',
      [
        Line(
          name='wrapped',
          points=[
            (float(one.number), wrapped(design, clients=one.survivors or 1, rotated=rotated))
            for one in settled
          ],
        )
      ],
      x='settled rounds',
    ),
  ]
  spread = 'spread evenly by the rotation' if rotated else 'all in one coordinate'
  remarks = [
    'Signal and wrap-around are computed from the integer design and the number of survivors, not '
    'measured: the sums are not kept. The wrap-around assumes the longest sum that clipping admits, '
    f'all clients in one direction, {spread}; formula as in arXiv:2102.06387. Real updates agree '
    'less, so less of it wraps.'
  ]
  if strategy is not None and run.totals:
    figure, remark = _accumulated(design, strategy, run.totals)
    figures.append(figure)
    remarks.append(remark)
  return figures, remarks


def wrapped(design: IntegerDesign, *, clients: int, rotated: bool) -> float:
  """Coordinates of the longest sum of so many clients that are expected to leave the modulus."""
  length = (clients * design.scaled_norm) ** 2
  noise = clients * 0.25 + design.noise_variance(clients)
  if rotated:
    deviation = math.sqrt(length / design.dimension + noise)
    return design.dimension * math.erfc(design.modulus / (2 * math.sqrt(2) * deviation))
  rest = math.erfc(design.modulus / (2 * math.sqrt(2 * noise)))
  room = max(design.modulus / 2 - math.sqrt(length), 0.0)
  return math.erfc(room / math.sqrt(2 * noise)) + (design.dimension - 1) * rest


def _accumulated(
  design: IntegerDesign, strategy: BandedToeplitz, totals: tuple[Total, ...]
) -> tuple[Html, str]:
  """Noise in the sums of all rounds so far, next to independent noise of the same epsilon."""
  added = np.cumsum(strategy.column.inverse(len(totals))) ** 2
  since_restart = [since for since, _ in _since_restart(totals)]
  correlated = design.local_variance * np.cumsum(added[since_restart])
  norm = strategy.column.squared_steps / ONE**2
  independent = design.local_variance / norm * np.arange(1, len(totals) + 1)
  figure = chart(
    'chart-accumulated',
    'Noise in one coordinate of the sum of all rounds (standard deviation, clip norms)',
    [
      Line(name=name, points=_deviations(design, variances), style=style)
      for style, (name, variances) in enumerate(
        {'correlated': correlated, 'independent, same epsilon': independent}.items()
      )
    ],
    x='charged rounds',
  )
  gain = math.sqrt(independent[-1] / correlated[-1])
  said = (
    f'A model that adds up the rounds has {gain:.1f} times less noise than independent noise of the same '
    'epsilon would have left.'
    if gain >= _SOME_GAIN
    else 'Independent noise of the same epsilon would have left as little in the model, and its server '
    'keeps no secret from round to round: use it for a training like this one.'
  )
  restarts = sum(one.restarted for one in totals)
  lost = f' Restarts of the noise: {restarts}; what was added before one is not taken back.'
  return figure, (
    f'{said}{lost if restarts else ""} Both are computed from the strategy, for a clip norm that stays '
    'and a server that adds up the means as they are.'
  )


def _deviations(design: IntegerDesign, variances: np.ndarray) -> list[tuple[float, float]]:
  return [
    (float(number), math.sqrt(variance) / design.scaled_norm)
    for number, variance in enumerate(variances, start=1)
  ]


def _since_restart(totals: tuple[Total, ...]) -> list[tuple[int, Total]]:
  """Each charged round, with how many before it share noise with it."""
  found, since = [], 0
  for one in totals:
    since = 0 if one.restarted else since
    found.append((since, one))
    since += 1
  return found


def _variances(
  design: IntegerDesign, strategy: BandedToeplitz | None, totals: tuple[Total, ...]
) -> dict[int, float]:
  """Variance of the noise in a coordinate of each settled round's sum, by the round's charge."""
  if strategy is None:
    return {one.number: design.noise_variance(one.survivors) for one in totals if one.survivors}
  squares = np.cumsum(strategy.column.inverse(len(totals)) ** 2)
  return {
    one.number: design.local_variance * float(squares[since])
    for since, one in _since_restart(totals)
    if one.survivors
  }


def _of_means(
  run: RunFiles, design: IntegerDesign, settled: list[Total], variances: dict[int, float]
) -> list[tuple[float, float]]:
  deviations = {
    one.round_number: math.sqrt(variances[one.number]) / one.survivors
    for one in settled
    if one.survivors
  }
  return [
    (x, clip / design.scaled_norm * deviations[int(x)])
    for x, clip in run.column('clipping/norm')
    if int(x) in deviations
  ]


def _signal(
  design: IntegerDesign, settled: list[Total], variances: dict[int, float], power: float
) -> list[tuple[float, float]]:
  """L2 norm of the sum over that of its noise: n K if all agree, sqrt(n) K if orthogonal."""
  points = []
  for one in settled:
    clients = one.survivors or 0
    noise = math.sqrt(design.dimension * (variances[one.number] + 0.25 * clients))
    points.append((float(one.number), clients**power * design.scaled_norm / noise))
  return points
