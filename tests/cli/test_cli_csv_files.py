"""Malformed CSV files are refused as a whole: no row is dropped, doubled or cut in silence."""

import re

import pytest

from tff_privacy_agg.cli._analytics import client_rows
from tff_privacy_agg.errors import ConfigurationError

GOOD = 'minutes,who\n3.5,a\n4,b\n-1e2,a\n'
# What a file holds, and what is said of it.
MALFORMED = {
  'empty': (b'', 'it is empty'),
  'only a line break': (b'\n\n', 'it is empty'),
  'only a header': (b'minutes,who\n', 'has no rows'),
  'latin-1': ('minutes,who\n3,Z\xfcrich\n'.encode('latin-1'), 'is not in UTF-8'),
  'UTF-16': (GOOD.encode('utf-16'), 'it is in UTF-16. Save it in UTF-8'),
  'zero bytes': (b'minutes,who\n3\0,a\n', 'holds zero bytes'),
  'semicolons': (b'minutes;who\n3,5;a\n', 'separated by semicolons'),
  'tabs': (b'minutes\twho\n3\ta\n', 'separated by tabs'),
  'a column twice': (b'minutes,who,minutes\n3,a,4\n', "column 'minutes' is there twice"),
  'an id column twice': (b'who,minutes,who\nx,3,y\n', "column 'who' is there twice"),
  'a column without a name': (b'minutes,,who\n3,1,a\n', 'column 2 has no name'),
  'blanks around a name': (b'minutes, who\n3,a\n', "column ' who' has blanks around its name"),
  'a surplus field': (b'minutes,who\n3,a\n3,a,b\n', 'line 3 of .* has 3 fields, the header 2'),
  'a short row': (b'minutes,who\n3,a\n4\n', 'line 3 of .* has 1 fields, the header 2'),
  'a decimal comma': (b'minutes,who\n3,5,a\n', 'has 3 fields.*write numbers with a point'),
  'a quoted decimal comma': (b'minutes,who\n"3,5",a\n', "has '3,5'. Write numbers with a decimal"),
  'thousands': (b'minutes,who\n"1,234.5",a\n', "has '1,234.5'. Write numbers with a decimal point"),
  'an underscore': (b'minutes,who\n1_000,a\n', "has '1_000'. Write numbers with a decimal point"),
  'an apostrophe': (b"minutes,who\n1'000,a\n", 'Write numbers with a decimal point'),
  'an open quote': (b'minutes,who\n"3,a\n4,b\n', 'Close each quote'),
  'a quote too many': (b'minutes,who\n"3"5,a\n', 'Close each quote'),
  'nan': (b'minutes,who\nnan,a\n', "line 2 of .* has 'nan'"),
  'inf': (b'minutes,who\n3,a\n-inf,b\n', "line 3 of .* has '-inf'"),
  'too large': (b'minutes,who\n1e999,a\n', "has '1e999'"),
  'a date': (b'minutes,who\n2024-05-01,a\n', "has '2024-05-01'"),
  'other digits': ('minutes,who\n\u0661\u0662,a\n'.encode(), 'needs numbers'),
  'an empty cell': (b'minutes,who\n,a\n', 'is empty in line 2'),
  'nobody': (b'minutes,who\n3,\n', 'is empty in line 2'),
  'blanks around a client': (b'minutes,who\n3,a\n4,a \n', "names the client 'a ', with blanks"),
}


def values(path):
  return client_rows.numbers(client_rows.by_client(str(path), 'minutes', 'who'), 'mean', 'mean')


@pytest.mark.parametrize(('content', 'sentence'), MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_file_is_refused(tmp_path, content, sentence):
  file = tmp_path / 'some.csv'
  file.write_bytes(content)
  with pytest.raises(ConfigurationError) as caught:
    values(file)
  text = str(caught.value)
  assert re.search(sentence, text), text
  assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
  'content',
  [
    GOOD.encode(),
    GOOD.encode('utf-8-sig'),
    GOOD.replace('\n', '\r\n').encode(),
    GOOD.rstrip('\n').encode(),
    GOOD.replace('4,b', '"4","b"\n').encode(),
  ],
  ids=['plain', 'mark', 'windows', 'no last break', 'quotes and a blank line'],
)
def test_what_is_well_formed_is_read(tmp_path, content):
  file = tmp_path / 'some.csv'
  file.write_bytes(content)
  assert values(file) == [-48.25, 4.0]


def test_a_quoted_field_may_hold_a_comma_and_a_line_break(tmp_path):
  file = tmp_path / 'some.csv'
  file.write_text('minutes,who\n3,"a, the\nfirst"\n', encoding='utf-8')
  assert values(file) == [3.0]
