"""The privacy card's conditions: what its epsilons rest on."""

from tff_privacy_agg.accounting.printing import rounded_up
from tff_privacy_agg.ledger.account import LedgerAccount
from tff_privacy_agg.ledger.card.field import range_text


def assumptions(record: LedgerAccount) -> list[str]:
  """Conditions of the epsilons, in plain sentences."""
  facts, price = record.facts, record.facts.price
  sentences = []
  if price.distributed:
    sentences += [
      'The server learns the sum of the messages and nothing else about them.',
      f'At most {facts.colluding_fraction:.0%} of the survivors of a round tell the server their '
      'noise; the noise of everyone else stays unknown to it.',
      'Every client draws its noise as this package does, with a key that nobody else knows.',
    ]
    thresholds = [one.facts.minimum_clients for one in record.state.kinds.values()]
    if all(thresholds):
      sentences.append(
        f'The runtime shows the server no sum of fewer than {range_text(thresholds)} survivors'
        + ('.' if len({*thresholds}) == 1 else ', as the line with the facts of the round says.')
      )
  elif price.private:
    sentences.append('The server adds the noise as agreed, and forgets what it saw before.')
    if record.state.chain is not None:
      sentences.append(
        'The noise of the last rounds, which the state and its checkpoints keep for the next ones, is '
        'a secret of the server: a release less its noise is the sum without noise.'
      )
  sentences += [
    'Which clients take part, and which drop out, does not depend on their data.',
    'The number of survivors of each round is public.',
  ]
  if facts.sampling.claims and not record.state.claim_broken:
    sentences += [
      'For the release view: who takes part in a round is drawn anew and independently each time, '
      'from chance that nobody else knows, and stays unknown to those who see the release.',
      'For the release view: with the number of survivors goes what the proof rests on; metrics '
      'that tell it, this card and the ledger do not go to those who see the release.'
      if facts.sampling.kind == 'poisson'
      else 'For the release view: nobody who was drawn drops out, or the noise does not depend on it '
      'and neither does anything else that is released.',
    ]
  if facts.top_up is not None:
    sentences.append(
      f'For the release view: the server adds the shares of noise that a cohort lacks of '
      f'{facts.top_up}, before it decodes a sum, and forgets them.'
    )
  if price.private:
    budget = record.budget
    proved = 'this ledger has no budget.'
    if budget is not None:
      proved = f'epsilon {budget.epsilon:g} at delta {rounded_up(budget.delta, 6)} in the {budget.view} view.'
    sentences.append(
      'Which rounds there are, and with what noise, was chosen before the first answer. If answers '
      f'chose it, no more than the budget is proved: {proved}'
      if len(record.state.kinds) > 1
      else 'How many rounds there are does not depend on what was released. If results decided when '
      f'to stop, epsilon is an odometer and no more than the budget is proved: {proved}'
    )
  if facts.needs_cohorts:
    sentences.append('One person is one client: an identity cannot be used up and replaced.')
  return sentences
