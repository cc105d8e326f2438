"""Declare what can be asked: a request is an event type that wants a reply."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from outbox.exceptions import ConfigurationError
from outbox.message.event_types import EventType, registry
from outbox.producer.delivery_time import MAX_AHEAD
from outbox.signatures import explained

C = TypeVar("C", bound=type)
WITHIN = timedelta(minutes=1)
"""How long a request waits whose declaration does not say it."""


@explained("@outbox.request('pricing.quote', reply=QuoteGiven, within=timedelta(minutes=2))")
def request(
    name: str,
    *,
    reply: type | tuple[type, ...],
    within: timedelta | None = None,
    version: int = 1,
    key: str | Callable[[Any], object] | None = None,
    subject: str | Callable[[Any], object] | None = None,
    topic: str = "",
) -> Callable[[C], C]:
    """Register the decorated class as the request `name`.

    `reply` is the event class of its reply, or several of which each is one; `within` is how long
    the asker waits, a minute if it is not said. The other options are those of outbox.event().

    Raises ConfigurationError for a malformed name, one that is taken, a reply that is no event or
    a time that is none.
    """
    if isinstance(name, type):
        raise ConfigurationError(
            f"@outbox.request needs the name of the request, for {name.__qualname__} as for all: "
            "write @outbox.request('pricing.quote', reply=...)."
        )
    replies = reply if isinstance(reply, tuple) else (reply,)
    for each in replies:
        if not registry.has_class(each):
            raise ConfigurationError(
                f"{name}: its reply {each!r} is no event. Put @outbox.event(...) on the class, "
                "above the request."
            )
    if not replies:
        raise ConfigurationError(f"{name}: a request has at least one class of reply.")
    if within is not None:
        check_within(name, within)

    def register(cls: C) -> C:
        registry.add(
            EventType(
                name=name,
                version=version,
                schema=cls,
                key=key,
                subject=subject,
                topic=topic,
                replies=replies,
                within=WITHIN if within is None else within,
                says_within=within is not None,
            )
        )
        return cls

    return register


def check_within(name: str, within: object) -> None:
    """Raise ConfigurationError for a time that nobody can wait."""
    if not isinstance(within, timedelta) or not timedelta(0) < within <= MAX_AHEAD:
        raise ConfigurationError(
            f"{name}: within is a timedelta above 0 and at most {MAX_AHEAD.days:,} days, not "
            f"{within!r}."
        )
