"""The privacy card says what is true, where it comes from, and what is missing."""

import dataclasses
import html.parser
import json
import math
import re

import pytest
from ledger_stacks import facts
from scipy import stats

from tff_privacy_agg import accounting
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.ledger.costs.rounds import price_of
from tff_privacy_agg.ledger.reader import LedgerRecord
from tff_privacy_agg.ledger.writer import PrivacyLedger

ORDER = [
  'task',
  'unit',
  'contribution_bound',
  'adjacency',
  'view',
  'mechanism',
  'noise_multiplier',
  'delta',
  'epsilon_server',
  'epsilon_release',
  'risk_server',
  'risk_release',
  'rho_zcdp',
  'gdp_mu',
  'rounds',
  'colluding_fraction',
  'minimum_clients',
  'sampling',
  'releases',
  'tuning_runs',
  'rounding',
  'randomness',
  'sampler_exactness',
  'empirical_audit',
  'threats_not_covered',
  'versions',
  'ledger_hash',
]

CLIENTS = [f'client {number}' for number in range(95)]


def record(tmp_path, *, rounds=3, **given):
  path = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(path, facts(**given)) as ledger:
    for number in range(rounds):
      cohort = CLIENTS if given.get('participation_cap') else None
      charge = ledger.charge(number, planned_survivors=95, cohort=cohort)
      ledger.settle(charge, survivors=90 + number, counted_by='runtime', accepted=number > 0)
  return LedgerRecord.read(path)


MECHANISMS = ['discrete_gaussian', 'skellam', 'central_discrete_gaussian', 'gaussian', 'none']


@pytest.mark.parametrize('mechanism', MECHANISMS)
@pytest.mark.parametrize('rounds', [0, 3])
def test_all_cards_have_all_fields_in_order(tmp_path, mechanism, rounds):
  ledger = record(tmp_path, mechanism=mechanism, rounds=rounds)
  card = json.loads(ledger.statement('json'))
  assert [field['name'] for field in card['fields']] == ORDER
  text, page = ledger.statement(), ledger.statement('html')
  position = -1
  for field in card['fields']:
    assert field['origin']
    assert field['text']
    position = text.index(f'\n{field["label"]}  [', position + 1)
    assert f'id="{field["name"]}"' in page
  assert set(card['how_to_dp_fy_ml']) == {field['how_to'] for field in card['fields']}
  assert all(card['nist_sp_800_226'].values())
  assert max(map(len, text.splitlines())) <= 110


def fields_of(ledger):
  return {field['name']: field for field in json.loads(ledger.statement('json'))['fields']}


def test_the_numbers_are_those_of_the_ledger(tmp_path):
  ledger = record(tmp_path)
  found = fields_of(ledger)
  for view in ('server', 'release'):
    assert found[f'epsilon_{view}']['value'] == ledger.epsilon(view)
    assert 'lines 3, 5, 7' in found[f'epsilon_{view}']['origin']
    stated = float(re.match(r'epsilon (\S+) at', found[f'epsilon_{view}']['text']).group(1))
    assert ledger.epsilon(view) <= stated <= 1.00001 * ledger.epsilon(view)
  mu, power = found['gdp_mu']['value']['mu'], found['risk_server']['value']['0.01']
  assert power == pytest.approx(stats.norm.cdf(mu + stats.norm.ppf(0.01)), rel=1e-4)
  shown = re.search(r'at most [\d.]+%, ([\d.]+)%', found['risk_server']['text']).group(1)
  assert power <= float(shown) / 100 <= 1.01 * power
  assert found['rounds']['value']['survivors'] == {'minimum': 90, 'median': 91, 'maximum': 92}
  assert found['rounds']['value']['planned_survivors'] == 95
  assert found['rounds']['value']['accepted'] == 2
  multipliers = [ledger.facts.price.noise_multiplier(count) for count in (90, 91, 92)]
  assert mu**2 == pytest.approx(sum(1 / z**2 for z in multipliers), rel=1e-4)
  assert found['rounding']['value']['largest_noise_multiplier'] > 3
  assert found['ledger_hash']['value'] == ledger.hash


