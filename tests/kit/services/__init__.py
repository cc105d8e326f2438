"""Find or start the servers that the tests need."""
