"""The admin of the relay: messages with their state, parked messages, checkpoints."""

from relay.admin import checkpoints, messages, parked

__all__ = ["checkpoints", "messages", "parked"]
