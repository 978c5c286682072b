"""Building blocks of the protocol: keys and ciphers, masks, secret sharing, packed integers."""
