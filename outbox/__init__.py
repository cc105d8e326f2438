"""Transactional outbox: events that are published if and only if their transaction commits.

Safe to import before Django's apps are loaded.
"""

from outbox.acknowledging.reading import GroupState, aacknowledgements, acknowledgements
from outbox.exceptions import (
    AccessDenied,
    ConfigurationError,
    EmitError,
    InEventLoop,
    InvalidEvent,
    InvalidMessageId,
    NoResult,
    OtherRequest,
    OutboxError,
    PayloadTooLarge,
    RequestCancelled,
    RequestExpired,
    RequestFailed,
    StillPending,
    TransactionRequired,
    UndecodableMessage,
    UnknownEventType,
    UnknownRequest,
    WaitingInTransaction,
)
from outbox.message.acknowledgements import Acknowledge
from outbox.message.context import Context, current_context, use_context
from outbox.message.envelope import Envelope
from outbox.message.event_types import EventType, event, register
from outbox.producer.drafting import Draft
from outbox.producer.emit import aemit, aemit_many, emit, emit_many
from outbox.producer.recording import EmitsEvents
from outbox.producer.scheduling import acancel, cancel
from outbox.replies.asked import Asked
from outbox.replies.asking import aask, ask
from outbox.replies.declaring import request
from outbox.replies.progress import Progress
from outbox.replies.settled import Settled

__all__ = [
    "AccessDenied",
    "Acknowledge",
    "Asked",
    "ConfigurationError",
    "Context",
    "Draft",
    "EmitError",
    "EmitsEvents",
    "Envelope",
    "EventType",
    "GroupState",
    "InEventLoop",
    "InvalidEvent",
    "InvalidMessageId",
    "NoResult",
    "OtherRequest",
    "OutboxError",
    "PayloadTooLarge",
    "Progress",
    "RequestCancelled",
    "RequestExpired",
    "RequestFailed",
    "Settled",
    "StillPending",
    "TransactionRequired",
    "UndecodableMessage",
    "UnknownEventType",
    "UnknownRequest",
    "WaitingInTransaction",
    "aacknowledgements",
    "aask",
    "acancel",
    "acknowledgements",
    "aemit",
    "aemit_many",
    "ask",
    "cancel",
    "current_context",
    "emit",
    "emit_many",
    "event",
    "register",
    "request",
    "use_context",
]
