"""The privacy card in one paragraph, for readers who know no differential privacy."""

import math

from tff_privacy_agg._wording import counted
from tff_privacy_agg.ledger.account import LedgerAccount
from tff_privacy_agg.ledger.card import risk

_RATE = 0.01


def summary(record: LedgerAccount) -> str:
  """What is promised in plain words: no symbols, and each limit with its condition."""
  rounds, unit = record.state.rounds, record.facts.unit
  limits = {view: _limit(record, view) for view in ('release', 'server')}
  sentences = [
    f'In short: {counted(rounds, "round")} of computation drew on the data of '
    f'{counted(record.facts.population, "client", spec=",")}.'
  ]
  if not record.complete:
    sentences.append(
      f'NOT COMPLETE: the record leaves out {", ".join(record.unaccounted)}, so no limit below '
      'covers all that the clients revealed.'
    )
  if limits['release']:
    sentences += [
      'Someone who sees what was released, and already knows everything about everyone else, is '
      f'limited in telling whether the data of one {unit} were used: if they wrongly accuse '
      f'{risk.percent(_RATE)} of those whose data were not used, they recognise {limits["release"]} '
      'of those whose data were.',
      f'The limit is on all that one {unit} contributed to these rounds. Neither later analysis of '
      'what was released nor data from elsewhere can raise it.',
    ]
  else:
    sentences.append('Nothing limits what can be learned from what was released.')
  if not limits['server']:
    sentences.append('Nothing limits what whoever runs the server can learn.')
  else:
    limit = (
      'the same limit holds'
      if limits['server'] == limits['release']
      else f'they recognise {limits["server"]} by the same measure'
    )
    sentences.append(
      f'For whoever runs the server, sees nothing but sums and follows the protocol, {limit}.'
    )
  sentences.append(
    'This rests on the assumptions that are listed with it. It does not say that the data were '
    'collected lawfully, that the results are accurate or fair, or that what many clients have in '
    'common stays hidden.'
  )
  return ' '.join(sentences)


def _limit(record: LedgerAccount, view: str) -> str:
  """How many an attacker recognises at most; empty where there is no limit."""
  if math.isinf(record.epsilon(view)):
    return ''
  bound = risk.attack_bounds(record, view)[_RATE]
  vacuous = ' (which excludes almost nothing)' if bound >= risk.VACUOUS else ''
  return f'at most {risk.percent(bound)}{vacuous}'
