"""Views folded from the log, with checkpoints; they can always be rebuilt from it."""
