"""The corpus of `make fuzz`, findings that were fixed among it, through the targets."""

import pathlib

import pytest

from tff_privacy_agg.secagg import wire
from tools.fuzz.targets import TARGETS

CORPUS = pathlib.Path(__file__).parents[1] / 'tools' / 'fuzz' / 'corpus'


@pytest.mark.parametrize('name', TARGETS)
def test_no_file_of_the_corpus_fails_its_target(name):
  files = sorted((CORPUS / name).iterdir())
  assert len(files) >= 3
  for file in files:
    TARGETS[name](file.read_bytes())


def test_of_the_test_a_faulty_reader_is_found(monkeypatch):
  """A reader that lets another error through is found by the corpus as it is."""
  monkeypatch.setattr(wire, 'decode_abort', lambda *_: {}['fault'])
  contents = [file.read_bytes() for file in (CORPUS / 'messages').iterdir()]
  with pytest.raises(KeyError):
    list(map(TARGETS['messages'], contents))
