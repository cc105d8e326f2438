"""Check an event with its options, and wrap it in an envelope."""

import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, TypedDict

import msgspec

from outbox.conf import OutboxSettings
from outbox.exceptions import InvalidEvent, PayloadTooLarge
from outbox.message import codec
from outbox.message.cloudevents import (
    ATTRIBUTE_NAME,
    MAX_ATTRIBUTE,
    MAX_TRACE_STATE,
    RESERVED,
    flaw,
)
from outbox.message.context import current_context
from outbox.message.envelope import JSON, Envelope
from outbox.message.event_types import EventType, registry
from outbox.message.ids import uuid7_text
from outbox.message.kinds import EVENT, kind_of
from outbox.producer.awaiting import asking
from outbox.signatures import no_option

NOTHING: Mapping[str, str] = {}
MAX_ATTRIBUTES = 16_384
"""Characters in names and values of all extension attributes of an event."""

_INT32 = range(-(2**31), 2**31)


class EmitOptions(TypedDict, total=False):
    """The options of emit(), aemit() and record(); emit() says what they mean."""

    key: object
    subject: object
    version: int | None
    content_type: str
    attributes: Mapping[str, str | int | bool]
    correlation_id: str | None
    causation_id: str | None
    deliver_at: datetime | None
    delay: timedelta | float | None


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """An event that is not emitted yet, with its options; see emit() for what they mean."""

    event: object
    payload: Any = None
    key: object = None
    subject: object = None
    version: int | None = None
    content_type: str = JSON
    attributes: Mapping[str, str | int | bool] = msgspec.field(default_factory=dict)
    correlation_id: str | None = None
    causation_id: str | None = None
    deliver_at: datetime | None = None
    delay: timedelta | float | None = None


def draft_of(caller: str, event: object, payload: Any, options: EmitOptions) -> Draft:
    """Return the draft of an event; raise TypeError for an option that there is not."""
    if isinstance(event, Draft):
        raise TypeError(f"{caller}() takes an event; Draft is for emit_many()")
    try:
        return Draft(event=event, payload=payload, **options)
    except TypeError:
        known = EmitOptions.__annotations__
        if unknown := [name for name in options if name not in known]:
            raise TypeError(no_option(caller, unknown[0], known)) from None
        raise


def wrap(
    draft: Draft,
    conf: OutboxSettings,
    now: datetime | None = None,
    carried: Mapping[str, str] = NOTHING,
) -> Envelope:
    """Return the envelope of a draft; raise InvalidEvent if it could not be published.

    `carried` are attributes that it has besides its own.
    """
    event_type, payload = resolve(draft)
    data = _encode(draft, event_type, payload, conf)
    message_id = uuid7_text()
    return Envelope(
        id=message_id,
        source=conf.source,
        type=event_type.name,
        data=data,
        content_type=draft.content_type,
        version=event_type.version,
        topic=event_type.topic or event_type.name,
        subject=_text("subject", _chosen(draft.subject, event_type.subject, payload)),
        key=_text("key", _chosen(draft.key, event_type.key, payload)),
        time=now or datetime.now(UTC),
        attributes={**carried, **_extensions(draft.attributes), **asking(event_type)},
        **inherited(
            message_id, correlation_id=draft.correlation_id, causation_id=draft.causation_id
        ),
    )


def inherited(
    message_id: str,
    *,
    correlation_id: str | None = None,
    causation_id: str | None = None,
    trace_parent: str | None = None,
    trace_state: str | None = None,
) -> dict[str, str | None]:
    """Return the fields of an envelope that the current context has, if the caller gives none."""
    context = current_context()
    return {
        "correlation_id": _text("correlation_id", correlation_id or context.correlation_id)
        or message_id,
        "causation_id": _text("causation_id", causation_id or context.causation_id),
        "trace_parent": _text("trace_parent", trace_parent or context.trace_parent),
        "trace_state": _text("trace_state", trace_state or context.trace_state, MAX_TRACE_STATE),
    }


def key_text(value: object) -> str | None:
    """Return a key as a message has it; raise InvalidEvent if it is none."""
    return _text("key", value)


