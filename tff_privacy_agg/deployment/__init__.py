"""Real parties: a server and its clients, each a process of its own, over gRPC with mutual TLS.

`serve` and `take_part` run a whole training; `coordinator` and `participant` run sessions of
`secagg`, and `served_rounds` the rounds of a TFF process in them. Names load when they are first used.
"""

from tff_privacy_agg._lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
  __name__,
  {
    'deployment.config': ('ClientPolicy', 'Keys', 'Session'),
    'deployment.coordinator': ('Coordinator',),
    'deployment.events': ('Events',),
    'deployment.participant': ('Member', 'Participant'),
    'deployment.served_session': ('Deadlines',),
    'deployment.serving': ('serve', 'take_part'),
    'deployment.tls': ('Roster', 'make_keys'),
  },
)
