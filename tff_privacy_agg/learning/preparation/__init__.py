"""Before a training: its plan, the noise for its target, and what is refused."""
