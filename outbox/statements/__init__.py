"""Statements: what was sent to a group and what it has had, compared bucket by bucket."""
