"""Transactional outbox: events that are published if and only if their transaction commits.

Safe to import before Django's apps are loaded.
"""

from outbox.context import Context, current_context, use_context
from outbox.emitting import Draft, aemit, aemit_many, emit, emit_many
from outbox.envelope import Envelope
from outbox.exceptions import (
    AccessDenied,
    ConfigurationError,
    EmitError,
    InvalidEvent,
    InvalidMessageId,
    OutboxError,
    PayloadTooLarge,
    TransactionRequired,
    UndecodableMessage,
    UnknownEventType,
)
from outbox.mixins import EmitsEvents
from outbox.registry import EventType, event, register
from outbox.scheduling import acancel, cancel

__all__ = [
    "AccessDenied",
    "ConfigurationError",
    "Context",
    "Draft",
    "EmitError",
    "EmitsEvents",
    "Envelope",
    "EventType",
    "InvalidEvent",
    "InvalidMessageId",
    "OutboxError",
    "PayloadTooLarge",
    "TransactionRequired",
    "UndecodableMessage",
    "UnknownEventType",
    "acancel",
    "aemit",
    "aemit_many",
    "cancel",
    "current_context",
    "emit",
    "emit_many",
    "event",
    "register",
    "use_context",
]
