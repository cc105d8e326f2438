"""Payloads to bytes and back: JSON, validated against the event's class on both sides.

Dataclasses and msgspec.Struct go through msgspec, pydantic models through themselves.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any

import msgspec

from outbox.error_text import text_of
from outbox.exceptions import InvalidEvent, UndecodableMessage
from outbox.interrupts import is_interrupt
from outbox.message.data_errors import cause, describe
from outbox.message.envelope import JSON, STRUCTURED, Envelope
from outbox.message.event_types import EventType
from outbox.message.finite import NUMBERS, SEQUENCES, refuse_not_finite

_encoder = msgspec.json.Encoder()
_plain_decoder = msgspec.json.Decoder()
# JSON writes U+0000 as this escape; PostgreSQL's text and jsonb refuse it wherever it ends up.
_NUL_ESCAPE = b"\\u0000"
MAX_CONTENT_TYPE = 255
# RFC 9110: type "/" subtype, then parameters.
_CONTENT_TYPE = re.compile(r"(?=.{3,255}\Z)[\w!#$&^.+-]+/[\w!#$&^.+-]+([ \t]*;[ -~]*)?", re.ASCII)
_LOSSLESS = frozenset({str, int, bool, type(None)})
_REFUSALS = (msgspec.MsgspecError, TypeError, ValueError, RecursionError, OverflowError)
_HERE = (lambda: None).__code__.co_filename
_REFUSED_CONTENT = ("pickle", "x-python-serialize")


def encode(payload: object, event_type: EventType) -> bytes:
    """Return `payload` as JSON, checked against the class of `event_type`.

    Raises InvalidEvent, with the path of the offending field, for anything that would not
    arrive as it was meant: wrong types, naive datetimes, NaN, NUL characters.
    """
    try:
        tree = _tree(payload)
        _refuse_lossy(tree, "$", tree)
        body = _json(payload)
        if event_type.schema is not None:
            # What the receiver gets: text in the place of a datetime shows only here.
            _refuse_lossy(_tree(_decode_as(body, event_type.schema)), "$", tree)
        if _NUL_ESCAPE in body and _has_nul(tree):
            raise InvalidEvent("a string contains a NUL character")
        return body
    except _REFUSALS as exc:
        raise _refusal(event_type, exc) from cause(exc)


def build(payload: Any, event_type: EventType) -> Any:
    """Return what was emitted by name as an instance of the class of `event_type`.

    Takes keyword values, nested ones as JSON would have them. Raises InvalidEvent for what does
    not fit, and for names that the class does not know.
    """
    schema = event_type.schema
    if schema is None or isinstance(payload, schema):
        return payload
    try:
        _check_names(payload, schema)
        instance = schema(**payload)
        tree = _tree(instance)
        _refuse_lossy(tree, "$", tree)
        return _decode_as(_json(instance), schema)
    except _REFUSALS as exc:
        raise _refusal(event_type, exc) from cause(exc)


def decode(envelope: Envelope, event_type: EventType | None) -> Any:
    """Return the payload of `envelope`: an instance of the event's class, or plain JSON values.

    Without an event type, data that is not JSON is returned as bytes, and no data as None.
    Raises UndecodableMessage if the data does not fit, and MemoryError if there is no room for it.
    """
    schema = event_type.schema if event_type is not None else None
    if not is_json(envelope.content_type):
        if schema is not None:
            raise UndecodableMessage(
                f"{event_type} is JSON, the message's content type is {envelope.content_type!r}"
            )
        return envelope.data
    if schema is None and not envelope.data:
        return None
    return read(envelope.data, event_type, of=f"{envelope.type} v{envelope.version}")


def read(data: bytes, event_type: EventType | None, *, of: str = "") -> Any:
    """Return JSON as an instance of the class of an event type, or as plain values without one.

    `of` is what the error calls it. Raises UndecodableMessage if the data does not fit, and
    MemoryError if there is no room for it.
    """
    schema = event_type.schema if event_type is not None else None
    try:
        if schema is None:
            return _plain_decoder.decode(data)
        event = _decode_as(data, schema)
        refuse_not_finite(event, data)
        return event
    except MemoryError:
        raise  # of the process, not of the data
    except BaseException as exc:  # classes run code of their own; none may break the receiver
        if is_interrupt(exc):
            raise
        problem = describe(exc, within=_HERE)
        raise UndecodableMessage(f"data of {of or event_type}: {problem}") from cause(exc)


def is_json(content_type: str) -> bool:
    """Tell whether a content type is JSON: application/json, or any +json."""
    # What anybody sends must not fill the memory.
    tell = _is_json if len(content_type) <= MAX_CONTENT_TYPE else _is_json.__wrapped__
    return tell(content_type)


@lru_cache(maxsize=64)
def _is_json(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == JSON or media_type.endswith("+json")


def check_content_type(content_type: object) -> None:
    """Raise InvalidEvent for a content type that is malformed or can carry code."""
    if content_type == JSON:
        return
    if not isinstance(content_type, str) or not _CONTENT_TYPE.fullmatch(content_type):
        raise InvalidEvent(f"Malformed content type {content_type!r:.300}")
    if any(word in content_type.lower() for word in _REFUSED_CONTENT):
        raise InvalidEvent("Pickled data is never accepted: unpickling runs code. Use JSON.")
    if content_type.lower().startswith(STRUCTURED):
        raise InvalidEvent(
            f"Content type {content_type!r} says that the data is a CloudEvent of its own: "
            "receivers would take it for the event. Use another one, such as application/json."
        )


def _refusal(event_type: EventType, exc: Exception) -> InvalidEvent:
    """Return the InvalidEvent that names the event type as well."""
    separator = ":" if isinstance(exc, InvalidEvent) else " cannot be encoded:"
    return InvalidEvent(f"{event_type}{separator} {describe(exc, within=_HERE)}")


def _check_names(payload: object, schema: type) -> None:
    if not isinstance(payload, Mapping):
        raise InvalidEvent(
            f"its payload is a mapping or a {schema.__qualname__}, not a "
            f"{type(payload).__qualname__}"
        )
    names = _field_names(schema)
    if names is not None and (unknown := sorted(str(name) for name in set(payload) - names)):
        raise InvalidEvent(
            f"unknown fields {', '.join(unknown)}; known: {', '.join(sorted(names))}"
        )


@cache
def _field_names(schema: type) -> frozenset[str] | None:
    """Return the keywords that a class takes, or None if it says itself which it refuses."""
    if issubclass(schema, msgspec.Struct):
        return frozenset(schema.__struct_fields__)
    if dataclasses.is_dataclass(schema):
        return frozenset(field.name for field in dataclasses.fields(schema) if field.init)
    if schema.model_config.get("extra", "ignore") != "ignore":  # type: ignore[attr-defined]
        return None
    names: set[str] = set()
    for name, info in schema.model_fields.items():  # type: ignore[attr-defined]
        names |= {name, info.alias or name}
        if isinstance(info.validation_alias, str):
            names.add(info.validation_alias)
        elif info.validation_alias is not None:
            return None
    return frozenset(names)


@cache
def _is_pydantic(schema: type) -> bool:
    return hasattr(schema, "__pydantic_validator__") and hasattr(schema, "model_validate_json")


@cache
def _decoder(schema: type) -> msgspec.json.Decoder[Any]:
    try:
        return msgspec.json.Decoder(schema)
    except Exception as exc:  # about the class: no data has been seen
        raise TypeError(f"{schema.__qualname__} cannot be decoded: {text_of(exc)}") from exc


def _decode_as(body: bytes, schema: type) -> Any:
    if _is_pydantic(schema):
        _plain_decoder.decode(body)  # pydantic would take NaN and Infinity for JSON
        return schema.model_validate_json(body)  # type: ignore[attr-defined]
    return _decoder(schema).decode(body)


def _tree(payload: Any) -> Any:
    """Return a payload as mappings, sequences and the values that JSON could distort."""
    if _is_pydantic(type(payload)):  # type: ignore[arg-type]
        return payload.model_dump(warnings="error")
    return msgspec.to_builtins(payload, builtin_types=(datetime, Decimal))


def _json(payload: Any) -> bytes:
    if _is_pydantic(type(payload)):  # type: ignore[arg-type]
        # By alias, since that is the name that the class itself reads.
        text: str = payload.model_dump_json(by_alias=True, warnings="error")
        return text.encode()
    return _encoder.encode(payload)


def _refuse_lossy(value: object, path: str, given: Any) -> None:
    """Raise InvalidEvent for values that JSON would carry without their meaning.

    `given` stands in the place of `value` in what was emitted.
    """
    if isinstance(value, dict):
        if not isinstance(given, dict):
            given = value
        for name, item in value.items():
            if type(name) not in _LOSSLESS:
                _refuse_lossy(name, f"a key of {path}", name)
            if type(item) not in _LOSSLESS:
                _refuse_lossy(item, f"{path}.{name}", given.get(name))
    elif isinstance(value, SEQUENCES):
        if not isinstance(given, SEQUENCES) or len(given) != len(value):
            given = value
        for index, (item, other) in enumerate(zip(value, given, strict=True)):
            if type(item) not in _LOSSLESS:
                _refuse_lossy(item, f"{path}[{index}]", other)
    elif isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidEvent(
                f"naive datetime at {path}; say which zone it is in, such as with "
                "django.utils.timezone.make_aware()"
            )
    elif isinstance(value, NUMBERS):
        if not math.isfinite(value):
            raise InvalidEvent(f"{value} at {path} has no form in JSON")
        if type(given) is not type(value) and isinstance(given, int | float):
            _refuse_other_number(value, path, given)


def _refuse_other_number(value: object, path: str, given: int | float) -> None:
    """Raise InvalidEvent for a number that is read as another kind, and is not the same then."""
    if isinstance(value, Decimal):
        raise InvalidEvent(
            f"{type(given).__name__} in the place of a Decimal at {path}; make it one, "
            "such as with Decimal(str(value))"
        )
    if float(given) != given:
        raise InvalidEvent(f"int in the place of a float at {path}, which cannot hold it")


def _has_nul(value: object) -> bool:
    """Tell a real NUL from a literal backslash-u0000, which looks alike when encoded."""
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any(_has_nul(name) or _has_nul(item) for name, item in value.items())
    if isinstance(value, SEQUENCES):
        return any(map(_has_nul, value))
    return False
