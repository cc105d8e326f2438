"""Which events a test asks for, and how what was emitted differs from that. Pure."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from outbox.exceptions import InvalidEvent
from outbox.message.envelope import Envelope
from outbox.message.event_types import EventType, is_type_name, registry
from outbox.message.patterns import is_pattern, matches

SHOWN = 20
"""Events that a failure shows."""
MAX_VALUE = 200
"""Characters that it shows of a value."""

_MISSING = object()


@dataclass(frozen=True, slots=True)
class Emission:
    """A message, and what its data says."""

    envelope: Envelope
    event: Any

    def __str__(self) -> str:
        key = "" if self.envelope.key is None else f", key {self.envelope.key!r}"
        return f"{self.envelope.type} v{self.envelope.version}{key}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a test asks for: a type or a pattern of them, a version, values of fields."""

    pattern: str = "#"
    version: int | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, event: object, fields: Mapping[str, Any]) -> "Wanted":
        """Return what is meant by a class, a type's name, a pattern or an event as a whole.

        Raises UnknownEventType for what is no event, and InvalidEvent for a field that no event of
        the class has: nothing could ever match.
        """
        if event is None:
            return cls(fields=fields)
        if isinstance(event, str):
            if is_type_name(event) or not is_pattern(event):
                registry.named(event)
            return cls(event, fields=fields)
        if isinstance(event, type):
            event_type = registry.of_class(event)
            _check_fields(event_type, fields)
            return cls(event_type.name, event_type.version, fields)
        if fields:
            raise InvalidEvent("Give an event, or its class and some of its fields, not both.")
        event_type = registry.of_class(type(event))
        return cls(event_type.name, event_type.version, fields_of(event))

    def is_of_type(self, emission: Emission) -> bool:
        """Tell whether a message is of the type that is meant, whatever it says."""
        envelope = emission.envelope
        return self.version in (None, envelope.version) and matches(self.pattern, envelope.type)

    def __contains__(self, emission: Emission) -> bool:
        return self.is_of_type(emission) and not self._differing(emission)

    def __str__(self) -> str:
        name = "an event" if self.pattern == "#" else self.pattern
        version = "" if self.version is None else f" v{self.version}"
        fields = ", ".join(f"{name}={_short(value)}" for name, value in self.fields.items())
        return f"{name}{version}" + (f" with {fields}" if fields else "")

    def difference(self, emission: Emission) -> Iterator[str]:
        """Yield lines that show a message, with what is wanted (-) beside what it says (+)."""
        yield f"  {emission}"
        found = fields_of(emission.event)
        differing = self._differing(emission) if self.is_of_type(emission) else []
        for name in dict.fromkeys([*found, *differing]):
            if name in differing:
                yield f"-     {name}={_short(self.fields[name])}"
            value = _value(emission.event, name)
            if value is not _MISSING:
                yield f"{'+' if name in differing else ' '}     {name}={_short(value)}"

    def _differing(self, emission: Emission) -> list[str]:
        return [
            name
            for name, value in self.fields.items()
            if not _equal(_value(emission.event, name), value)
        ]


def differences(wanted: Wanted, emissions: Sequence[Emission]) -> str:
    """Return text that shows what was emitted beside what is wanted, the same type first."""
    if not emissions:
        return "Nothing was emitted."
    alike = [each for each in emissions if wanted.is_of_type(each)]
    chosen = (alike + [each for each in emissions if not wanted.is_of_type(each)])[:SHOWN]
    lines = [line for each in chosen for line in wanted.difference(each)]
    if len(emissions) > SHOWN:
        lines.append(f"  and {len(emissions) - SHOWN:,} more")
    return "\n".join(["Emitted were:", *lines])


def fields_of(event: object) -> dict[str, Any]:
    """Return the fields of a decoded event by name; of what has none, all of it as "data"."""
    if isinstance(event, Mapping):
        return dict(event)
    names = _names(type(event))
    if names is None:
        return {"data": event}
    return {name: getattr(event, name) for name in names}


def _names(schema: type) -> list[str] | None:
    if issubclass(schema, msgspec.Struct):
        return list(schema.__struct_fields__)
    if dataclasses.is_dataclass(schema):
        return [each.name for each in dataclasses.fields(schema)]
    if hasattr(schema, "model_fields"):
        return list(schema.model_fields)
    return None


def _check_fields(event_type: EventType, fields: Mapping[str, Any]) -> None:
    schema = event_type.schema
    assert schema is not None
    names = _names(schema) or []
    if unknown := [each for each in fields if each not in names and not hasattr(schema, each)]:
        raise InvalidEvent(
            f"{event_type} has no field {unknown[0]!r}; its fields are {', '.join(names)}"
        )


def _value(event: object, name: str) -> Any:
    if isinstance(event, Mapping):
        return event.get(name, _MISSING)
    return getattr(event, name, _MISSING)


def _equal(found: Any, wanted: Any) -> bool:
    # The wanted one first: it may be one that compares in its own way, such as mock.ANY.
    return found is not _MISSING and bool(wanted == found)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…"
