"""What the checkpoints say, derived and read only: states, progress, sessions."""
