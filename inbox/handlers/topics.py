"""Which topics a group of handlers wants to get, and which event types these stand for."""

from collections.abc import Collection, Iterable

from inbox.handlers.registry import Handler
from outbox.message.event_types import registry as event_types
from outbox.message.requests import address_of


def topics_of(found: Iterable[Handler]) -> set[str]:
    """Return the topics of handlers: their patterns, and topics that differ from the type."""
    found = list(found)
    own = {address_of(each.group) if each.addressed else each.pattern for each in found}
    return own | {
        event_type.topic
        for event_type in event_types
        if event_type.topic and any(each.wants(event_type.name) for each in found)
    }


def types_of(topics: Collection[str]) -> list[str]:
    """Return the event types, and patterns of them, that are published to topics."""
    own: dict[str, set[str]] = {}
    for event_type in event_types:
        if event_type.topic:
            own.setdefault(event_type.topic, set()).add(event_type.name)
    return sorted({name for topic in topics for name in own.get(topic, {topic})})
