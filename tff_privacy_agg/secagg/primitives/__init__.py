"""What the protocol is made of: keys and ciphers, masks, secret sharing, packed integers."""
