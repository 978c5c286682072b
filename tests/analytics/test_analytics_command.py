"""`tff-privacy-agg analytics` on a file: answers, intervals, clients of several rows, refusals."""

import json
import pathlib
import re
import shlex

import numpy as np
import pytest

from tff_privacy_agg import accounting, cli
from tff_privacy_agg.learning import data

pytestmark = pytest.mark.integration

RNG = np.random.default_rng(0)
MINUTES = RNG.uniform(0, 60, size=300)
CITIES = RNG.choice(['Bern', 'Chur'], size=300)
PAGE = (pathlib.Path(__file__).parents[2] / 'docs' / 'analytics.md').read_text(encoding='utf-8')


@pytest.fixture
def visits(tmp_path):
  """Five rows of each of 60 clients."""
  rows = [
    f'{minutes},{city},client {number % 60}'
    for number, (minutes, city) in enumerate(zip(MINUTES, CITIES, strict=True))
  ]
  (tmp_path / 'visits.csv').write_text('minutes,city,who\n' + '\n'.join(rows) + '\n')
  return str(tmp_path / 'visits.csv')


def run(capsys, *arguments):
  assert cli.main(['analytics', *arguments, '--json']) == 0
  return json.loads(capsys.readouterr().out)


def test_the_mean_of_a_column_comes_with_its_noise_and_epsilon(visits, capsys):
  found = run(capsys, visits, 'mean', '--column', 'minutes', '--lower', '0', '--upper', '60')
  assert abs(found['mean'] - MINUTES.mean()) < 6 * found['stddev']
  assert found['stddev'] == pytest.approx(2.0 * 30 / 300, rel=0.01)
  low, high = found['intervals']['mean']
  assert high - low == pytest.approx(2 * found['precision']['mean'])
  assert found['precision']['mean'] == pytest.approx(1.96 * found['stddev'], rel=0.02)
  expected = accounting.gaussian_epsilon(1 / 2.0, 0.1 / 300)
  assert expected * 0.999 <= found['epsilon'] <= expected * 1.01
  assert (found['clients'], found['unit'], found['combined']) == (300, 'row', None)


def test_where_no_epsilon_can_be_stated_it_is_null(visits, tmp_path, capsys):
  """At so little noise e^epsilon times the samplers' distance is above delta; JSON has no infinity."""
  ledger = str(tmp_path / 'visits.jsonl')
  loud = ['--noise-multiplier', '0.05', '--ledger', ledger]
  found = run(capsys, visits, 'mean', '--column', 'minutes', '--lower', '0', '--upper', '60', *loud)
  assert found['epsilon'] is None
  assert found['ledger']['epsilon'] is None


def test_a_histogram_and_a_count(visits, capsys):
  arguments = ['--column', 'city', '--categories', 'Bern', 'Chur', 'Nowhere']
  found = run(capsys, visits, 'histogram', *arguments)
  assert list(found['counts']) == ['Bern', 'Chur', 'Nowhere'] == list(found['intervals']['counts'])
  assert abs(found['counts']['Bern'] - np.sum(CITIES == 'Bern')) < 6 * found['stddev']
  found = run(capsys, visits, 'count', '--column', 'city', '--categories', 'Bern')
  assert abs(found['count'] - np.sum(CITIES == 'Bern')) < 6 * found['stddev']


@pytest.mark.parametrize(
  ('rule', 'truth'),
  [
    ('mean', lambda own: own.mean(axis=0)),
    ('sum', lambda own: own.sum(axis=0)),
    ('last', lambda own: own[-1]),
  ],
)
def test_the_rows_of_a_client_make_one_number(visits, capsys, rule, truth):
  found = run(
    capsys, visits, 'sum', '--column', 'minutes', '--client', 'who', '--combine', rule,
    '--upper', '400', '--noise-multiplier', '0.01',
  )  # fmt: skip
  assert found['sum'] == pytest.approx(truth(MINUTES.reshape(5, 60)).sum(), abs=6 * found['stddev'])
  assert (found['clients'], found['unit']) == (60, 'client')
  # The number of rows is not public: it tells how many a client has.
  assert 'rows' not in found
  assert found['combined'] == rule


def test_a_client_of_many_rows_counts_once(visits, capsys):
  """Noise as for one value of each client, not of each row; all its categories, once each."""
  common = ['--column', 'city', '--client', 'who', '--noise-multiplier', '0.01']
  both = ['--categories', 'Bern', 'Chur', '--contributions', '2']
  found = run(capsys, visits, 'histogram', *common, *both)
  own = CITIES.reshape(5, 60)
  truth = {city: np.any(own == city, axis=0).sum() for city in ('Bern', 'Chur')}
  assert found['counts'] == pytest.approx(truth, abs=6 * found['stddev'])
  assert found['stddev'] == pytest.approx(0.01 * np.sqrt(2), rel=0.01)
  found = run(capsys, visits, 'count', *common, '--categories', 'Bern')
  assert found['count'] == pytest.approx(truth['Bern'], abs=6 * found['stddev'])
  assert found['combined'] == 'any'


def test_for_people_it_says_what_the_unit_is_and_how_far_quantiles_are_off(visits, capsys):
  arguments = ['quantiles', '--column', 'minutes', '--lower', '0', '--upper', '60', '--levels', '4']
  assert cli.main(['analytics', visits, *arguments]) == 0
  told = capsys.readouterr().out
  assert 'each of 300 rows is taken for a client' in told
  rank, fraction = map(float, re.search(r'at most ([\d.]+) clients \(([\d.]+)%\)', told).groups())
  assert fraction == pytest.approx(100 * rank / 300, abs=0.06)
  assert 'a leaf is 3.75 wide' in told
  assert cli.main(['analytics', visits, *arguments, '--client', 'who', '--combine', 'last']) == 0
  told = capsys.readouterr().out
  assert 'make one value (last), and the unit of privacy is the client' in told


