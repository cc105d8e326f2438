"""Messages that the broker refused: keep them, try them again, let people decide."""
