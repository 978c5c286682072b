"""Real parties: a server and its clients, each a process of its own, over gRPC with mutual TLS.

`coordinator` and `participant` run sessions of `secagg`; `served_rounds` runs a TFF process in
them. Names load when they are first used.
"""

from tff_privacy_agg._lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
  __name__,
  {
    'deployment.coordinator': ('Coordinator',),
    'deployment.participant': ('Member', 'Participant'),
    'deployment.served_session': ('Deadlines',),
    'deployment.tls': ('Roster', 'make_keys'),
  },
)
