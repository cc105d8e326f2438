"""What runs in the peers' environment; imports nothing of this project."""
