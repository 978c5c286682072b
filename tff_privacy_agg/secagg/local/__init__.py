"""A whole session on one machine: its clients here or in processes of their own."""
