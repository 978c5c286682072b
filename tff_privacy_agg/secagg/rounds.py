"""The rounds of the protocol, named for what the clients send in them."""

import enum


class Round(enum.IntEnum):
  """A round; its number is in the messages' types and under the signatures."""

  KEYS = 0
  SHARES = 1
  MASKED = 2
  CONSISTENCY = 3
  UNMASK = 4
  RESULT = 5
