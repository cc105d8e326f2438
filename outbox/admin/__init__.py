"""The admin of the outbox: messages of the log, and what waits for its time."""

from outbox.admin import acknowledgements, breaks, messages, messaging, requests, scheduled

__all__ = ["acknowledgements", "breaks", "messages", "messaging", "requests", "scheduled"]
