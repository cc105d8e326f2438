"""The handlers of this service: what they want, and which group they belong to."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from inbox.conf import inbox_settings, is_group
from inbox.verdicts import MAX_DELAY, RetryPolicy
from outbox.error_text import is_a, name_of
from outbox.exceptions import ConfigurationError, UndecodableMessage
from outbox.interrupts import is_interrupt
from outbox.message.envelope import Envelope
from outbox.message.event_types import check_attribute
from outbox.message.event_types import registry as event_types
from outbox.message.patterns import is_pattern, matches
from outbox.message.process_messages import TIMER, parts_of
from outbox.message.requests import SETTLED, address_of, settled_type
from outbox.signatures import explained

Function = Callable[[Any, Envelope], object]
F = TypeVar("F", bound=Function)

MAX_HANDLER_NAME = 100
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A function that handles the events selected by `pattern`, once per message.

    `name` is part of what makes a receipt unique: a handler that is renamed handles again.
    `version` is the event version that it understands, or None for all. `retry` and
    `gap_timeout` (seconds) are None for those of INBOX. `on_dead` is called with the id of a
    message that the handler has failed on for good, and with what it raised, if it did.
    `addressed`: it takes what is sent to the address of its group, of whatever type, or `only` of
    one. `settles`: of that, only what tells how requests of a type have ended; else all but that.
    `in_every_group`: it takes what comes to any queue, and needs none of its own. `process` names
    the process whose instances take a step for a message, instead of a call of the function; if it
    is addressed as well, it takes what they have sent to themselves.
    """

    name: str
    pattern: str
    function: Function
    version: int | None = None
    declared_group: str = ""
    retry: RetryPolicy | None = None
    ordered: bool = False
    sequence: str | Callable[[Any], object] | None = None
    sequence_start: int | None = 1
    gap_timeout: float | None = None
    on_dead: Callable[[str, BaseException | None], None] | None = None
    addressed: bool = False
    settles: str = ""
    in_every_group: bool = False
    only: str = ""
    process: str = ""

    @property
    def group(self) -> str:
        return self.declared_group or inbox_settings().group

    @property
    def retry_policy(self) -> RetryPolicy:
        return self.retry or inbox_settings().retry_policy

    @property
    def gap_seconds(self) -> float:
        """How long a message waits for earlier ones of its sequence."""
        return inbox_settings().GAP_TIMEOUT if self.gap_timeout is None else self.gap_timeout

    def sequence_of(self, event: Any) -> int:
        """Return the sequence number of an event; raise UndecodableMessage if it has none."""
        assert self.sequence is not None
        try:
            if callable(self.sequence):
                number = self.sequence(event)
            elif isinstance(event, Mapping):
                number = event[self.sequence]
            else:
                number = getattr(event, self.sequence)
        except BaseException as exc:
            if is_interrupt(exc) or is_a(exc, MemoryError):
                raise
            raise UndecodableMessage(f"its sequence number cannot be read: {name_of(exc)}") from exc
        if type(number) is not int or number not in _INT64:
            raise UndecodableMessage(
                f"its sequence number is no whole number of 64 bits but {name_of(number)}"
            )
        return number

    def serves(self, group: str | None) -> bool:
        """Tell whether this handler is of a group, of any if that is None."""
        return group is None or self.in_every_group or self.group == group

    def wants(self, event_type: str) -> bool:
        """Tell whether this handler is for the events of a type."""
        return not self.addressed and matches(self.pattern, event_type)

    def takes(self, envelope: Envelope) -> bool:
        """Tell whether this handler is for a message."""
        if self.addressed:
            if envelope.topic != address_of(self.group) or self.only not in ("", envelope.type):
                return False
            if self.process or envelope.type == TIMER:
                own = envelope.type in (SETTLED, TIMER)
                return own and parts_of(envelope.attributes)[0] == self.process
            return settled_type(envelope.type, envelope.attributes) == self.settles
        return self.wants(envelope.type)


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
        check_function(new.name, new.function)
        if not is_pattern(new.pattern):
            raise ConfigurationError(
                f"Handler {new.name}: malformed pattern {new.pattern!r}; use words joined by dots, "
                "'*' for one word, '#' for any number."
            )
        if new.retry is not None and not isinstance(new.retry, RetryPolicy):
            raise ConfigurationError(
                f"Handler {new.name}: retry is an inbox.RetryPolicy, not {type(new.retry).__name__}"
            )
        if new.declared_group and not is_group(new.declared_group):
            raise ConfigurationError(
                f"Handler {new.name}: malformed group {new.declared_group!r}; use letters, digits "
                "and ._:- and do not begin with 'amq.', which brokers keep for themselves"
            )
        _check_order(new)
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

    def get(self, name: str) -> Handler | None:
        """Return the handler of a name, or None."""
        return self._handlers.get(name)

    def for_type(self, event_type: str, group: str | None = None) -> list[Handler]:
        """Return the handlers that want a type: of one group, or of all."""
        return [
            found
            for found in self._handlers.values()
            if found.wants(event_type) and found.serves(group)
        ]

    def for_message(self, envelope: Envelope, group: str | None = None) -> list[Handler]:
        """Return the handlers that take a message: of one group, or of all."""
        return [
            found
            for found in self._handlers.values()
            if found.takes(envelope) and found.serves(group)
        ]

    def groups(self) -> dict[str, list[Handler]]:
        """Return all handlers by group, but those that are in every one."""
        groups: dict[str, list[Handler]] = {}
        for found in self._handlers.values():
            if not found.in_every_group:
                groups.setdefault(found.group, []).append(found)
        return groups

    def __iter__(self) -> Iterator[Handler]:
        return iter(list(self._handlers.values()))


