"""What one step keeps: the state of an instance, and all that it waits for. Values, no database."""

from datetime import datetime
from enum import Enum
from typing import Any

import msgspec

from outbox.message import codec
from outbox.message.event_types import EventType, registry


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """An event as it is kept, to be read or said later."""

    type: str
    version: int
    data: str

    @classmethod
    def of(cls, event: object) -> "Said":
        """Return an event as it is kept."""
        event_type = registry.of_class(type(event))
        data = codec.encode(event, event_type).decode()
        return cls(type=event_type.name, version=event_type.version, data=data)

    @property
    def event_type(self) -> EventType:
        """The event type; raises UnknownEventType if this service does not know it any more."""
        return registry.named(self.type, self.version)

    def event(self) -> Any:
        """Return the event; raise UndecodableMessage if it does not fit its class any more."""
        return codec.read(self.data.encode(), self.event_type)


class Timer(msgspec.Struct, frozen=True, kw_only=True):
    """A timer that is set: the id of the message by which it will come, and when."""

    message_id: str
    due: datetime


class UndoState(Enum):
    """How far it has come with what can be undone."""

    ASKED = "asked"
    DONE = "done"
    UNDOING = "undoing"


class Undo(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was asked, and what undoes it; `done_by` are the replies that say it is done.

    While it is undone, `request_id` is that of the request which undoes it.
    """

    request_id: str
    state: UndoState
    undo: Said
    done_by: tuple[str, ...]


class Step(msgspec.Struct, kw_only=True):
    """One step of an instance; the newest is its state.

    `data` is the process's Data as JSON, of its `version`. `timers` are those that are set, by
    name; `parts` what has come of the events that a method waits for together, by method; `undos`
    what can be undone, oldest first. `compensating`: they are being undone. `request` is
    the id of what the instance was asked last, by `request_source`. `stuck` is the reason
    for which a person has to go on, "" if none has to. `ended`: nothing is to follow.
    """

    number: int
    state: str
    version: int
    data: bytes
    timers: dict[str, Timer] = {}
    parts: dict[str, dict[str, Said]] = {}
    undos: tuple[Undo, ...] = ()
    compensating: bool = False
    request: str = ""
    request_source: str = ""
    stuck: str = ""
    ended: bool = False

    def following(self, version: int) -> "Step":
        """Return a copy with the next number, which may be changed."""
        return msgspec.structs.replace(
            self,
            number=self.number + 1,
            version=version,
            timers=dict(self.timers),
            parts={name: dict(said) for name, said in self.parts.items()},
        )


class Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a step keeps beside its state and its data, as it is stored."""

    timers: dict[str, Timer] = {}
    parts: dict[str, dict[str, Said]] = {}
    undos: tuple[Undo, ...] = ()
    compensating: bool = False
    request: str = ""
    request_source: str = ""


def kept_of(step: Step) -> bytes:
    """Return as JSON what a step keeps beside its state and its data."""
    fields: Any = {name: getattr(step, name) for name in Kept.__struct_fields__}
    return msgspec.json.encode(Kept(**fields))
