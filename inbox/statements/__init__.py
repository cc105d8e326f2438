"""The receiver's side of statements: what a group has had, and what it answers."""
