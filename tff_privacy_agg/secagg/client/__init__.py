"""One client's side: what it insists on, its secrets, what the server shows it, its messages."""
