"""Header and type of every message, and the one message that every round may carry: an abort."""

import enum
import struct
from typing import NamedTuple

from tff_privacy_agg.secagg.errors import InvalidMessage, SecAggError
from tff_privacy_agg.secagg.layout import VERSIONS
from tff_privacy_agg.secagg.primitives.keys import Buffer
from tff_privacy_agg.secagg.rounds import Round
from tff_privacy_agg.secagg.wire.fields import expect

HEADER = struct.Struct('<4sBBH32sII')
MAGIC, VERSION = b'TPSA', VERSIONS[-1]
LARGEST_ABORT_TEXT = 256
LARGEST_ABORT_NAMES = 16
SIGNED = 1
# The sender that the server's signatures name.
SERVER = 0


class Kind(enum.IntEnum):
  """Type of a message; the lower four bits of those below 128 are its round."""

  ADVERTISE = 0
  SHARE = 1
  MASKED = 2
  CONSISTENCY = 3
  UNMASK = 4
  VERDICT = 5
  KEYS = 16
  SHARES = 17
  SURVIVORS = 19
  UNMASK_REQUEST = 20
  RESULT = 21
  ABORT = 255

  @property
  def round(self) -> Round:
    """The round to which a message of this type belongs."""
    return Round(self & 15)


class Message(NamedTuple):
  """A message whose header has been checked."""

  kind: Kind
  flags: int
  number: int
  body: memoryview


class Abort(NamedTuple):
  """Why a party has left: code of the error, ids of the clients that it concerns, its text."""

  code: int
  clients: tuple[int, ...]
  text: str


def encode(
  kind: Kind,
  session_id: bytes,
  number: int,
  *body: Buffer,
  flags: int = 0,
  version: int = VERSION,
) -> bytes:
  """Puts the header before a body, which may come in parts."""
  size = sum(map(len, body))
  return b''.join([HEADER.pack(MAGIC, version, kind, flags, session_id, number, size), *body])


def decode(data: bytes | bytearray, session_id: bytes, version: int = VERSION) -> Message:
  """Checks a header and returns the message; the body is not copied.

  Raises:
    InvalidMessage: If this is no message of this session.
  """
  if not isinstance(data, bytes | bytearray):
    raise InvalidMessage(f'Bytes were expected, got {type(data).__name__}.')
  view = memoryview(data).toreadonly()
  if len(view) < HEADER.size:
    raise InvalidMessage(f'A message has at least {HEADER.size} bytes, got {len(view)}.')
  magic, given, kind, flags, session, number, length = HEADER.unpack_from(view)
  if magic != MAGIC or given != version:
    raise InvalidMessage(f'Messages of version {version} were expected, got another format.')
  try:
    kind = Kind(kind)
  except ValueError:
    raise InvalidMessage(f'There is no message of type {kind}.') from None
  if flags & ~(SIGNED if kind is Kind.RESULT else 0):
    raise InvalidMessage(f'A message of type {kind.name} has unknown flags {flags:#x}.')
  if session != session_id:
    raise InvalidMessage('The message belongs to another session.')
  body = view[HEADER.size :]
  expect(body, length, 'the body that the header announces')
  return Message(kind, flags, number, body)


def encode_abort(
  session_id: bytes, number: int, error: SecAggError, version: int = VERSION
) -> bytes:
  """Code and text of an error, both ways, in any round; from version 2 on, whom it concerns."""
  body = struct.pack('<H', error.code)
  if version > 1:
    named = error.clients[:LARGEST_ABORT_NAMES]
    body += struct.pack(f'<B{len(named)}I', len(named), *named)
  body += str(error).encode('ascii', 'replace')[:LARGEST_ABORT_TEXT]
  return encode(Kind.ABORT, session_id, number, body, version=version)


def decode_abort(body: memoryview, version: int = VERSION) -> Abort:
  """Decodes an abort; replaces characters that could confuse a terminal or a log."""
  head = 2 if version == 1 else 3
  count = 0 if version == 1 or len(body) < head else body[2]
  start = head + 4 * count
  if count > LARGEST_ABORT_NAMES or not start <= len(body) <= start + LARGEST_ABORT_TEXT:
    raise InvalidMessage(
      f'An abort has a code, up to {LARGEST_ABORT_NAMES} ids and {LARGEST_ABORT_TEXT} bytes of text.'
    )
  text = bytes(body[start:]).decode('ascii', 'replace')
  return Abort(
    struct.unpack_from('<H', body)[0],
    struct.unpack_from(f'<{count}I', body, head),
    ''.join(c if c.isprintable() else '?' for c in text),
  )