def test_no_epsilon_stands_without_delta_unit_and_adjacency(tmp_path):
  ledger = record(tmp_path, participation_cap=5)
  for sentence in re.findall(r'epsilon [0-9][^;]*;[^;]*;[^;]*', ledger.statement()):
    flat = re.sub(r'\s+', ' ', sentence)
    assert 'delta' in flat
    assert 'unit' in flat
    assert 'adjacency' in flat
  assert len(re.findall(r'epsilon [0-9]', ledger.statement())) == 4


def test_a_delta_is_never_shown_below_what_it_is(tmp_path):
  delta = 4.0000003e-4
  with PrivacyLedger(
    tmp_path / 'ledger.jsonl', facts(delta=delta, task='sums in the clear')
  ) as ledger:
    text = ledger.statement('text')
  shown = {float(one) for one in re.findall(r'delta ([0-9.e-]*[0-9])[;,] unit', text)}
  assert shown == {0.000400001}  # the nearest number of six digits is below it
  assert text.splitlines()[2] == 'sums in the clear'  # before what holds only if they are not


@pytest.mark.parametrize('mechanism', ['central_discrete_gaussian', 'gaussian'])
def test_the_server_view_of_central_noise_promises_nothing(tmp_path, mechanism):
  ledger = record(tmp_path, mechanism=mechanism)
  text = ledger.statement()
  assert 'epsilon is infinite, nothing is promised' in text
  found = fields_of(ledger)
  assert found['epsilon_server']['value'] == 'inf'
  assert math.isfinite(found['epsilon_release']['value'])
  assert ('floating-point' in found['rounding']['text']) == (mechanism == 'gaussian')
  multipliers = [ledger.facts.price.noise_multiplier(count) for count in (90, 91, 92)]
  exact = accounting.gaussian_epsilon(sum(1 / z**2 for z in multipliers) ** 0.5, ledger.facts.delta)
  assert ledger.epsilon('release') == pytest.approx(exact, rel=1e-9)
  assert ledger.state.distance('release') == 3 * ledger.facts.price.distance(1)


@pytest.mark.parametrize('randomness', ['chacha20', 'philox'])
@pytest.mark.parametrize('mechanism', ['discrete_gaussian', 'gaussian', 'none'])
def test_forbidden_words_are_absent(tmp_path, mechanism, randomness):
  ledger = record(tmp_path, mechanism=mechanism, randomness=randomness, participation_cap=4)
  for form in ('text', 'json', 'html'):
    assert not re.search(r'anonym|amplified by sampling|\bsecure', ledger.statement(form), re.I)
  assert ('simulation grade' in ledger.statement()) == (randomness == 'philox')


@pytest.mark.parametrize('word', ['anonymous users', 'amplified by sampling', 'Secure training'])
def test_users_cannot_smuggle_forbidden_words_in(tmp_path, word):
  for name in ('task', 'sampling', 'unit'):
    with pytest.raises(ConfigurationError, match=name):
      facts(**{name: word})
  with pytest.raises(ConfigurationError):
    facts(unaccounted=(word,))
  with PrivacyLedger(tmp_path / 'l.jsonl', facts()) as ledger:
    with pytest.raises(ConfigurationError):
      ledger.mark_unaccounted(word)
    with pytest.raises(ConfigurationError):
      ledger.note('empirical_audit', {'method': word})


def test_tuning_and_what_is_missing_stand_on_the_card(tmp_path):
  ledger = record(tmp_path)
  assert 'not stated; NOT covered' in ledger.statement()
  with PrivacyLedger(tmp_path / 'ledger.jsonl') as writer:
    writer.note('tuning_runs', 12)
    writer.note('empirical_audit', {'lower_bound': 0.3, 'canaries': 1000})
    writer.mark_unaccounted('training metrics')
    text = writer.statement()
  assert '12, NOT covered' in text
  assert 'lower_bound 0.3, canaries 1000' in text
  assert 'NOT COMPLETE' in text
  assert 'NOT covered: training metrics' in text


