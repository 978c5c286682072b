"""Real parties: a server and its clients, each a process of its own, over gRPC with mutual TLS.

`serve` and `take_part` run a whole training; `coordinator` and `participant` run sessions of
`secagg`, and `served_rounds` the rounds of a TFF process in them. Names load when they are first used.
"""

from typing import TYPE_CHECKING

from tff_privacy_agg._lazy import lazy_names

if TYPE_CHECKING:
  from tff_privacy_agg.deployment.config_sections import (
    ClientPolicy as ClientPolicy,
    Keys as Keys,
    Session as Session,
  )
  from tff_privacy_agg.deployment.coordinator import Coordinator as Coordinator
  from tff_privacy_agg.deployment.events import Events as Events
  from tff_privacy_agg.deployment.keys.authority import make_keys as make_keys
  from tff_privacy_agg.deployment.keys.member import Member as Member
  from tff_privacy_agg.deployment.keys.roster import Roster as Roster
  from tff_privacy_agg.deployment.participant import Participant as Participant
  from tff_privacy_agg.deployment.served_session import Deadlines as Deadlines
  from tff_privacy_agg.deployment.serving import serve as serve, take_part as take_part
else:
  __all__, __getattr__, __dir__ = lazy_names(__name__)
