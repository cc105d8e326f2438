"""Go on when a request has ended: a handler of the group that asks, told once of each end."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from inbox.handlers.registry import Handler, check_function, default_name, handlers
from inbox.verdicts import RetryPolicy
from outbox.exceptions import ConfigurationError
from outbox.extensions.settlements import register_wanted
from outbox.message.envelope import Envelope
from outbox.message.event_types import registry as event_types
from outbox.message.requests import SETTLED
from outbox.producer.writing import write_database
from outbox.replies.settled import Settled, request_of, told_by
from outbox.signatures import explained

F = TypeVar("F", bound=Callable[[Any, Settled], object])


@explained("@inbox.on_settled(Quote)")
def on_settled(
    request: type | str, *, name: str | None = None, retry: RetryPolicy | None = None
) -> Callable[[F], F]:
    """Register the decorated function for the end of each request of a class, or of a type.

    @inbox.on_settled(Quote)
    def go_on(request: Quote, settled: outbox.Settled) -> None: ...

    It is called once for each request that was asked here, however that has ended: with what was
    asked, and with how it has ended. `request` is None if the log has forgotten it meanwhile. It is
    a handler of the group that asks, INBOX["GROUP"]: it runs in a transaction with its receipt, and
    is retried as `retry` or INBOX says. `name` identifies its receipts, by default
    `<app>.<function>`.

    Each request of that type costs a message more, which is emitted in the transaction in which it
    ends, and a receipt. Of what has ended before it was registered, it is not told.

    Raises ConfigurationError for what is no request, and what handler() raises.
    """
    if not isinstance(request, type | str):
        raise ConfigurationError(
            "@on_settled needs the request that it is for, as in @on_settled(Quote) or "
            "@on_settled('pricing.quote')"
        )
    event_type = event_types.of_class(request) if isinstance(request, type) else None
    if event_type is not None and not event_type.is_request:
        raise ConfigurationError(
            f"{event_type} is no request: declare it with @outbox.request(..., reply=...), or "
            "handle it with @handler."
        )

    def register(function: F) -> F:
        named = name or default_name(function)
        check_function(named, function)
        handlers.add(
            Handler(
                name=named,
                pattern=SETTLED,
                function=_with_settlement(function),
                version=None if event_type is None else event_type.version,
                retry=retry,
                addressed=True,
                settles=str(request) if event_type is None else event_type.name,
            )
        )
        register_wanted(is_wanted)
        return function

    return register


def is_wanted(request_type: str, version: int) -> bool:
    """Tell whether a handler here goes on from the end of requests of a type."""
    return any(
        each.settles == request_type and each.version in (None, version) for each in handlers
    )


def _with_settlement(function: Callable[[Any, Settled], object]) -> Callable[[Any, Envelope], None]:
    @wraps(function)
    def call(event: Any, message: Envelope) -> None:
        using = write_database()
        settled = told_by(message, using=using)
        if settled is not None:  # else somebody else has sent it
            function(request_of(settled, using=using), settled)

    return call