def test_what_an_audit_used_of_the_clients_again_is_not_covered(tmp_path):
  record(tmp_path)

  def not_covered():
    fields = json.loads(writer.statement('json'))['fields']
    return next(one for one in fields if one['name'] == 'releases')['value']['not_covered']

  with PrivacyLedger(tmp_path / 'ledger.jsonl') as writer:
    writer.note('empirical_audit', {'audits': ['gallery', 'memorization'], 'exceeded': False})
    assert not_covered() == []
    writer.note('empirical_audit', {'audits': ['canaries', 'membership'], 'exceeded': False})
    again, rates = not_covered()
  assert 'ran once more on the same clients' in again
  assert 'without noise' in rates


def test_rounds_at_their_worst_are_named(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(path, facts()) as ledger:
    ledger.charge(1)
    assert 'charged at the worst in ledger lines 2' in ledger.statement()
  with path.open('ab') as file:
    file.write(b'{"event":"settle')
  assert '1 line cut off' in LedgerRecord.read(path).statement()


def test_the_page_is_well_formed_and_escapes_what_users_write(tmp_path):
  page = record(tmp_path, task='<script>alert("x")</script>').statement('html')
  assert '<script' not in page
  open_tags = []

  class Parser(html.parser.HTMLParser):
    def handle_starttag(self, tag, attrs):
      if tag not in ('br', 'meta'):
        open_tags.append(tag)

    def handle_endtag(self, tag):
      assert open_tags.pop() == tag

  Parser().feed(page)
  assert not open_tags
  assert '://' not in page


def test_other_formats_are_refused(tmp_path):
  with pytest.raises(ConfigurationError, match='format'):
    record(tmp_path).statement('pdf')


@pytest.mark.parametrize('population', [11, 22, 44, 75, 88, 100])
def test_the_default_delta_is_not_called_too_large(tmp_path, population):
  """0.1 / 11 * 11 is above 0.1 in floating point, as it is for 562 populations up to 10,000."""
  given = {'population': population, 'delta': 0.1 / population, 'clients': 10}
  usual = record(tmp_path, rounds=0, minimum_clients=8, **given)
  assert 'above a tenth' not in fields_of(usual)['delta']['text']


def test_a_larger_delta_is_called_too_large(tmp_path):
  larger = record(tmp_path, population=200, delta=0.11 / 200)
  assert 'above a tenth of 1/population' in fields_of(larger)['delta']['text']


def test_what_is_released_next_to_the_update_is_on_the_card(tmp_path):
  """Private metrics: three numbers of 32 bits."""
  base = facts()
  metrics = accounting.solve(
    noise_multiplier=12.0,
    cohort_maximum=100,
    minimum_honest=100,
    bits=32,
    dimension=3,
    mechanism='discrete_gaussian',
  )
  plain = {key: value for key, value in base.stack.items() if key != 'price'}
  other = {**plain, 'channels': [], 'integer_design': dataclasses.asdict(metrics)}
  stack = {**plain, 'beside': [other]}
  for one in (other, stack):
    price = price_of(one)
    one['noise_multiplier'] = price.noise_multiplier(price.minimum)
  with PrivacyLedger(tmp_path / 'ledger.jsonl', dataclasses.replace(base, stack=stack)) as ledger:
    ledger.charge(1, planned_survivors=95)
    card = json.loads(ledger.statement('json'))
  found = {field['name']: field for field in card['fields']}
  assert 'sum next to it of 3 numbers, 32 bits each' in found['releases']['value']['covered']
  (design,) = found['rounding']['value']['next_to_it']
  assert (design['bits'], design['dimension']) == (32, 3)
