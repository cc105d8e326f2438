"""The admin of the outbox: messages of the log, and what waits for its time."""

from outbox.admin import messages, messaging, requests, scheduled

__all__ = ["messages", "messaging", "requests", "scheduled"]
