"""The port to a broker: publish a page, return what became of each message."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, Literal, NamedTuple, Self

from django.core.checks import CheckMessage, Error

from outbox.envelope import Envelope
from outbox.exceptions import ConfigurationError
from outbox.health import Finding


class Status(StrEnum):
    """What a broker said about one message."""

    CONFIRMED = "confirmed"
    """The broker has taken responsibility for it."""
    NACKED = "nacked"
    """The broker refused it."""
    UNROUTABLE = "unroutable"
    """The broker took it, but no queue is bound for its topic."""
    REFUSED = "refused"
    """The broker closed the channel over it: too large, say."""
    FAILED = "failed"
    """Its handler failed, where the broker runs handlers itself."""
    HELD = "held"
    """Not sent: an earlier message of its key was refused."""
    UNKNOWN = "unknown"
    """No word before the connection or the time ran out; it may have arrived."""


class Outcome(NamedTuple):
    status: Status
    reason: str = ""


CONFIRMED = Outcome(Status.CONFIRMED)

SKIPPED = Outcome(Status.CONFIRMED, "another relay's business")
"""Not sent by this relay; counts as done."""


class Broker(ABC):
    """Where a relay publishes.

    The four capabilities say what the broker can promise; a relay warns about what is missing.
    A broker is used by one thread. Not promised: that a message with an unknown outcome did not
    arrive; it is published again, and receivers deduplicate.
    """

    confirms: ClassVar[bool] = False
    """A confirmed message is in the broker's own care."""
    ordered: ClassVar[bool] = False
    """Messages of one key reach a queue in the order of the page."""
    durable: ClassVar[bool] = False
    """A confirmed message survives a restart of the broker."""
    routable_check: ClassVar[bool] = False
    """A message that reaches no queue is reported as unroutable."""

    carries_events: ClassVar[bool] = True
    """It can publish events."""
    carries_tasks: ClassVar[bool] = False
    """It can publish Celery tasks; see outbox.celery.wire for what they look like."""

    page_size: ClassVar[int] = 1000
    """How many messages to publish between two checkpoints, unless PAGE_SIZE says otherwise."""
    messages: Literal["all", "events", "tasks"] = "all"
    """What of the log is this relay's business; set by the relay."""

    hold_keys: bool = True
    """Whether messages behind a refused one of their key are held back; set by the relay."""

    denied: bool = False
    """Whether the broker was there and did not let us in, when it was tried last."""

    @classmethod
    @abstractmethod
    def from_settings(cls, url: str, options: Mapping[str, Any], *, using: str) -> Self:
        """Build a broker from a relay's URL and OPTIONS; raise ConfigurationError if it can't.

        `using` is the alias of the database whose log is read. Opens no connection.
        """

    def open(self) -> None:  # noqa: B027 - most brokers have nothing to do
        """Connect, if the broker is there; publish() would as well.

        Raises AccessDenied if it is and does not let us in, ConfigurationError if what it has is
        none of what is needed.
        """

    @abstractmethod
    def publish(self, page: Sequence[Envelope]) -> list[Outcome]:
        """Publish messages, in order per key, and return one outcome for each, in order.

        A broker that is away is an outcome (unknown), not an exception.
        """

    def keep_alive(self) -> None:  # noqa: B027 - most brokers have nothing to do
        """Do what an idle connection needs; called about once a second, outside of transactions,
        and when idle every POLL_INTERVAL.

        May raise what the database raises when it is away.
        """

    def close(self) -> None:  # noqa: B027
        """Let go of connections; the next publish() opens new ones."""

    def examine(self, relay: str) -> Iterable[Finding]:
        """Return what can be told about the broker of a relay without side effects, if anything."""
        return ()

    @property
    @abstractmethod
    def address(self) -> str:
        """Where this broker is, without credentials, for people."""

    @classmethod
    def check(cls, name: str, url: str, options: Mapping[str, Any]) -> list[CheckMessage]:
        """Return system check messages about a relay's settings: E002 if they are unusable."""
        try:
            cls.from_settings(url, options, using="default")
        except ConfigurationError as exc:
            return [Error(f"RELAYS[{name!r}]: {exc}", id="relay.E002")]
        return []
