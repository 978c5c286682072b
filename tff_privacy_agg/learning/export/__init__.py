"""After a training: its model, with the privacy card next to it."""
