"""The handlers of this service: what they want, and which group they belong to."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from inbox.conf import inbox_settings, is_group
from outbox.envelope import Envelope
from outbox.exceptions import ConfigurationError
from outbox.registry import registry as event_types
from outbox.routing import is_pattern, matches

Function = Callable[[Any, Envelope], object]
F = TypeVar("F", bound=Function)

MAX_HANDLER_NAME = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A function that handles the events selected by `pattern`, once per message.

    `name` is part of what makes a receipt unique: a handler that is renamed handles again.
    `version` is the event version that it understands, or None for all.
    """

    name: str
    pattern: str
    function: Function
    version: int | None = None
    declared_group: str = ""

    @property
    def group(self) -> str:
        return self.declared_group or inbox_settings().group

    def wants(self, event_type: str) -> bool:
        """Tell whether this handler is for the events of a type."""
        return matches(self.pattern, event_type)


class HandlerRegistry:
    """Handlers by name, in the order of registration."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def add(self, new: Handler) -> Handler:
        """Register a handler; raise ConfigurationError if its name is taken or malformed."""
        if not 1 <= len(new.name) <= MAX_HANDLER_NAME or not new.name.isprintable():
            raise ConfigurationError(
                f"Handler name {new.name!r}: 1 to {MAX_HANDLER_NAME} printable characters"
            )
        if _runs_later(new.function):
            raise ConfigurationError(
                f"Handler {new.name} is async or a generator: calling it would do nothing. Make "
                "it a plain function; async_to_sync runs async code inside."
            )
        if not is_pattern(new.pattern):
            raise ConfigurationError(
                f"Handler {new.name}: malformed pattern {new.pattern!r}; use words joined by dots, "
                "'*' for one word, '#' for any number."
            )
        if new.declared_group and not is_group(new.declared_group):
            raise ConfigurationError(f"Handler {new.name}: malformed group {new.declared_group!r}")
        taken = self._handlers.get(new.name)
        if taken is not None and _origin(taken.function) != _origin(new.function):
            raise ConfigurationError(
                f"Two handlers are named {new.name!r}: {_origin(taken.function)} and "
                f"{_origin(new.function)}. Receipts are kept by name, so give one another."
            )
        self._handlers[new.name] = new
        return new

    def remove(self, name: str) -> None:
        """Forget a handler; for tests."""
        self._handlers.pop(name, None)

    def for_type(self, event_type: str, group: str | None = None) -> list[Handler]:
        """Return the handlers that want a type: of one group, or of all."""
        return [
            found
            for found in self._handlers.values()
            if found.wants(event_type) and (group is None or found.group == group)
        ]

    def groups(self) -> dict[str, list[Handler]]:
        """Return all handlers by group."""
        groups: dict[str, list[Handler]] = {}
        for found in self._handlers.values():
            groups.setdefault(found.group, []).append(found)
        return groups

    def __iter__(self) -> Iterator[Handler]:
        return iter(list(self._handlers.values()))


handlers = HandlerRegistry()


def handler(
    event: type | str, *, name: str | None = None, group: str = "", version: int | None = None
) -> Callable[[F], F]:
    """Register the decorated function for an event class, an event type or a pattern.

    @handler(OrderPlaced, name="billing.invoice")
    def invoice(event: OrderPlaced, message: outbox.Envelope) -> None: ...

    The function runs in a transaction together with its receipt: its database effects happen
    once per message. Effects elsewhere (e-mail, HTTP) can repeat. If it raises, nothing of it
    remains and the message is tried again.

    `name` identifies its receipts, by default `<app>.<function>`; `group` names the queue that
    it shares with the other handlers of the group. Raises ConfigurationError for a name that is
    taken, a malformed pattern or a function that is async, UnknownEventType for a class that is
    no event.
    """

    def register(function: F) -> F:
        pattern, accepted = event, version
        if isinstance(event, type):
            event_type = event_types.of_class(event)
            pattern = event_type.name
            accepted = event_type.version if version is None else version
        handlers.add(
            Handler(
                name=name or _default_name(function),
                pattern=str(pattern),
                function=function,
                version=accepted,
                declared_group=group,
            )
        )
        return function

    return register


def _default_name(function: Function) -> str:
    module = function.__module__.removesuffix(".handlers")
    return f"{module}.{getattr(function, '__name__', type(function).__name__)}"


def _runs_later(function: Function) -> bool:
    call = getattr(function, "__call__", function)  # noqa: B004 - an instance's own
    return any(
        test(candidate)
        for candidate in (function, call)
        for test in (
            inspect.iscoroutinefunction,
            inspect.isgeneratorfunction,
            inspect.isasyncgenfunction,
        )
    )


def _origin(function: Function) -> str:
    return f"{function.__module__}.{getattr(function, '__qualname__', repr(function))}"
