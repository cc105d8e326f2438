"""Rows of the inbox's tables, as they are written and read."""

from datetime import datetime
from typing import Any, NamedTuple

from inbox.delivery import Delivery
from inbox.handlers.ordering import LineKey, place_stored
from inbox.handlers.registry import Handler
from inbox.ledger.attempts import Attempt, add
from inbox.ledger.sql.receipts import SETTLEMENT_COLUMNS
from inbox.states import Reason, State

Row = tuple[Any, ...]

Claim = tuple[str, str, str]
"""message id, handler, source: what a receipt is unique by."""


class MessageName(NamedTuple):
    """What a message is called in logs and errors."""

    id: str
    type: str = ""

    def __str__(self) -> str:
        return f"{self.type} {self.id}" if self.type else self.id


class Settlement(NamedTuple):
    """What became of a message with a handler: the next state of its receipt, and why.

    `delay` in seconds until it is due, None for never by itself. `attempt` is the call that it
    follows from, if there was one; `seconds` is how long that took. `time` is that of a message
    that was processed. `instance` is the key of the instance of a process to which it belongs.
    """

    handler: Handler
    message: MessageName
    state: State
    attempts: int = 0
    delay: float | None = None
    reason: Reason | None = None
    error: str | None = None
    traceback: str | None = None
    attempt: Attempt | None = None
    last_attempts: str | None = None
    exc: BaseException | None = None
    seconds: float | None = None
    time: datetime | None = None
    instance: str | None = None

    def because(self, reason: Reason, error: str) -> "Settlement":
        """Return the same with another reason."""
        return self._replace(reason=reason, error=error)

    def following(self, attempts: int, last_attempts: str | None) -> "Settlement":
        """Return the same behind what a receipt has kept of earlier attempts."""
        return self._replace(
            attempts=max(attempts, self.attempts),
            last_attempts=add(last_attempts, self.attempt),
        )

    def columns(self) -> Row:
        """Return what is written of it."""
        return tuple(getattr(self, name) for name in SETTLEMENT_COLUMNS)


class Kept(NamedTuple):
    """What is written of a message that has just come in: KEPT_COLUMNS of sql.receipts."""

    id: int
    settlement: Settlement
    key: str | None = None
    place: int = 0
    topic: str | None = None
    content_type: str | None = None
    headers: str | None = None
    body: bytes | None = None

    def columns(self) -> Row:
        number, settlement, *message = self
        return (number, *settlement.columns(), *message)


class Settled(NamedTuple):
    """What became of a receipt that was due: SETTLED_COLUMNS of sql.receipts."""

    id: int
    settlement: Settlement

    def columns(self) -> Row:
        return (self.id, *self.settlement.columns())


class Due(NamedTuple):
    """A receipt that is due, without its message. A place of 0 means that it is locked."""

    id: int
    handler: str
    source: str
    key: str | None
    place: int
    begun: int

    @property
    def line(self) -> LineKey | None:
        return LineKey(self.handler, self.source, self.key or "") if self.place else None


class Noted(NamedTuple):
    """How many calls for a receipt have begun and not ended; whether one did a moment ago.

    One that `stops` holds up its line.
    """

    id: int
    begun: int
    rests: bool
    stops: bool


class Stored(NamedTuple):
    """A receipt with its message, as the database has it; `beyond` if that was too much to read.

    It has `waited` so many seconds since it came in.
    """

    id: int
    handler: str
    source: str
    key: str | None
    place: int
    message_id: str
    state: State
    attempts: int
    last_attempts: str | None
    has_time: bool
    is_due: bool
    topic: str | None
    content_type: str | None
    headers: str | None
    body: bytes | None
    beyond: bool
    waited: float | None

    @property
    def delivery(self) -> Delivery:
        return Delivery.from_stored(self.headers, self.body, self.content_type, self.topic)

    @classmethod
    def read(cls, row: Row) -> "Stored":
        """Return what a statement of sql.stored has read."""
        found = cls(*row)
        body = bytes(found.body) if found.body is not None else None
        return found._replace(
            state=State(found.state),
            has_time=bool(found.has_time),
            is_due=bool(found.is_due),
            beyond=bool(found.beyond),
            place=place_stored(found.place or 0),
            body=body,
        )
