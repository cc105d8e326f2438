"""Everything that this project raises on purpose.

OutboxError
├── ConfigurationError          (also django.core.exceptions.ImproperlyConfigured)
│   ├── UnknownName
│   └── UnusableSettings
├── AccessDenied
├── ImmutableRow
├── InEventLoop                 (also django.core.exceptions.SynchronousOnlyOperation)
├── InvalidSignature            (also ValueError)
├── InvalidMessageId            (also ValueError)
├── NeverEnds                   (also AssertionError)
├── NotInTests                  (also AssertionError)
├── NoResult
│   ├── StillPending            (also TimeoutError)
│   ├── RequestFailed
│   ├── RequestExpired
│   └── RequestCancelled
├── OtherRequest                (also ValueError)
├── UnknownRequest              (also LookupError)
├── WaitingInTransaction
├── EmitError
│   ├── TransactionRequired
│   └── InvalidEvent            (also ValueError)
│       ├── UnknownEventType
│       └── PayloadTooLarge
├── UndecodableMessage          (also ValueError)
├── UnknownConversation         (also LookupError)
└── UnusableFilter              (also ValueError)
"""

from collections.abc import Sequence
from functools import partial

from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation


class OutboxError(Exception):
    """Base of all errors of django-outbox-inbox."""


class ConfigurationError(OutboxError, ImproperlyConfigured):
    """A setting, a registration or a database cannot work as it is."""


class UnknownName(ConfigurationError):
    """A relay or a group was named that there is not; the text has those that there are."""


class UnusableSettings(ConfigurationError):
    """Several values of a settings dict cannot be used; `flaws` has the text of each."""

    @property
    def flaws(self) -> tuple[str, ...]:
        return self.args

    def __str__(self) -> str:
        return "\n".join(self.flaws)


class AccessDenied(OutboxError):
    """Broker or database is there and does not let us in; the text says what it refuses."""


class ImmutableRow(OutboxError):
    """A message or a checkpoint was to be changed; they are facts, and only ever added."""


class InEventLoop(OutboxError, SynchronousOnlyOperation):
    """A coroutine called what writes to the database; the text says what to await instead."""


class InvalidSignature(OutboxError, ValueError):
    """A callback that came in is not signed by whoever it should be from, or not just now."""


class InvalidMessageId(OutboxError, ValueError):
    """What was given as a message's id is none."""


class NeverEnds(OutboxError, AssertionError):
    """What handlers emit leads to ever more messages; the text says which go round."""


class NotInTests(OutboxError, AssertionError):
    """A test would reach a real broker, or run a relay that sees nothing; the text says why."""


class WaitingInTransaction(OutboxError):
    """A transaction waits for the answer to what it, or a handler in it, has yet to send."""


class UnknownRequest(OutboxError, LookupError):
    """There is no such request here: it is none, another service asked it, or it was pruned."""


class OtherRequest(OutboxError, ValueError):
    """An idempotency key was used before, for a request that says something else."""


class NoResult(OutboxError):
    """A request has no result. `request_id` names it, `replies` are those that did come."""

    def __init__(self, text: str, *, request_id: str, replies: Sequence[object] = ()) -> None:
        super().__init__(text)
        self.request_id = request_id
        self.replies = tuple(replies)

    def __reduce__(self) -> tuple[object, ...]:
        # For copies, and for other processes: the options are known by their names alone.
        return partial(type(self), request_id=self.request_id, replies=self.replies), self.args


class StillPending(NoResult, TimeoutError):
    """Not yet: the answer can still come, and can be asked for again."""


class RequestFailed(NoResult):
    """A handler has failed on the request for good; the text says with what."""


class RequestExpired(NoResult):
    """The deadline has passed before there were enough replies."""


class RequestCancelled(NoResult):
    """The request was cancelled before it was answered."""


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


class UnknownConversation(OutboxError, LookupError):
    """No message here has the id or key that was asked for."""


class UnusableFilter(OutboxError, ValueError):
    """A filter cannot be used: why, from where to where in its text, and what is possible there."""

    def __init__(
        self, reason: str, *, start: int = 0, end: int = 0, possible: Sequence[str] = ()
    ) -> None:
        super().__init__(reason, start, end, possible)
        self.reason = reason
        self.start = start
        self.end = end
        self.possible = tuple(possible)

    def __str__(self) -> str:
        possible = f" Possible: {', '.join(self.possible)}." if self.possible else ""
        return f"{self.reason}{possible} (at character {self.start + 1})"
