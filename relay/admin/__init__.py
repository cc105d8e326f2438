"""The admin of the relay: messages with their state, parked messages, checkpoints; and pages."""

from relay.admin import checkpoints, messages, pages, parked

__all__ = ["checkpoints", "messages", "pages", "parked"]
