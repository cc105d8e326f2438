"""See the flow: which message caused which, what became of each, and who handles what."""
