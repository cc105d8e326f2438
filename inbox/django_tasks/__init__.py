"""A backend for Django's tasks: the outbox carries them, the inbox runs them."""
