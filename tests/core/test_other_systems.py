"""Systems without the locks and the file modes of Linux and macOS: what works, what is refused."""

import pathlib
import shutil
import sys
import types

import pytest

from tff_privacy_agg import cli
from tff_privacy_agg.deployment import tls
from tff_privacy_agg.errors import ConfigurationError, LedgerError
from tff_privacy_agg.ledger import LedgerRecord, PrivacyLedger

GOLDEN = pathlib.Path(__file__).parents[1] / 'ledger' / 'golden'


@pytest.fixture
def ledger(tmp_path, monkeypatch):
  """A ledger from elsewhere, on a system without fcntl."""
  for path in GOLDEN.glob('ledger-v2.jsonl*'):
    shutil.copy(path, tmp_path)
  monkeypatch.setitem(sys.modules, 'fcntl', None)
  return tmp_path / 'ledger-v2.jsonl'


@pytest.mark.parametrize('command', ['epsilon', 'verify', 'statement'])
def test_a_ledger_is_read(ledger, command, capsys):
  assert cli.main([command, str(ledger)]) == 0
  assert capsys.readouterr().out


def test_a_ledger_is_not_written(ledger, tmp_path):
  facts = LedgerRecord.read(ledger).facts
  for path in (ledger, tmp_path / 'new.jsonl'):
    with pytest.raises(LedgerError, match='cannot be written on this system'):
      PrivacyLedger(path, facts)
  assert not (tmp_path / 'new.jsonl').exists()


def test_keys_are_not_made(monkeypatch, tmp_path):
  directory = tmp_path / 'keys'
  monkeypatch.setattr(tls, 'sys', types.SimpleNamespace(platform='win32'))
  with pytest.raises(ConfigurationError, match='Make them on Linux or macOS'):
    tls.make_keys(directory, ['north', 'south'])
