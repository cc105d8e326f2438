"""The event types that this service knows: what may be emitted and how it is decoded."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import msgspec

from outbox.exceptions import ConfigurationError, InvalidEvent, UnknownEventType
from outbox.message.acknowledgements import Acknowledge
from outbox.signatures import explained

C = TypeVar("C", bound=type)

# Words of an AMQP routing key; also valid in a CloudEvents type.
_TYPE_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
MAX_NAME = 255
MAX_VERSION = 999_999_999


@dataclass(frozen=True, slots=True, kw_only=True)
class EventType:
    """A named, versioned kind of event.

    `schema` is the class of its payload, or None for plain JSON. `key` and `subject` name an
    attribute of the payload, or compute a value from it. `topic` is the logical address, by
    default the type's name. Of a request, `within` is how long it waits for its replies, whose
    classes are in `replies`; `says_within` that its declaration says so. `acknowledge` says which
    groups are to tell that they have settled it.
    """

    name: str
    version: int = 1
    schema: type | None = None
    key: str | Callable[[Any], object] | None = None
    subject: str | Callable[[Any], object] | None = None
    topic: str = ""
    replies: tuple[type, ...] = ()
    within: timedelta | None = None
    says_within: bool = True
    acknowledge: Acknowledge | None = None

    @property
    def is_request(self) -> bool:
        """Whether it is a request, which wants a reply."""
        return self.within is not None

    def __post_init__(self) -> None:
        for what, value in (("type", self.name), ("topic", self.topic or self.name)):
            if not is_type_name(value):
                raise ConfigurationError(
                    f"Malformed event {what} {value!r}: use words of letters, digits, '-' and '_' "
                    f"joined by dots, such as 'shop.order.placed', at most {MAX_NAME} characters."
                )
        if type(self.version) is not int or not 1 <= self.version <= MAX_VERSION:
            raise ConfigurationError(
                f"{self.name}: version must be a whole number from 1 on, not {self.version!r}"
            )
        if self.schema is not None and not _is_payload_class(self.schema):
            raise ConfigurationError(
                f"{self.name}: {self.schema!r} is not a dataclass, msgspec.Struct or pydantic "
                "model. (Write @outbox.event above @dataclass.)"
            )
        if self.acknowledge is not None and not isinstance(self.acknowledge, Acknowledge):
            raise ConfigurationError(
                f"{self.name}: acknowledge is an outbox.Acknowledge(groups=..., within=...), not "
                f"{self.acknowledge!r:.60}"
            )
        for option, name in (("key", self.key), ("subject", self.subject)):
            if isinstance(name, str) and self.schema is not None:
                check_attribute(str(self), option, name, self.schema)

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"


def is_type_name(name: object) -> bool:
    """Tell whether `name` has the form of an event type or topic."""
    return isinstance(name, str) and len(name) <= MAX_NAME and bool(_TYPE_NAME.fullmatch(name))


def check_attribute(owner: str, option: str, name: str, schema: type) -> None:
    """Raise ConfigurationError if no payload of a class would have what an option names."""
    if issubclass(schema, msgspec.Struct):
        fields = list(schema.__struct_fields__)
    elif dataclasses.is_dataclass(schema):
        fields = [field.name for field in dataclasses.fields(schema)]
    else:
        fields = list(schema.model_fields)  # type: ignore[attr-defined]
        if schema.model_config.get("extra") == "allow":  # type: ignore[attr-defined]
            return
    if name in fields or hasattr(schema, name) or hasattr(schema, "__getattr__"):
        return
    raise ConfigurationError(
        f"{owner}: {option}={name!r} is no attribute of {schema.__qualname__}; its fields are "
        f"{', '.join(fields) or 'none'}. A function of the event serves as well."
    )


def _is_payload_class(cls: object) -> bool:
    """Tell whether the codec can check a class, without importing pydantic."""
    return isinstance(cls, type) and (
        dataclasses.is_dataclass(cls)
        or issubclass(cls, msgspec.Struct)
        or hasattr(cls, "__pydantic_validator__")
    )


class Registry:
    """Event types by class, and by name and version."""

    def __init__(self) -> None:
        self._by_class: dict[type, EventType] = {}
        self._by_name: dict[str, dict[int, EventType]] = {}

    def add(self, event_type: EventType) -> EventType:
        """Register an event type.

        Raises ConfigurationError if the name and version are taken, or the class stands for
        another event already.
        """
        versions = self._by_name.setdefault(event_type.name, {})
        taken = versions.get(event_type.version)
        if taken is not None and not _same_definition(taken, event_type):
            raise ConfigurationError(
                f"{event_type} is registered twice, for {taken.schema!r} and "
                f"{event_type.schema!r}. Give one of them another name or version."
            )
        if event_type.schema is not None:
            known = self._by_class.setdefault(event_type.schema, event_type)
            if (known.name, known.version) != (event_type.name, event_type.version):
                raise ConfigurationError(
                    f"{event_type.schema!r} is registered as {known} and as {event_type}. An "
                    "event object must say which it is: make a class for each."
                )
            self._by_class[event_type.schema] = event_type
        versions[event_type.version] = event_type
        return event_type

    def remove(self, event_type: EventType) -> None:
        """Forget an event type; for tests."""
        self._by_name.get(event_type.name, {}).pop(event_type.version, None)
        if event_type.schema is not None:
            self._by_class.pop(event_type.schema, None)

    def of_class(self, cls: type) -> EventType:
        """Return the event type of a payload class; raise UnknownEventType if it has none."""
        try:
            return self._by_class[cls]
        except KeyError:
            raise UnknownEventType(
                f"{cls.__module__}.{cls.__qualname__} is not an event. Decorate the class with "
                "@outbox.event('some.type'), in a module that is imported at start, such as "
                "<app>/events.py."
            ) from None

    def has_class(self, cls: type) -> bool:
        """Tell whether a class is the payload of an event type."""
        return cls in self._by_class

    def named(self, name: str, version: int | None = None) -> EventType:
        """Return the event type `name`, its newest version by default.

        Raises InvalidEvent for a malformed name and UnknownEventType for an unregistered one.
        """
        if not is_type_name(name):
            raise InvalidEvent(
                f"Malformed event type {name!r}: use words joined by dots, 'shop.order.placed'."
            )
        versions = self._by_name.get(name)
        if not versions:
            raise UnknownEventType(
                f"Unknown event type {name!r}. Declare it with @outbox.event({name!r}) on a class "
                f"or outbox.register({name!r}), in <app>/events.py."
            )
        found = versions.get(max(versions) if version is None else version)
        if found is None:
            known = ", ".join(map(str, sorted(versions)))
            raise UnknownEventType(f"{name!r} has no version {version}. Known versions: {known}.")
        return found

    def find(self, name: str, version: int) -> EventType | None:
        """Return the event type of this name and version, or None."""
        return self._by_name.get(name, {}).get(version)

    def knows(self, name: str) -> bool:
        """Tell whether any version of the event type `name` is registered."""
        return bool(self._by_name.get(name))

    def __iter__(self) -> Iterator[EventType]:
        for versions in self._by_name.values():
            yield from versions.values()


def _same_definition(one: EventType, other: EventType) -> bool:
    """Tell whether both come from one definition, which a reloaded module runs again."""
    if one.schema is not None and other.schema is not None:
        return _origin(one.schema) == _origin(other.schema)
    return [_origin(each) for each in (one.schema, one.key, one.subject, one.topic)] == [
        _origin(each) for each in (other.schema, other.key, other.subject, other.topic)
    ]


def _origin(value: object) -> object:
    """Return where a class or function was defined; any other value is what it is."""
    name = getattr(value, "__qualname__", None)
    return value if name is None else (getattr(value, "__module__", None), name)


registry = Registry()


@explained("@outbox.event('shop.order.placed', key='order_id')")
def event(
    name: str,
    *,
    version: int = 1,
    key: str | Callable[[Any], object] | None = None,
    subject: str | Callable[[Any], object] | None = None,
    topic: str = "",
    acknowledge: Acknowledge | None = None,
) -> Callable[[C], C]:
    """Register the decorated class as the payload of the event type `name`.

    The class is a dataclass, a msgspec.Struct or a pydantic model. `key` is the ordering scope:
    events with one key are published in order. `acknowledge` lets groups tell that they have
    settled it, and sends again what they do not tell in time.

    Raises ConfigurationError for a malformed name or one that is taken.
    """
    if isinstance(name, type):
        raise ConfigurationError(
            f"@outbox.event needs the name of the event type, for {name.__qualname__} as for all: "
            "write @outbox.event('shop.order.placed')."
        )

    def register_class(cls: C) -> C:
        registry.add(
            EventType(
                name=name,
                version=version,
                schema=cls,
                key=key,
                subject=subject,
                topic=topic,
                acknowledge=acknowledge,
            )
        )
        return cls

    return register_class


@explained("outbox.register('shop.order.placed', key='order_id')")
def register(
    name: str,
    *,
    version: int = 1,
    key: str | Callable[[Any], object] | None = None,
    subject: str | Callable[[Any], object] | None = None,
    topic: str = "",
    acknowledge: Acknowledge | None = None,
) -> EventType:
    """Register an event type without a payload class; emit it as emit(name, {...}).

    Raises ConfigurationError for a malformed name or one that is taken.
    """
    return registry.add(
        EventType(
            name=name,
            version=version,
            key=key,
            subject=subject,
            topic=topic,
            acknowledge=acknowledge,
        )
    )