MEAN = ['mean', '--column', 'minutes', '--lower', '0', '--upper', '1']


@pytest.mark.parametrize(
  ('arguments', 'sentence'),
  [
    (['mean', '--column', 'minutes', '--lower', '0'], 'missing: --upper'),
    (['sum', '--column', 'minutes', '--upper', '1', '--lower', '0'], 'got --lower, which it would'),
    ([*MEAN, '--levels', '8', '--categories', 'a'], 'got --categories, --levels, which'),
    ([*MEAN, '--probabilities', '0.5'], 'got --probabilities, which'),
    (['count', '--column', 'city', '--categories', 'a', '--contributions', '1'], 'got --contr'),
    (
      ['histogram', '--column', 'city', '--categories', 'a', '--contributions', '2'],
      '--contributions is about clients of several rows',
    ),
    ([*MEAN, '--target-epsilon', '1'], 'Name one with --ledger'),
    ([*MEAN, '--target-epsilon', '0', '--ledger', 'x'], '--target-epsilon must be finite and pos'),
    (['mean', '--column', 'hours', '--lower', '0', '--upper', '1'], "no column 'hours'"),
    (['sum', '--column', 'city', '--upper', '1'], r'needs numbers; line 2 of .* has '),
    ([*MEAN, '--client', 'name'], "no column 'name'"),
    ([*MEAN, '--combine', 'last'], 'no --client'),
    (['count', '--column', 'city', '--categories', 'a', '--client', 'who', '--combine', 'sum'], 'got --c'),
    ([*MEAN, '--confidence', '95'], '--confidence must lie strictly'),
    ([*MEAN, '--delta', '0'], '--delta must lie strictly'),
    ([*MEAN, '--delta', '0.9', '--client', 'who'], '--delta must be below 1/clients'),
  ],
  ids=[
    'bounds', 'sum', 'two options', 'mean', 'count', 'histogram', 'no ledger', 'no budget', 'column',
    'text', 'client', 'combine', 'any', 'confidence', 'delta', 'large delta',
  ],
)  # fmt: skip
def test_bad_questions_end_in_one_sentence(visits, capsys, arguments, sentence):
  assert cli.main(['analytics', visits, *arguments]) == 2
  assert re.search(sentence, capsys.readouterr().err)


@pytest.mark.parametrize(
  ('text', 'sentence'),
  [
    ('minutes,who\n', 'has no rows'),
    ('minutes,who\n3,a\n,a\n', "'minutes' is empty in line 3 of"),
    ('minutes,who\n3,a\n4\n', 'line 3 of .* has 1 fields, the header 2'),
    ('minutes,who\n3,a\nnan,b\n', "line 3 of .* has 'nan'"),
    ('minutes,who\n3,a\n1e999,b\n', "line 3 of .* has '1e999'"),
    ('minutes,who\n3,\xff\n', 'is not in UTF-8'),
    (None, 'No such file'),
  ],
  ids=['no rows', 'empty', 'short', 'nan', 'huge', 'encoding', 'no file'],
)
def test_a_file_that_does_not_fit_is_refused_with_the_line(tmp_path, capsys, text, sentence):
  file = tmp_path / 'some.csv'
  if text is not None:
    file.write_bytes(text.encode('latin-1'))
  assert cli.main(['analytics', str(file), *MEAN, '--client', 'who']) == 2
  assert re.search(sentence, capsys.readouterr().err)


def shown():
  """The command that the page shows, and what it prints."""
  return re.search(
    r'```console\n\$ tff-privacy-agg (.*)\n(\{\n.*?\n\})\n```', PAGE, re.DOTALL
  ).groups()


def test_the_page_shows_what_the_command_prints(capsys):
  """All but what the noise moves; and that is within what the page states of its error."""
  command, printed = shown()
  told = json.loads(printed)
  arguments = shlex.split(command)
  assert arguments[:2] == ['analytics', 'digits']
  assert cli.main(arguments) == 0
  found = json.loads(capsys.readouterr().out)
  assert list(found) == list(told)
  noisy = {'count', 'fraction', 'uncut', 'intervals'}
  for name in set(found) - noisy:
    assert found[name] == (pytest.approx(told[name]) if told[name] else told[name]), name
  train = data.load_digits(200).train
  truth = sum(
    any(int(example['y']) == 7 for example in train.create_tf_dataset_for_client(client))
    for client in train.client_ids
  )
  assert abs(found['count'] - truth) < 6 * found['stddev']
  assert abs(told['count'] - truth) < 6 * found['stddev']


def masked(lines):
  """The lines without what the noise moves: answers and their intervals."""
  return [re.sub(r'^(\w+) +-?[\d.]+ +\[.*\]$', r'\1', line) for line in lines]


def test_the_page_shows_how_questions_add_up(tmp_path, monkeypatch, capsys):
  block = re.search(r'```console\n(\$[^`]*--target-epsilon[^`]*)```', PAGE)[1]
  monkeypatch.chdir(tmp_path)
  sessions = [session.splitlines() for session in block.split('$ tff-privacy-agg ')[1:]]
  assert len(sessions) == 3
  for number, (command, *told) in enumerate(sessions):
    assert cli.main(shlex.split(command)) == (2 if number == 2 else 0)
    printed = capsys.readouterr()
    errors = [line for line in printed.err.splitlines() if line.startswith('tff-privacy-agg:')]
    assert masked(printed.out.splitlines() + errors) == masked(told)
  assert masked(['mean  0.31   [0.2, 0.4]', 'epsilon 1.6 of 2']) == ['mean', 'epsilon 1.6 of 2']