handlers = HandlerRegistry()


@explained("@handler(OrderPlaced, name='billing.invoice')")
def handler(
    event: type | str,
    *,
    name: str | None = None,
    group: str = "",
    version: int | None = None,
    retry: RetryPolicy | None = None,
    ordered: bool = False,
    sequence: str | Callable[[Any], object] | None = None,
    sequence_start: int | None = 1,
    gap_timeout: float | None = None,
) -> Callable[[F], F]:
    """Register the decorated function for an event class, an event type or a pattern.

    @handler(OrderPlaced, name="billing.invoice")
    def invoice(event: OrderPlaced, message: outbox.Envelope) -> None: ...

    The function runs in a transaction together with its receipt: its database effects happen
    once per message. Effects elsewhere (e-mail, HTTP) can repeat. If it raises, nothing of it
    remains and the message is tried again, as `retry` or INBOX says; raise inbox.Retry or
    inbox.Reject to decide yourself.

    `name` identifies its receipts, by default `<app>.<function>`; `group` names the queue that
    it shares with the other handlers of the group.

    `ordered`: later messages of a key wait for one that is not processed. `sequence` names the
    attribute of the event that numbers the messages of a key, or computes it: they are handled
    in this order, from `sequence_start` on, by default 1; None takes the first that comes. A
    missing number is waited for, `gap_timeout` seconds; what comes too late is skipped.

    Raises ConfigurationError for a name that is taken, a malformed pattern, an option that
    cannot work or a function that is async, UnknownEventType for a class that is no event.
    """

    if not isinstance(event, type | str):
        raise ConfigurationError(
            "@handler needs the event that it is for, as in @handler(OrderPlaced) or "
            "@handler('shop.order.*')"
        )

    def register(function: F) -> F:
        pattern, accepted = event, version
        if isinstance(event, type):
            event_type = event_types.of_class(event)
            pattern = event_type.name
            accepted = event_type.version if version is None else version
            if isinstance(sequence, str):
                named = f"Handler {name or default_name(function)}"
                check_attribute(named, "sequence", sequence, event)
        handlers.add(
            Handler(
                name=name or default_name(function),
                pattern=str(pattern),
                function=function,
                version=accepted,
                declared_group=group,
                retry=retry,
                ordered=ordered or sequence is not None,
                sequence=sequence,
                sequence_start=sequence_start,
                gap_timeout=gap_timeout,
            )
        )
        return function

    return register


def check_function(name: str, function: Callable[..., Any]) -> None:
    """Raise ConfigurationError if a function is not one that a handler can be."""
    if _is_method(function):
        raise ConfigurationError(
            f"Handler {name}: {_origin(function)} is a method, and there is no object "
            "to call it on. Write it as def function(event, message) in the module, or as a "
            "staticmethod."
        )
    if _runs_later(function):
        raise ConfigurationError(
            f"Handler {name} is async or a generator: calling it would do nothing. Make "
            "it a plain function; async_to_sync runs async code inside."
        )
    _check_call(name, function)


def _check_call(name: str, function: Callable[..., Any]) -> None:
    """Raise ConfigurationError if a function cannot be called with an event and its message."""
    try:
        inspect.signature(function).bind(None, None)
    except TypeError as exc:
        raise ConfigurationError(
            f"Handler {name}: {_origin(function)} cannot be called with the event and its "
            f"message: {exc}. Write it as def function(event, message)."
        ) from None
    except ValueError:
        pass  # a function in C, say, that does not tell


def _check_order(new: Handler) -> None:
    if new.sequence is not None and not new.ordered:
        raise ConfigurationError(f"Handler {new.name}: with a sequence it is ordered")
    if new.sequence is not None and not (callable(new.sequence) or isinstance(new.sequence, str)):
        raise ConfigurationError(
            f"Handler {new.name}: sequence is the name of an attribute or a function"
        )
    start = new.sequence_start
    if start is not None and (type(start) is not int or start not in _INT64):
        raise ConfigurationError(f"Handler {new.name}: sequence_start is a whole number or None")
    if new.gap_timeout is not None and not 0 <= new.gap_timeout <= MAX_DELAY.total_seconds():
        raise ConfigurationError(f"Handler {new.name}: gap_timeout is 0 seconds to a year")


def default_name(function: Callable[..., Any]) -> str:
    """Return what a handler is called that has no name of its own."""
    module = function.__module__.removesuffix(".handlers")
    return f"{module}.{getattr(function, '__name__', type(function).__name__)}"


def _runs_later(function: Callable[..., Any]) -> bool:
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


def _is_method(function: Any) -> bool:
    """Tell whether a function in the body of a class would get the event as its self."""
    if isinstance(function, classmethod):
        return True
    home, _, _name = getattr(function, "__qualname__", "").rpartition(".")
    if not inspect.isfunction(function) or not home or home.endswith("<locals>"):
        return False
    return next(iter(inspect.signature(function).parameters), "") in ("self", "cls")


def _origin(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{getattr(function, '__qualname__', repr(function))}"
