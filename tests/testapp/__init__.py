"""An app for tests with real processes: one event, one handler, one table of its effects."""
