"""Views of the parties: a picture, and the adversaries in words."""

import math
import textwrap

from tff_privacy_agg.reports import drawing
from tff_privacy_agg.reports.markup import Html, element, epsilon_of, joined, section, table
from tff_privacy_agg.reports.run_files import RunFiles

_BOX, _GAP, _HEIGHT, _LINE = 196, 34, 192, 16


def parties(run: RunFiles) -> Html:
  """The picture and the table of adversaries."""
  boxes = _boxes(run)
  parts: list[Html] = []
  for number, (head, sentences) in enumerate(boxes):
    left = number * (_BOX + _GAP) + 2
    parts.append(element('rect', class_='box', x=left, y=2, width=_BOX, height=_HEIGHT - 4, rx=8))
    parts.append(element('text', head, class_='head', x=left + 12, y=26))
    y = 50
    for sentence in sentences:
      for line in textwrap.wrap(sentence, 27):
        parts.append(element('text', line, x=left + 12, y=y))
        y += _LINE
      y += 6
    if number:
      tip = left - 3
      parts.append(element('path', d=f'M{left - _GAP + 3},96H{tip - 8}', class_='arrow'))
      parts.append(element('path', d=f'M{tip},96l-9,-5v10z', class_='tip'))
  width = len(boxes) * (_BOX + _GAP) - _GAP + 4
  said = '; '.join(f'{head}: {" ".join(sentences)}' for head, sentences in boxes)
  picture = drawing.svg(said, parts, width, _HEIGHT)
  return section(
    'parties',
    'Who sees what',
    element('figure', picture, id='picture-parties'),
    _where(run),
    _adversaries(run),
  )


def _boxes(run: RunFiles) -> list[tuple[str, list[str]]]:
  if run.ledger is None:
    return [
      ('Client', ['its examples', 'its update, without noise']),
      ('Server', ['who takes part, and when', 'nothing bounds what the updates tell of a client']),
      ('Readers of the model', ['the model', 'epsilon is infinite']),
    ]
  price = run.ledger.facts.price
  shares = price.distributed
  server = ['who takes part, when, and who drops out', 'the model of every round']
  if price.holds_against_server:
    server.insert(0, 'one sum a round, noise of all clients in it')
  elif shares:
    server.insert(0, 'more than a sum: the stack promises nothing against it')
  else:
    server.insert(0, 'sums before it adds the noise: nothing is promised against it')
  return [
    (
      'Client',
      [
        'its examples: they stay there',
        'its update, clipped and rounded' if price.vectors else 'its update, clipped',
        'its share of the noise, which nobody else knows' if shares else 'adds no noise',
      ],
    ),
    (
      'Secure sum' if price.holds_against_server else 'Sum',
      ['adds the vectors of a cohort', *_named(_fewest(run))],
    ),
    ('Server', [*server, f'epsilon {_shown(run, "server")}']),
    (
      'Readers of the model',
      ['models and metrics that are released', f'epsilon {_shown(run, "release")}'],
    ),
  ]


def _fewest(run: RunFiles) -> int | None:
  """The least threshold of any round; None if some have none."""
  kinds = [] if run.ledger is None else run.ledger.state.kinds.values()
  thresholds = [one.facts.minimum_clients for one in kinds]
  return min((one for one in thresholds if one), default=None) if all(thresholds) else None


def _named(threshold: int | None) -> list[str]:
  if threshold is None:
    return ['no threshold was stated: each open round counts one honest survivor']
  return [f'shows no sum of fewer than {threshold}, as the runtime is trusted to hold']


def _shown(run: RunFiles, view: str) -> str:
  ledger = run.ledger
  value = math.inf if ledger is None else ledger.epsilon(view)
  return 'infinite' if math.isinf(value) else f'at most {math.ceil(value * 100) / 100:.2f}'


def _where(run: RunFiles) -> Html:
  """Whether the sums were secret at all when this training ran."""
  if 'clients_per_round' in run.config:
    text = (
      'This run was a simulation by the train command: one machine played all parties and saw '
      'everything. The picture shows who would see what with the same stack between real parties.'
    )
  else:
    text = (
      'The files of this run do not say in which runtime its sums were computed. The picture '
      'shows who sees what if that runtime opens nothing but sums.'
    )
  return element('p', text, class_='warning')


def _adversaries(run: RunFiles) -> Html:
  if run.ledger is None:
    return element('p', 'Without noise nothing is promised against anybody.')
  facts = run.ledger.facts
  spent = {view: run.ledger.epsilon(view) for view in ('server', 'release')}
  colluding = facts.colluding_fraction
  hidden = facts.price.holds_against_server
  return table(
    ['Adversary', 'what holds', 'what it rests on'],
    [
      (
        'Reader of releases',
        joined(['epsilon', epsilon_of('parties-release', spent['release'])]),
        'nothing else is published',
      ),
      (
        'Honest-but-curious server',
        joined(['epsilon', epsilon_of('parties-server', spent['server'])]),
        'noise drawn by the clients, and a runtime that opens only sums'
        if hidden
        else 'nothing: it sees what has no noise yet',
      ),
      (
        'The same, with colluding clients',
        f'the same epsilon, if at most {colluding:.0%} of the survivors collude'
        if hidden
        else 'nothing',
        'the honest survivors alone are counted',
      ),
      (
        'Malicious server',
        'no epsilon is claimed',
        'inputs stay hidden in sums in the authenticated mode of the protocol only',
      ),
      (
        'Malicious client',
        "the others' privacy",
        'it counts as a colluder; it can spoil the model',
      ),
    ],
  )
