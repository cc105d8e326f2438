"""The port to a broker: publish a page, return what became of each message."""

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, MutableSequence, Sequence
from enum import StrEnum
from typing import Any, ClassVar, Literal, NamedTuple, Self

from django.core.checks import CheckMessage, Error

from outbox.conf import flaws_of
from outbox.error_text import describe, log
from outbox.exceptions import ConfigurationError
from outbox.extensions.diagnosis import Finding
from outbox.interrupts import is_interrupt
from outbox.message.envelope import Envelope

logger = logging.getLogger("relay")


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
    UNSENT = "unsent"
    """Not sent: the time of the page was over before it was its turn."""
    LATER = "later"
    """Not now: its receiver has not answered yet, or has had no room for it. Parked for a while,
    which is nobody's fault and counts as no attempt."""
    UNKNOWN = "unknown"
    """No word before the connection or the time ran out; it may have arrived."""


class Outcome(NamedTuple):
    """What became of one message, and why.

    One that is parked for it is not tried again before `after` seconds, or not at all if the
    refusal is `final`: a person decides.
    """

    status: Status
    reason: str = ""
    after: float = 0.0
    final: bool = False


CONFIRMED = Outcome(Status.CONFIRMED)

UNSENT = Outcome(Status.UNSENT, "the time of its page was over")

SKIPPED = Outcome(Status.CONFIRMED, "another relay's business")
"""Not sent by this relay; counts as done."""


class Depth(NamedTuple):
    """What a broker says of a queue: how many messages wait in it, and how many consume it."""

    ready: int = 0
    consumers: int = 0
    exists: bool = True


EXPOSURE = ("relay.W010", "relay.W011", "relay.W012")
"""Ids for outbox.amqp.exposure."""


def hold(page: Sequence[Envelope], refused: Mapping[int, Outcome]) -> dict[int, Outcome]:
    """Return refused messages of a page, by index, and those that wait behind one of their key."""
    found: dict[int, Outcome] = {}
    stopped: dict[str, str] = {}
    for index, message in enumerate(page):
        if (outcome := refused.get(index)) is not None:
            found[index] = outcome
            if message.key is not None:
                stopped.setdefault(message.key, message.id)
        elif message.key is not None and message.key in stopped:
            found[index] = behind(stopped[message.key])
    return found


def behind(message_id: str) -> Outcome:
    """Return the outcome of what waits behind a refused message of its key."""
    return Outcome(Status.HELD, f"an earlier message of its key was refused: {message_id}")


def hold_behind(
    page: Sequence[Envelope], outcomes: MutableSequence[Outcome | None], index: int
) -> int:
    """Hold what has no outcome yet behind a refused message of its key; return how many."""
    refused = page[index]
    held, count = behind(refused.id), 0
    for later in range(index + 1, len(page)):
        if page[later].key == refused.key and outcomes[later] is None:
            outcomes[later] = held
            count += 1
    return count


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

    addresses_queues: bool = False
    """It can publish to the queue of one group alone: publish_to() and depth_of(). What is not
    acknowledged in time is sent again so."""

    carries_events: ClassVar[bool] = True
    """It can publish events."""
    carries_tasks: ClassVar[bool] = False
    """It can publish Celery tasks; see outbox.message.celery_task for what they look like."""

    carries_callbacks: ClassVar[bool] = False
    """It can POST callbacks; such a broker gets nothing else, and no other broker gets those.

    A kind of messages that comes later has a capability of this form as well: carries_<plural>."""

    messaging_system: str = "outbox"
    """What OpenTelemetry calls it, as `messaging.system`."""

    runs_handlers: ClassVar[bool] = False
    """It runs handlers within publish(), in the relay's transaction."""

    page_size: ClassVar[int] = 1000
    """How many messages to publish between two checkpoints, unless PAGE_SIZE says otherwise."""
    messages: Literal["all", "events", "tasks"] = "all"
    """What of the log is this relay's business; set by the relay."""

    page_seconds: float = math.inf
    """How long publish() sends, in seconds; set by the relay."""

    waited: float = 0.0
    """Seconds that publish() has waited for whom a smaller page would not have made quicker."""

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
        """Connect; publish() would as well.

        Raises AccessDenied if the broker is there and does not let us in, ConfigurationError if
        what it has is none of what is needed. What else is raised counts as the broker being away.
        """

    @abstractmethod
    def publish(self, page: Sequence[Envelope]) -> list[Outcome]:
        """Publish messages, in order per key, and return one outcome for each, in order.

        A broker that is away is an outcome (unknown), not an exception. An exception, and a wrong
        number of outcomes, tells nothing about any message of the page. What is unknown is
        published again in pieces: one message that fails again while others pass is refused.

        When `page_seconds` are over and the first message has its outcome, nothing more is sent:
        what is left is UNSENT, and comes with the next page. A broker that knows nothing of that
        gets smaller pages.
        """

    def publish_to(self, queue: str, page: Sequence[Envelope]) -> list[Outcome]:
        """Publish messages to one queue and no other, and return one outcome for each, in order.

        Unroutable is what reaches none of that name. For a broker that `addresses_queues`.
        """
        raise NotImplementedError

    def depth_of(self, queue: str) -> Depth | None:
        """Return what the broker says of a queue, None if it may not be asked.

        What is raised counts as the broker being away. For a broker that `addresses_queues`.
        """
        raise NotImplementedError

    def keep_alive(self) -> None:  # noqa: B027 - most brokers have nothing to do
        """Do what an idle connection needs; called about once a second, outside of transactions,
        and when idle every POLL_INTERVAL.

        May raise what the database raises when it is away. What else is raised counts as the
        broker being away.
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
            return unusable(name, exc)
        return []

    @classmethod
    def check_deployment(
        cls, name: str, url: str, options: Mapping[str, Any]
    ) -> list[CheckMessage]:
        """Return what `check --deploy` tells about a relay's settings that can be used."""
        return []


def unusable(name: str, exc: ConfigurationError) -> list[CheckMessage]:
    """Return E002 for each thing that is wrong with a relay's URL and OPTIONS."""
    return [Error(f"RELAYS[{name!r}]: {flaw}", id="relay.E002") for flaw in flaws_of(exc)]


def close(broker: Broker) -> None:
    """Let a broker go, and tell what it raises: it is the end in any case."""
    try:
        broker.close()
    except BaseException as exc:
        if is_interrupt(exc):
            raise
        log(logger, logging.WARNING, "Error while closing the broker: %s", describe(exc), exc=exc)


def address_of(broker: Broker) -> str:
    """Return where a broker is, for people, or that it does not say so."""
    try:
        return f"{broker.address}"
    except BaseException as exc:
        if is_interrupt(exc):
            raise
        return f"<no address: {describe(exc, 200)}>"
