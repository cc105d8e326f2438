"""A project with users of its own: no names, a UUID as key, a number to log in with."""
