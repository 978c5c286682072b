"""The exceptions of this package.

    PrivacyAggError
    ├── CompositionError (TypeError)      layers that do not fit together, or a value type they cannot take
    ├── ConfigurationError (ValueError)   an argument outside its range, or a design that cannot exist
    ├── LedgerError                       a ledger that cannot be read, written or believed
    ├── BudgetExceededError               the next round could spend more than the budget
    └── RuntimeUnavailableError (RuntimeError)   no execution context that can run secure sums

Every message says what was asked, what was found, and how to fix it, one
sentence each.
"""


class PrivacyAggError(Exception):
  """Base class of every error that this package raises on purpose."""


class CompositionError(PrivacyAggError, TypeError):
  """Layers do not fit together, or cannot take the given value type."""


class ConfigurationError(PrivacyAggError, ValueError):
  """An argument is outside its range, or no design satisfies the request."""


class LedgerError(PrivacyAggError):
  """A privacy ledger cannot be read, written or believed, or a round contradicts it."""


class BudgetExceededError(PrivacyAggError):
  """The next round could spend more than the privacy budget, so it must not run."""


class RuntimeUnavailableError(PrivacyAggError, RuntimeError):
  """The TFF runtime that is installed cannot run the computation."""
