"""Secure aggregation: a server learns the sum of many vectors, and no vector.

Double masking after Bonawitz et al. (CCS 2017) on the complete graph, and on the
k-regular ring after Bell et al. (CCS 2020). `Client` and `Server` are state machines
over bytes, without clock or socket; `run_in_memory` joins them for tests and
simulations. Needs no TensorFlow.
"""

from tff_privacy_agg.secagg.client.policy import Policy
from tff_privacy_agg.secagg.client.session import Client
from tff_privacy_agg.secagg.cost import CommunicationCost, communication_cost, paper_expansion
from tff_privacy_agg.secagg.errors import (
  BadShares,
  Blame,
  CapacityError,
  ClearAggregandError,
  ContextMismatch,
  DuplicateMessage,
  GraphMismatch,
  InconsistentSurvivors,
  InputOutOfRange,
  InvalidMessage,
  InvalidPublicKey,
  LateMessage,
  NotEnoughClients,
  NotEnoughShares,
  RoundTimeout,
  SecAggError,
  SenderMismatch,
  SessionAborted,
  SignatureInvalid,
  UnknownClient,
  UnsafeParameters,
  UnsafeUnmaskRequest,
  UnsupportedModulusError,
  VerificationFailed,
  WrongRound,
)
from tff_privacy_agg.secagg.leaves import (
  Leaf,
  bits_of_bitwidth,
  bits_of_max_input,
  bits_of_modulus,
)
from tff_privacy_agg.secagg.local.session import generate_identities, roster_of, run_in_memory
from tff_privacy_agg.secagg.params import SessionParams, context_digest
from tff_privacy_agg.secagg.receipts import Receipt, is_equivocation
from tff_privacy_agg.secagg.results import Aggregate, SessionResult
from tff_privacy_agg.secagg.rounds import Round
from tff_privacy_agg.secagg.server.session import Server
from tff_privacy_agg.secagg.thresholds import GraphParameters, find_parameters

__all__ = [
  'Aggregate',
  'BadShares',
  'Blame',
  'CapacityError',
  'ClearAggregandError',
  'Client',
  'CommunicationCost',
  'ContextMismatch',
  'DuplicateMessage',
  'GraphMismatch',
  'GraphParameters',
  'InconsistentSurvivors',
  'InputOutOfRange',
  'InvalidMessage',
  'InvalidPublicKey',
  'LateMessage',
  'Leaf',
  'NotEnoughClients',
  'NotEnoughShares',
  'Policy',
  'Receipt',
  'Round',
  'RoundTimeout',
  'SecAggError',
  'SenderMismatch',
  'Server',
  'SessionAborted',
  'SessionParams',
  'SessionResult',
  'SignatureInvalid',
  'UnknownClient',
  'UnsafeParameters',
  'UnsafeUnmaskRequest',
  'UnsupportedModulusError',
  'VerificationFailed',
  'WrongRound',
  'bits_of_bitwidth',
  'bits_of_max_input',
  'bits_of_modulus',
  'communication_cost',
  'context_digest',
  'find_parameters',
  'generate_identities',
  'is_equivocation',
  'paper_expansion',
  'roster_of',
  'run_in_memory',
]
