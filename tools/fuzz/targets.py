"""What is fuzzed. A target takes any bytes; what it raises is a finding."""

import contextlib
import json
import pathlib
import tempfile
from unittest import mock

from tff_privacy_agg import secagg
from tff_privacy_agg.deployment import arrays, config, framing
from tff_privacy_agg.errors import ConfigurationError, LedgerError
from tff_privacy_agg.ledger import LedgerRecord, line_format, verify
from tff_privacy_agg.secagg import wire
from tff_privacy_agg.secagg.layout import VERSIONS, Layout

_SESSION = bytes(32)
_LEAVES = [(3, 2), (1, 1)]
_FILES = pathlib.Path(tempfile.mkdtemp(prefix='fuzz-'))


def messages(data: bytes) -> None:
  """`secagg.wire`: the first two bytes choose reader, version and k, the rest is the body."""
  if len(data) < 2:
    return
  layout = Layout(VERSIONS[data[0] & 1], 'mac' if data[0] & 2 else None)
  signed, neighbours, body = bool(data[0] & 4), data[1] % 5, memoryview(data)[2:]
  readers = (
    lambda: wire.decode_advertisement(body, layout),
    lambda: wire.decode_keys(body, layout, signed),
    lambda: wire.decode_signatures(body, 4),
    lambda: wire.decode_share_upload(body, layout, neighbours, neighbours // 2),
    lambda: wire.decode_share_download(body, layout, neighbours, neighbours // 2),
    lambda: wire.decode_masked(body, _LEAVES, neighbours),
    lambda: wire.decode_answers(body, neighbours),
    lambda: wire.decode_abort(body, layout.version),
    lambda: wire.split_signature(body, signed),
    lambda: secagg.SessionParams.from_bytes(bytes(body)).salt(),
    lambda: _message(bytes(body), layout.version, neighbours),
  )
  with contextlib.suppress(secagg.InvalidMessage):
    readers[(data[0] >> 3) % len(readers)]()


def _message(data: bytes, version: int, neighbours: int) -> None:
  message = wire.decode(data, _SESSION, version)
  kind, flags, number, body = message
  again = wire.encode(kind, _SESSION, number, body, flags=flags, version=version)
  if again != data:
    raise AssertionError('A message has two forms.')
  if kind is wire.Kind.RESULT:
    wire.decode_result(message, neighbours, _LEAVES)


def frames(data: bytes) -> None:
  """`deployment.framing`: chunks that end at zero bytes."""
  chunks = mock.patch.object(framing, 'CHUNK_BYTES', 4)
  with contextlib.suppress(secagg.InvalidMessage), chunks:
    head, payload = framing.gather(data.split(b'\0'), 2**12)
    if head['bytes'] != len(payload):
      raise AssertionError('A payload of another size than announced.')


def broadcasts(data: bytes) -> None:
  """`deployment.arrays`: what is read is written and read the same."""
  with contextlib.suppress(secagg.InvalidMessage):
    found = arrays.decode(data)
    written = arrays.encode(found)
    if arrays.encode(arrays.decode(written)) != written:
      raise AssertionError('Arrays changed on their way.')


def ledgers(data: bytes) -> None:
  """Ledger lines: each record is sealed anew, so that what it says is read, not only its hash."""
  lines, previous = [], line_format.GENESIS
  for line in data.split(b'\n'):
    try:
      record = json.loads(line)
      line = line_format.seal({**record, 'previous': previous})
    except (ValueError, TypeError, RecursionError):
      pass
    previous = line_format.sha256(line)
    lines.append(line)
  path = _FILES / 'ledger.jsonl'
  path.write_bytes(b'\n'.join(lines))
  for read in (verify, LedgerRecord.read):
    with contextlib.suppress(LedgerError):
      read(path)


def settings(data: bytes) -> None:
  """Configuration files of a server, and of a client."""
  path = _FILES / 'settings.toml'
  path.write_bytes(data)
  for kind in (config.ServerConfig, config.ClientConfig):
    with contextlib.suppress(ConfigurationError):
      config.read(path, kind)


TARGETS = {target.__name__: target for target in (messages, frames, broadcasts, ledgers, settings)}
