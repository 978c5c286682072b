"""The bytes of every message. Little-endian; one form for each content, all else is refused.

A message is a header of 48 bytes and a body. The header: magic `TPSA`, version u8,
type u8, flags u16, session id 32, number u32, length of the body u32. The number is
the sender's id upward, and downward the number of clients that advertised, which the
receiver needs to compute k and t. Sizes are compared before anything is allocated.

    round     client to server                        server to client
    0 keys    c_pk, s_pk, nonce 16, [sig]             k x (id u32, the same, [sig])
    1 shares  commitment 32, {c}, k x ciphertext,     bitmap, their ciphertexts, {their c},
              (offers for greater ids)                (the lower ids' offers, in part)
    2 masked  leaves u32, complaint bytes u32,
              leaves x (count u32, b u8, 000),
              packed words, complaint bitmap, [sig]
    3 [set]   sig of the survivors' digest            bitmap of survivors among all
    4 unmask  bitmap of answers, 34 bytes each        bitmap of survivors, or [U4 x (id, sig)]
    5 result  verdict u8                              statement, [sig], bitmap, {sum, tag sum}

[]: authenticated mode (round 5: a server with an identity, flag 1); {}: verify='mac'; ():
version 2. `Layout` has the sizes of keys, ciphertexts and offers.
"""

from tff_privacy_agg.secagg.wire.bodies import (
  Advertisement as Advertisement,
  Statement as Statement,
  Words as Words,
  decode_advertisement as decode_advertisement,
  decode_answers as decode_answers,
  decode_keys as decode_keys,
  decode_masked as decode_masked,
  decode_packed as decode_packed,
  decode_result as decode_result,
  decode_share_download as decode_share_download,
  decode_share_upload as decode_share_upload,
  decode_signatures as decode_signatures,
  encode_masked as encode_masked,
  masked_bytes as masked_bytes,
)
from tff_privacy_agg.secagg.wire.envelope import (
  HEADER as HEADER,
  SERVER as SERVER,
  SIGNED as SIGNED,
  Kind as Kind,
  Message as Message,
  decode as decode,
  decode_abort as decode_abort,
  encode as encode,
  encode_abort as encode_abort,
)
from tff_privacy_agg.secagg.wire.fields import (
  bitmap_bytes as bitmap_bytes,
  decode_bitmap as decode_bitmap,
  encode_bitmap as encode_bitmap,
  encode_entries as encode_entries,
  expect as expect,
  split_signature as split_signature,
)
