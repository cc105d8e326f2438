"""Where migrations of before find EmitsEvents; new ones name `outbox.EmitsEvents`."""

from outbox.producer.recording import EmitsEvents

__all__ = ["EmitsEvents"]
