"""The way into the log: emit, record on models, schedule."""
