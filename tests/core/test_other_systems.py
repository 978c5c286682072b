"""Systems without the locks and the file modes of Linux and macOS: what works, what is refused."""

import pathlib
import shutil
import sys
import types

import pytest

from tff_privacy_agg import accounting, cli
from tff_privacy_agg.deployment.keys import authority
from tff_privacy_agg.deployment.keys.authority import make_keys
from tff_privacy_agg.errors import ConfigurationError, LedgerError
from tff_privacy_agg.ledger import LedgerFacts, LedgerRecord, PrivacyLedger

GOLDEN = pathlib.Path(__file__).parents[1] / 'ledger' / 'golden'


@pytest.fixture
def ledger(tmp_path, monkeypatch):
  """A ledger from elsewhere, on a system without fcntl."""
  for path in GOLDEN.glob('ledger-v2.jsonl*'):
    shutil.copy(path, tmp_path)
  monkeypatch.setitem(sys.modules, 'fcntl', None)
  return tmp_path / 'ledger-v2.jsonl'


@pytest.mark.parametrize('command', ['epsilon', 'verify', 'statement'])
def test_a_ledger_is_read_without_file_locks(ledger, command, capsys):
  assert cli.main([command, str(ledger)]) == 0
  assert capsys.readouterr().out


def test_a_ledger_is_not_written_without_file_locks(ledger, tmp_path):
  old = LedgerRecord.read(ledger).facts
  price = accounting.RoundPrice(mechanism='gaussian', minimum=1, maximum=60, central_multiplier=3.0)
  stack = {**old.stack, 'mechanism': 'gaussian', 'holds_against_server': False, 'top_up': None}
  stack |= {'integer_design': None, 'channels': [], 'sampler_distance_per_round': 0.0}
  stack |= {'cohort': {**old.stack['cohort'], 'minimum': 1}, 'price': price.as_dict()}
  new = LedgerFacts(stack=stack, delta=1e-4, population=600)
  for path, facts in ((ledger, old), (tmp_path / 'new.jsonl', new)):
    with pytest.raises(LedgerError, match='cannot be written on this system'):
      PrivacyLedger(path, facts)
  assert not (tmp_path / 'new.jsonl').exists()


def test_keys_are_not_made_without_file_modes(monkeypatch, tmp_path):
  directory = tmp_path / 'keys'
  monkeypatch.setattr(authority, 'sys', types.SimpleNamespace(platform='win32'))
  with pytest.raises(ConfigurationError, match='Make them on Linux or macOS'):
    make_keys(directory, ['north', 'south'])
