"""The exceptions of this package.

    PrivacyAggError
    ├── CompositionError (TypeError)      layers that do not fit together, or a value type they cannot take
    ├── ConfigurationError (ValueError)   an argument outside its range, or a design that cannot exist
    └── RuntimeUnavailableError (RuntimeError)   no execution context that can run secure sums

Every message says what was asked, what was found, and how to mend it, one
sentence each.
"""


class PrivacyAggError(Exception):
  """Base class of every error that this package raises on purpose."""


class CompositionError(PrivacyAggError, TypeError):
  """Layers do not fit together, or cannot take the given value type."""


class ConfigurationError(PrivacyAggError, ValueError):
  """An argument is outside its range, or no design satisfies the request."""


class RuntimeUnavailableError(PrivacyAggError, RuntimeError):
  """The TFF runtime that is installed cannot run the computation."""
