"""What a method of a process wants to happen. It only says so; it happens with the step."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from inbox.processes.keys import key_text
from outbox.exceptions import ConfigurationError
from outbox.message import codec
from outbox.message.event_types import EventType, registry

MAX_TIMER_NAME = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Emit:
    """Emit an event."""

    event: Any
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Ask a request; `undo` is what undoes it, once one of the replies `done_by` has come."""

    id: str
    request: Any
    options: dict[str, Any] = field(default_factory=dict)
    undo: Any = None
    done_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTimer:
    """Set a timer, in place of one of its name."""

    id: str
    name: str
    due: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelTimer:
    """Cancel a timer that is set."""

    id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """Let the instance be found by another key."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Answer the request that the instance was asked last."""

    reply: Any


Intent = Emit | Ask | SetTimer | CancelTimer | Alias | Answer


class Do:
    """What a method of a process is given to say what happens.

    It records: what is wrong raises at once, and what is right happens in the transaction of the
    step, once, if that commits. `now` is the time of the step.
    """

    def __init__(self, *, now: datetime, new_id: Callable[[], str]) -> None:
        self.now = now
        self._new_id = new_id
        self.intents: list[Intent] = []
        self.compensating = False

    def emit(self, event: object, **options: Any) -> None:
        """Emit an event; the options are those of outbox.emit()."""
        event_type = _type_of(event)
        codec.encode(event, event_type)
        self.intents.append(Emit(event=event, options=options))

    def ask(
        self,
        request: object,
        *,
        undo: object = None,
        done_by: type | tuple[type, ...] = (),
        **options: Any,
    ) -> str:
        """Ask a request, and return its id; its end comes to @on_reply.

        `undo` is the event or request that undoes it. It is used by compensate(), if a reply says
        that it is done: one of `done_by`, by default the first that the request declares. The
        other options are those of outbox.ask().
        """
        event_type = _type_of(request)
        if not event_type.is_request:
            raise ConfigurationError(
                f"do.ask(): {event_type} is no request; declare it with @outbox.request, or emit it"
            )
        codec.encode(request, event_type)
        names = _reply_names(event_type, done_by)
        if undo is not None:
            codec.encode(undo, _type_of(undo))
        intent = Ask(id=self._new_id(), request=request, options=options, undo=undo, done_by=names)
        self.intents.append(intent)
        return intent.id

    def timer(self, name: str, when: timedelta | datetime) -> None:
        """Set a timer, after a time or at one; one of the same name that is set is replaced."""
        _check_name(name)
        due: object = self.now + when if isinstance(when, timedelta) else when
        if not isinstance(due, datetime) or due.tzinfo is None:
            raise ConfigurationError(
                f"do.timer({name!r}, when): a timedelta, or a datetime with its zone, not {when!r}"
            )
        self.intents.append(SetTimer(id=self._new_id(), name=name, due=due.astimezone(UTC)))

    def cancel(self, name: str) -> None:
        """Cancel the timer of a name; nothing happens if none is set."""
        _check_name(name)
        self.intents.append(CancelTimer(id="", name=name))

    def alias(self, name: str, value: object) -> None:
        """Let the instance be found by another key: @on(..., alias=name)."""
        _check_name(name)
        self.intents.append(Alias(name=name, value=key_text(value, of=f"alias {name}")))

    def answer(self, reply: object) -> None:
        """Answer the request that the instance was asked last."""
        codec.encode(reply, _type_of(reply))
        self.intents.append(Answer(reply=reply))

    def compensate(self) -> None:
        """Undo what was done, the newest first, each awaited before the next."""
        self.compensating = True


def _type_of(event: object) -> EventType:
    if isinstance(event, str | type):
        raise ConfigurationError(f"a process says instances of event classes, not {event!r:.100}")
    return registry.of_class(type(event))


def _reply_names(request: EventType, done_by: type | tuple[type, ...]) -> tuple[str, ...]:
    classes = done_by if isinstance(done_by, tuple) else (done_by,)
    if unknown := [each for each in classes if each not in request.replies]:
        raise ConfigurationError(f"do.ask(done_by=…): {unknown[0]!r} is no reply of {request}")
    return tuple(registry.of_class(each).name for each in classes or request.replies[:1])


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_TIMER_NAME or not name.isprintable():
        raise ConfigurationError(
            f"a name of 1 to {MAX_TIMER_NAME} printable characters is needed, not {name!r:.100}"
        )