def resolve(draft: Draft) -> tuple[EventType, Any]:
    """Return the event type of a draft and its payload, an instance of its class if it has one."""
    if isinstance(draft.event, str):
        named = registry.named(draft.event, draft.version)
        if named.schema is not None and draft.payload is None:
            raise InvalidEvent(f"{named}: emitted by name it needs a payload")
        return named, codec.build(draft.payload, named)
    if isinstance(draft.event, type):
        event_type, name = registry.of_class(draft.event), draft.event.__qualname__
        raise InvalidEvent(
            f"{event_type}: {name} is the class of the event. Emit an instance of it: {name}(...)."
        )
    event_type = registry.of_class(type(draft.event))
    if draft.payload is not None or draft.version is not None:
        raise InvalidEvent(
            f"{event_type}: an event object is its own payload and version; "
            "emit by name to give them apart."
        )
    return event_type, draft.event


def _encode(draft: Draft, event_type: EventType, payload: Any, conf: OutboxSettings) -> bytes:
    codec.check_content_type(draft.content_type)
    # However it is written: a receiver may take it for what it is not.
    if (kind := kind_of(draft.content_type.partition(";")[0].strip().lower())) is not EVENT:
        raise InvalidEvent(
            f"{event_type}: content type {draft.content_type} is that of a {kind.name}, not of an "
            "event."
        )
    if isinstance(payload, bytes | bytearray | memoryview):
        if event_type.schema is not None or codec.is_json(draft.content_type):
            raise InvalidEvent(
                f"{event_type}: a payload of bytes needs a content_type other than JSON and an "
                "event type without a class."
            )
        data = bytes(payload)
    elif not codec.is_json(draft.content_type):
        raise InvalidEvent(f"{event_type}: content type {draft.content_type} needs bytes")
    else:
        data = codec.encode(payload, event_type)
    if len(data) > conf.MAX_DATA_BYTES:
        raise PayloadTooLarge(
            f"{event_type}: {len(data):,} bytes are more than OUTBOX['MAX_DATA_BYTES'] "
            f"({conf.MAX_DATA_BYTES:,}). Store the content elsewhere and emit a reference."
        )
    return data


def _chosen(given: object, declared: str | Callable[[Any], object] | None, payload: Any) -> object:
    """Return what the caller gave, else what the event type takes from the payload."""
    if given is not None or declared is None:
        return given
    if callable(declared):
        value = declared(payload)
    elif isinstance(payload, Mapping):
        value = payload.get(declared)
    else:
        value = getattr(payload, declared, None)
    if value is None:
        name = declared if isinstance(declared, str) else "declared by its event type"
        raise InvalidEvent(f"The payload has no {name!r}, which its event type requires.")
    return value


def _text(name: str, value: object, limit: int = MAX_ATTRIBUTE) -> str | None:
    if value is None:
        return None
    text = value if type(value) is str else _as_text(name, value)
    if not text:
        raise InvalidEvent(f"{name} is empty; leave it out for a message that has none")
    if problem := flaw(text, limit):
        raise InvalidEvent(f"{name} {problem}")
    return text


def _as_text(name: str, value: object) -> str:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool) or not isinstance(value, str | int | uuid.UUID):
        raise InvalidEvent(
            f"{name} must be a string, a whole number or a UUID, not a {type(value).__qualname__}"
        )
    return str(value)


def _extensions(attributes: Any) -> dict[str, str | int | bool]:
    if attributes == {}:
        return {}
    if not isinstance(attributes, Mapping):
        raise InvalidEvent(f"attributes must be a mapping, not {type(attributes).__name__}")
    size = sum(len(str(name)) + len(str(value)) for name, value in attributes.items())
    if size > MAX_ATTRIBUTES:
        raise InvalidEvent(
            f"Extension attributes of {size:,} characters are more than {MAX_ATTRIBUTES:,}: a "
            "broker would refuse the headers. Put it into the payload."
        )
    for name, value in attributes.items():
        if not isinstance(name, str) or not ATTRIBUTE_NAME.fullmatch(name):
            raise InvalidEvent(
                f"Extension attribute {name!r}: names have 1 to 20 lower-case letters or digits."
            )
        if name in RESERVED:
            raise InvalidEvent(f"Extension attribute {name!r} is set by the outbox itself.")
        if isinstance(value, str):
            if problem := flaw(value, MAX_ATTRIBUTE):
                raise InvalidEvent(f"Extension attribute {name!r} {problem}")
        elif not isinstance(value, int) or value not in _INT32:
            raise InvalidEvent(f"Extension attribute {name!r} must be str, bool or 32-bit int.")
    return dict(attributes)
