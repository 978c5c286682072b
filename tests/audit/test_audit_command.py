"""`tff-privacy-agg audit`: files, the note in the ledger, exit codes, refusals."""

import dataclasses
import json
import math

import pytest

from tff_privacy_agg import cli
from tff_privacy_agg.audit import canary_training, run_audit, run_results
from tff_privacy_agg.audit.attacks import GALLERY
from tff_privacy_agg.cli import audit as command
from tff_privacy_agg.ledger import LedgerRecord, PrivacyLedger, verify
from tff_privacy_agg.ledger.card.risk import attack_bounds

pytestmark = pytest.mark.integration

TRAIN = ['--population', '16', '--clients-per-round', '16', '--rounds', '4']
AUDIT = ['--canaries', '40', '--confidence', '0.999']


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  path = tmp_path_factory.mktemp('runs') / 'run'
  assert cli.main(['train', '--run-dir', str(path), *TRAIN, '--noise-multiplier', '8']) == 0
  with PrivacyLedger(path / 'ledger.jsonl') as ledger:
    question = dataclasses.replace(ledger.facts, task='a question to the same clients')
    ledger.settle(ledger.charge(5, facts=question), survivors=16, counted_by='runtime')
  return path


def contents(folder):
  return {path: path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}


def test_an_audit_leaves_its_results_and_the_claim_as_it_was(trained, capsys, monkeypatch):
  monkeypatch.setattr(run_audit, 'GALLERY', {'inversion': GALLERY['inversion']})
  checkpoints = contents(trained / 'checkpoints')
  before = LedgerRecord.read(trained / 'ledger.jsonl')
  only = [f'--only={name}' for name in ('canaries', 'membership', 'gallery')]
  assert cli.main(['audit', str(trained), *AUDIT, *only]) == 0
  shown = capsys.readouterr()
  assert 'no more than the ledger says' in shown.out
  assert 'training with canaries' in shown.err
  found = json.loads((trained / 'audit.json').read_text())
  assert found['claim']['epsilon'] == pytest.approx(before.epsilon('server'))
  assert found['claim']['view'] == 'server'
  bounds = {float(rate): power for rate, power in found['claim']['attack_power'].items()}
  assert bounds == attack_bounds(before, 'server')
  assert all(rate < power <= 1 for rate, power in bounds.items())
  assert found['canaries']['lower'] <= found['claim']['epsilon']
  assert found['canaries']['rounds'] == 4
  assert found['canaries']['rounds_at_full_length'] == 4
  assert found['canaries']['seconds_a_round_without'] > 0
  assert found['membership']['lira']['members'] == 1424
  assert found['gallery'][0]['defended'] is True
  assert (trained / 'audit_inversion.png').read_bytes().startswith(b'\x89PNG')
  assert not list(trained.glob('.audit*'))
  # No number of a canary's training is released, and the account stands.
  assert contents(trained / 'checkpoints') == checkpoints
  after = LedgerRecord.read(trained / 'ledger.jsonl')
  assert after.epsilon('server') == before.epsilon('server')
  assert after.state.rounds == before.state.rounds
  assert verify(trained / 'ledger.jsonl').ok
  entry = after.state.notes['empirical_audit']
  assert entry['canaries'] <= 40
  assert entry['lower_bound'] == found['canaries']['lower']
  assert 'lower_bound' in after.statement('json')


@pytest.mark.slow
def test_of_the_test_too_little_noise_fails(trained, capsys, monkeypatch):
  """The ledger says what the run added; the stack of the audit adds a fortieth of it."""
  honest = run_audit.TrainingTask.aggregator

  def faulty(task):
    return honest(run_audit.TrainingTask(**{**vars(task), 'noise_multiplier': 0.2}))

  monkeypatch.setattr(canary_training._AuditedTask, 'aggregator', faulty)
  assert cli.main(['audit', str(trained), *AUDIT, '--only=canaries', '--json']) == 1
  found = json.loads(capsys.readouterr().out)
  assert found['exceeded'] is True
  assert found['canaries']['lower'] > found['claim']['epsilon']


def test_the_audits_of_command_and_library_are_the_same():
  assert command._AUDITS == run_audit.AUDITS


def test_infinite_numbers_are_words():
  assert run_results.plain({'a': math.inf, 'b': [1, 2.5]}) == {'a': 'inf', 'b': [1, 2.5]}


def refused(capsys, *arguments):
  assert cli.main(['audit', *arguments]) == 2
  return capsys.readouterr().err


def test_what_cannot_be_audited_is_refused_with_the_fix(trained, tmp_path, capsys):
  assert 'got neither. Give one of them.' in refused(capsys)
  assert 'got both' in refused(capsys, str(trained), '--fresh')
  assert 'holds no training to audit. Train one' in refused(capsys, str(tmp_path))
  (tmp_path / 'config.json').write_text((trained / 'config.json').read_text())
  assert 'has none. Audit a training with noise' in refused(capsys, str(tmp_path))
  (tmp_path / 'config.json').write_text('{"facts": {}}')
  (tmp_path / 'ledger.jsonl').write_text((trained / 'ledger.jsonl').read_text())
  assert 'Use `CanaryAudit` in the loop' in refused(capsys, str(tmp_path))
  few = refused(capsys, str(trained), '--canaries', '4', '--only=canaries')
  assert 'Add canaries or rounds, or enlarge the cohorts.' in few
  config = json.loads((trained / 'config.json').read_text()) | {'model': 'own:model'}
  (tmp_path / 'config.json').write_text(json.dumps(config))
  assert 'scores a linear model of the digits' in refused(
    capsys, str(tmp_path), '--only=membership'
  )
