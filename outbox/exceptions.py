"""Everything that this project raises on purpose.

OutboxError
├── ConfigurationError          (also django.core.exceptions.ImproperlyConfigured)
├── AccessDenied
├── InvalidMessageId            (also ValueError)
├── EmitError
│   ├── TransactionRequired
│   └── InvalidEvent            (also ValueError)
│       ├── UnknownEventType
│       └── PayloadTooLarge
└── UndecodableMessage          (also ValueError)
"""

from django.core.exceptions import ImproperlyConfigured


class OutboxError(Exception):
    """Base of all errors of django-outbox-inbox."""


class ConfigurationError(OutboxError, ImproperlyConfigured):
    """A setting, a registration or a database cannot work as it is."""


class AccessDenied(OutboxError):
    """Broker or database is there and does not let us in; the text says what it refuses."""


class InvalidMessageId(OutboxError, ValueError):
    """What was given as a message's id is none."""


class EmitError(OutboxError):
    """An event was refused before anything was written."""


class TransactionRequired(EmitError):
    """emit() was called outside a transaction, where event and data could not commit together."""


class InvalidEvent(EmitError, ValueError):
    """The event, its key or one of its attributes cannot be published as it is."""


class UnknownEventType(InvalidEvent):
    """No event type of this name and version is registered."""


class PayloadTooLarge(InvalidEvent):
    """The encoded event is larger than OUTBOX["MAX_DATA_BYTES"]."""


class UndecodableMessage(OutboxError, ValueError):
    """A received message is not a CloudEvent, or its data does not fit its event type."""
