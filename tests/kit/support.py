"""What tests of several packages share."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from amqp.basic_message import Message

import outbox
from outbox.message import cloudevents
from outbox.message.envelope import Envelope
from outbox.message.event_types import EventType, registry
from relay.brokers.base import CONFIRMED, Broker, Outcome, Status


@outbox.event("tests.counted", key="key")
@dataclass(frozen=True, slots=True)
class Counted:
    """An event that says which of its key it is."""

    key: str
    number: int


def amqp_message(envelope: Envelope) -> Message:
    """What a relay publishes, as py-amqp's own message: to change it, or to compare with."""
    return Message(
        envelope.data,
        message_id=envelope.id,
        content_type=envelope.content_type,
        delivery_mode=2,
        application_headers=cloudevents.to_headers(envelope),
    )


class RecordingBroker(Broker):
    """Keeps what it is given, in memory, and confirms it; `refuse` makes it say otherwise."""

    confirms = ordered = durable = routable_check = True

    def __init__(self) -> None:
        self.published: list[Envelope] = []
        self.pages: list[int] = []
        self.refuse: dict[str, Status] = {}
        self.offends: set[str] = set()
        """Messages over which the link breaks: of their pages what is in front gets through, and
        nothing is known."""
        self.away = ""
        self.breaks_after: int | None = None
        """How many messages get through until the link breaks for the rest."""
        self.before_confirming: Callable[[], object] | None = None
        self.lock = threading.Lock()

    @classmethod
    def from_settings(cls, url: str, options: Mapping[str, Any], *, using: str) -> Self:
        return cls()

    def publish(self, page: Sequence[Envelope]) -> list[Outcome]:
        with self.lock:
            if self.away:
                return [Outcome(Status.UNKNOWN, self.away) for _ in page]
            if self.breaks_after is not None:
                got, lost = page[: self.breaks_after], page[self.breaks_after :]
                self.published += got
                self.breaks_after -= len(got)
                return [CONFIRMED] * len(got) + [Outcome(Status.UNKNOWN, "broke off")] * len(lost)
            first = next((n for n, each in enumerate(page) if each.id in self.offends), None)
            if first is not None:
                self._deliver(page[:first])
                return [Outcome(Status.UNKNOWN, "the link breaks over it") for _ in page]
            self.pages.append(len(page))
            outcomes = self._deliver(page)
            if self.before_confirming is not None:
                self.before_confirming()
            return outcomes

    def _deliver(self, page: Sequence[Envelope]) -> list[Outcome]:
        outcomes = self._outcomes(page)
        sent = zip(page, outcomes, strict=True)
        self.published += [each for each, outcome in sent if outcome == CONFIRMED]
        return outcomes

    def _outcomes(self, page: Sequence[Envelope]) -> list[Outcome]:
        stopped: set[str] = set()
        outcomes = []
        for each in page:
            if each.key in stopped:
                outcomes.append(Outcome(Status.HELD, "behind a refused one"))
            elif each.id in self.refuse:
                outcomes.append(Outcome(self.refuse[each.id], "refused by the test"))
                if each.key is not None and self.hold_keys:
                    stopped.add(each.key)
            else:
                outcomes.append(CONFIRMED)
        return outcomes

    @property
    def address(self) -> str:
        return "memory"

    def numbers(self) -> list[int]:
        return [int(each.data.split(b":")[-1].rstrip(b"}")) for each in self.published]


@dataclass
class Registered:
    """Registers event types for one test and forgets them after it."""

    added: list[EventType] = field(default_factory=list)

    def __call__(self, name: str, schema: type | None = None, **options: Any) -> EventType:
        event_type = registry.add(EventType(name=name, schema=schema, **options))
        self.added.append(event_type)
        return event_type

    def forget(self) -> None:
        for event_type in self.added:
            registry.remove(event_type)


@contextmanager
def none_acknowledged() -> Iterator[None]:
    """Let no event type be acknowledged, those of the example project neither."""
    found = [each for each in registry if each.acknowledge]
    for each in found:
        registry.remove(each)
    try:
        yield
    finally:
        for each in found:
            registry.add(each)
