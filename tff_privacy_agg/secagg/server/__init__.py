"""The server's side: the order of a session, what its clients send, the secrets it recovers."""
