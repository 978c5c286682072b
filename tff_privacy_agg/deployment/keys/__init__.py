"""Keys of a deployment: made for a group, read from files, listed in a roster."""
