"""`tff-privacy-agg analytics` on a file: answers, epsilon, refusals."""

import json

import numpy as np
import pytest

from tff_privacy_agg import accounting, cli

RNG = np.random.default_rng(0)
MINUTES = RNG.uniform(0, 60, size=300)
CITIES = RNG.choice(['Bern', 'Chur'], size=300)


@pytest.fixture
def visits(tmp_path):
  rows = [f'{minutes},{city}' for minutes, city in zip(MINUTES, CITIES, strict=True)]
  (tmp_path / 'visits.csv').write_text('minutes,city\n' + '\n'.join(rows) + '\n')
  return str(tmp_path / 'visits.csv')


def run(capsys, *arguments):
  assert cli.main(['analytics', *arguments, '--json']) == 0
  return json.loads(capsys.readouterr().out)


def test_the_mean_of_a_column(visits, capsys):
  found = run(capsys, visits, 'mean', '--column', 'minutes', '--lower', '0', '--upper', '60')
  assert abs(found['mean'] - MINUTES.mean()) < 6 * found['stddev']
  assert found['stddev'] == pytest.approx(2.0 * 30 / 300, rel=0.01)
  expected, _ = accounting.epsilon(accounting.gaussian(2.0), 0.1 / 300)
  assert expected * 0.999 <= found['epsilon'] <= expected * 1.01


def test_a_histogram_and_a_count(visits, capsys):
  arguments = ['--column', 'city', '--categories', 'Bern', 'Chur', 'Nowhere']
  found = run(capsys, visits, 'histogram', *arguments)
  assert list(found['counts']) == ['Bern', 'Chur', 'Nowhere']
  assert abs(found['counts']['Bern'] - np.sum(CITIES == 'Bern')) < 6 * found['stddev']
  found = run(capsys, visits, 'count', '--column', 'city', '--categories', 'Bern')
  assert abs(found['count'] - np.sum(CITIES == 'Bern')) < 6 * found['stddev']


@pytest.mark.parametrize(
  ('arguments', 'sentence'),
  [
    (['mean', '--column', 'minutes', '--lower', '0'], 'missing: --upper'),
    (['mean', '--column', 'hours', '--lower', '0', '--upper', '1'], "Column 'hours'"),
    (['sum', '--column', 'city', '--upper', '1'], 'needs numbers'),
  ],
  ids=['bounds', 'column', 'text'],
)
def test_bad_questions_end_in_one_sentence(visits, capsys, arguments, sentence):
  assert cli.main(['analytics', visits, *arguments]) == 2
  assert sentence in capsys.readouterr().err
