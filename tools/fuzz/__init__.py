"""Coverage-guided fuzzing of what reads bytes of others: `make fuzz`."""
