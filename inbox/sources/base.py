"""The port to where a group's messages come from: open, read, settle; adapters are beside it.

A broker is added by an adapter, a line in inbox.sources.adapters, and its place in
tests/conformance/test_sources.py. What hands messages over by itself, in a transaction of its own,
as the local broker does, is no source: there is nothing to read and nothing to settle.

    SourceAway
    ├── SourceDenied
    └── SourceEnded
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from inbox.conf import InboxSettings
from inbox.delivery import Delivery
from outbox.exceptions import OutboxError


class SourceAway(OutboxError):
    """A source cannot be reached, or is lost; its text is the reason, without credentials."""


class SourceDenied(SourceAway):
    """A source is there and does not let us in; its text says what it refuses and what to do."""


class SourceEnded(SourceAway):
    """A source is there and delivers nothing more, as when the queue was deleted."""


class Place(NamedTuple):
    """Where a group's messages wait, and what they come from."""

    queue: str
    exchange: str


class Declared(NamedTuple):
    """What a broker has done: it may refuse a part of what it was asked for."""

    bound: frozenset[str]
    unbound: frozenset[str]


@dataclass(slots=True)
class Incoming:
    """A delivery, about how many bytes of memory it takes, and by what its source settles it."""

    delivery: Delivery
    weight: int
    tag: Any


class Source(ABC):
    """A group's messages, on a connection of its own. Used by one thread at a time.

    Each message is delivered at least once: what was not settled comes again, on the next
    connection or to another consumer of the group, and then `redelivered` is set, or may be. Order
    is what the broker keeps; nothing here relies on it.

    The methods raise SourceAway when the connection is gone, and it is of no use any more then:
    whoever consumes drops it and opens another one. They raise no error of a client library.
    """

    system: str = ""
    """What OpenTelemetry calls the broker, as `messaging.system`; "" if it has no name for it."""

    arrived: deque[Incoming]
    """What was read and not settled, oldest first. Not more than PREFETCH and PREFETCH_BYTES say,
    but for one message that is larger by itself; events of one message stand side by side."""

    @abstractmethod
    def __init__(self, group: str, *, url: str, conf: InboxSettings) -> None:
        """Note where the group's messages are; raise ConfigurationError for a URL of no use.

        Opens no connection.
        """

    @property
    @abstractmethod
    def address(self) -> str:
        """Where the broker is, without credentials, for people."""

    @property
    @abstractmethod
    def place(self) -> Place:
        """Where the group's messages wait."""

    @property
    @abstractmethod
    def contact(self) -> datetime:
        """Until when the queue was there for certain, once it is open; earlier, never later."""

    @abstractmethod
    def connect(self) -> bool:
        """Connect, and return whether the queue is there; nothing is declared yet."""

    @abstractmethod
    def open(self, topics: Collection[str], *, gone: Collection[str] = ()) -> Declared:
        """Declare queue and bindings, and begin to receive; connects if that has not been done.

        `topics` are patterns as in outbox.message.patterns. Of `gone` the queue gets nothing any
        more. What we may not bind or unbind is not in what is returned, and no error. Raises
        ConfigurationError for an exchange that cannot be used.
        """

    @abstractmethod
    def read(self, seconds: float) -> None:
        """Wait up to `seconds` for messages, and take what is there into `arrived`.

        Returns early when something arrives. Keeps the connection alive. To be called when all that
        has arrived is settled: beyond its bound it may take one more.
        """

    @abstractmethod
    def settle(self, count: int) -> None:
        """Acknowledge the first `count` of `arrived`, which have been handled for good.

        A message of several events is acknowledged with the last of them.
        """

    @abstractmethod
    def is_empty(self) -> bool:
        """Tell whether nothing waits in the queue and nothing of it has arrived.

        What other consumers hold unsettled does not count.
        """

    @abstractmethod
    def idle(self) -> AbstractContextManager[None]:
        """Keep the connection alive during a block, which does not use the source."""

    @abstractmethod
    def close(self) -> None:
        """End in an orderly way: settlements on their way arrive. Raises nothing; may be repeated.

        What has arrived and was not settled is delivered again.
        """

    @abstractmethod
    def drop(self) -> None:
        """End at once, as a broken connection gives no answer. Raises nothing; may be repeated."""
