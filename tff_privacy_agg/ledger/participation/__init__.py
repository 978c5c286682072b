"""Who took part in the rounds: the register on the disk, and how often each client has."""
