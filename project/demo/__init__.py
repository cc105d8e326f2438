"""Put the three services to the test, and look at what became of it."""
