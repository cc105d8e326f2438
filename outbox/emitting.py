"""Emit: check an event, wrap it in an envelope, insert it in the caller's transaction."""

import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

import msgspec
from asgiref.sync import sync_to_async
from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError, atomic

from outbox import codec, sql
from outbox.celery.wire import CONTENT_TYPE as TASK_CONTENT
from outbox.conf import OutboxSettings, outbox_settings
from outbox.context import current_context
from outbox.due import Due, due
from outbox.envelope import JSON, Envelope
from outbox.exceptions import ConfigurationError, InvalidEvent, PayloadTooLarge, TransactionRequired
from outbox.ids import uuid7_text
from outbox.lanes import hash_of, lane_of
from outbox.prepared import counting_cursor
from outbox.registry import EventType, registry
from outbox.scheduling import schedule
from outbox.wakeup import wake_on_commit
from outbox.wire import ATTRIBUTE_NAME, MAX_ATTRIBUTE, MAX_TRACE_STATE, RESERVED, flaw

COPY_FROM = 100
"""From this many rows on, emit_many() uses COPY where the database has it."""

MAX_ATTRIBUTES = 16_384
"""Characters in names and values of all extension attributes of an event."""

_INT32 = range(-(2**31), 2**31)


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


def emit(
    event: object, payload: Any = None, *, using: str | None = None, **options: Any
) -> Envelope:
    """Add an event to the outbox, in the running transaction.

    emit(OrderPlaced(order_id=42))
    emit("shop.order.placed", {"order_id": 42}, key="42")

    Options: `key` (ordering scope) and `subject`, both by default what the event type names;
    `version` (with a type's name; the newest by default); `content_type` (with a payload of
    bytes); `attributes` (CloudEvents extensions); `correlation_id` and `causation_id` (by
    default those of the current context); `deliver_at` (a datetime) or `delay` (a timedelta or
    seconds) for a message that shall enter the log only then, which cancel() can prevent; its
    `time` is when it is due.

    Returns the message as it will be published. Raises TransactionRequired outside a
    transaction, UnknownEventType, PayloadTooLarge, or InvalidEvent for anything that could not
    be published as it is. Whatever it raises, nothing was written.
    """
    draft = _draft(event, payload, options)
    return _write([draft], using)[0]


def emit_many(events: Iterable[object], *, using: str | None = None) -> list[Envelope]:
    """Add many events to the outbox with one statement, in the running transaction.

    `events` are event objects, or Draft(event=..., payload=..., key=...) where one needs
    options. Returns their messages in order; raises what emit() raises, and then writes none.
    """
    drafts = [
        event if isinstance(event, Draft) else Draft(event=event) for event in _several(events)
    ]
    return _write(drafts, using)


async def aemit(
    event: object, payload: Any = None, *, using: str | None = None, **options: Any
) -> Envelope:
    """Run emit() in the thread that holds this task's database connections."""
    return await sync_to_async(emit)(event, payload, using=using, **options)


async def aemit_many(events: Iterable[object], *, using: str | None = None) -> list[Envelope]:
    """Run emit_many() in the thread that holds this task's database connections."""
    return await sync_to_async(emit_many)(events, using=using)


def write_database() -> str:
    """Return the alias of the database that holds the outbox, as the routers say."""
    if not apps.is_installed("outbox"):
        raise ConfigurationError(
            "The outbox is not installed: add 'outbox' and 'relay' to INSTALLED_APPS, and run "
            "manage.py migrate."
        )
    from outbox.models import Message  # noqa: PLC0415 - models are not loaded when this is imported

    return router.db_for_write(Message)


def _draft(event: object, payload: Any, options: dict[str, Any]) -> Draft:
    if isinstance(event, Draft):
        raise TypeError("emit() takes an event; Draft is for emit_many()")
    return Draft(event=event, payload=payload, **options)


def _several(events: Any) -> Iterable[object]:
    """Return events as they are; raise InvalidEvent if they are no series of events.

    One event can be a series as well, of its fields or letters.
    """
    alone = isinstance(events, str | bytes | Mapping | Draft) or registry.has_class(type(events))
    if alone or not isinstance(events, Iterable):
        raise InvalidEvent(
            "emit_many() takes several events, such as a list of them, not one "
            f"{type(events).__qualname__}. For a single event use emit()."
        )
    return events


def _write(drafts: Sequence[Draft], using: str | None) -> list[Envelope]:
    connection = connections[using or write_database()]
    if not in_transaction(connection):
        given = "" if connection.alias == DEFAULT_DB_ALIAS else f"using={connection.alias!r}"
        raise TransactionRequired(
            f"emit() needs a transaction on the database {connection.alias!r}, so that the event "
            f"and your data commit together. Wrap both in transaction.atomic({given})."
        )
    if not drafts:
        return []
    conf = outbox_settings()
    now = datetime.now(UTC)
    envelopes = [wrap(draft, conf, now) for draft in drafts]
    dues = [due(draft.deliver_at, draft.delay) for draft in drafts]
    if any(when is not None for when in dues):
        envelopes = _write_some_later(connection, envelopes, dues, conf)
        # For what is scheduled as well: the relay may have to sleep less than it meant to.
        wake_on_commit(connection.alias)
    else:
        append(connection, envelopes, conf)
    return envelopes


def _write_some_later(
    connection: BaseDatabaseWrapper,
    envelopes: list[Envelope],
    dues: list[Due | None],
    conf: OutboxSettings,
) -> list[Envelope]:
    """Write each envelope where it belongs; return them with the times at which they are due."""
    pairs = list(zip(dues, envelopes, strict=True))
    rows = [_row(envelope, conf) for when, envelope in pairs if when is None]
    later = [(when, _scheduled_row(connection, e, conf)) for when, e in pairs if when is not None]
    # Two tables take two statements, of which none shall remain if the second fails.
    with atomic(using=connection.alias) if rows else nullcontext():
        _append(connection, rows)
        times = schedule(connection, later)
    return [msgspec.structs.replace(e, time=times.get(e.id, e.time)) for e in envelopes]


def in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether the caller has opened a transaction; the one around a TestCase is not his.

    Connects to nothing: without a connection there is none, and who only asks may be where none can
    be opened, as in an event loop.
    """
    if connection.in_atomic_block:
        # A TestCase opens its own first, so the innermost block tells.
        return not getattr(connection.atomic_blocks[-1], "_from_testcase", False)
    if connection.connection is None:
        return not connection.settings_dict["AUTOCOMMIT"]
    return not connection.autocommit


def wrap(draft: Draft, conf: OutboxSettings, now: datetime | None = None) -> Envelope:
    """Return the envelope of a draft; raise InvalidEvent if it could not be published."""
    event_type, payload = _resolve(draft)
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
        attributes=_extensions(draft.attributes),
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


def append(
    connection: BaseDatabaseWrapper, envelopes: Sequence[Envelope], conf: OutboxSettings
) -> None:
    """Write finished envelopes in the running transaction; wake the relay after it."""
    _append(connection, [_row(envelope, conf) for envelope in envelopes])
    wake_on_commit(connection.alias)


def _resolve(draft: Draft) -> tuple[EventType, Any]:
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
    if draft.content_type == TASK_CONTENT:
        raise InvalidEvent(f"{event_type}: content type {TASK_CONTENT} is that of Celery's tasks.")
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


def _row(envelope: Envelope, conf: OutboxSettings) -> tuple[object, ...]:
    """Return the values of sql.COLUMNS. Without a key, messages spread over the lanes."""
    return (
        lane_of(envelope.key if envelope.key is not None else envelope.id, conf.LANES),
        envelope.id,
        envelope.type,
        envelope.version,
        envelope.source,
        envelope.topic,
        envelope.subject,
        envelope.key,
        envelope.time,
        envelope.correlation_id,
        envelope.causation_id,
        envelope.trace_parent,
        envelope.trace_state,
        envelope.content_type,
        envelope.data,
        json.dumps(envelope.attributes) if envelope.attributes else "{}",
    )


def _scheduled_row(
    connection: BaseDatabaseWrapper, envelope: Envelope, conf: OutboxSettings
) -> tuple[object, ...]:
    """Return the values of sql.COLUMNS, with a hash in place of the lane."""
    _, *rest = _row(envelope, conf)
    hashed = hash_of(envelope.key if envelope.key is not None else envelope.id)
    row = (hashed, *rest)
    return row if connection.vendor == "postgresql" else _adapted(connection, *row)


def _append(connection: BaseDatabaseWrapper, rows: list[tuple[object, ...]]) -> None:
    if len(rows) >= COPY_FROM and connection.vendor == "postgresql":
        _copy(connection, rows)
    elif rows:
        _insert(connection, rows)


def _insert(connection: BaseDatabaseWrapper, rows: list[tuple[object, ...]]) -> None:
    if connection.vendor != "postgresql":
        rows = [_adapted(connection, *row) for row in rows]
    size = max(1, (connection.features.max_query_params or 10**9) // len(sql.COLUMNS))
    # The text of a single row is always the same; of several it depends on their number.
    with counting_cursor(connection) if len(rows) == 1 else connection.cursor() as cursor:
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            values: list[Any] = [value for row in part for value in row]
            cursor.execute(sql.insert(len(part)), values)


def _adapted(
    connection: BaseDatabaseWrapper, lane: object, message_id: object, *rest: Any
) -> tuple[object, ...]:
    """Return a row as Django stores it where there is no UUID and no timestamp with time zone."""
    time = connection.ops.adapt_datetimefield_value(rest[6])
    return (lane, str(message_id).replace("-", ""), *rest[:6], time, *rest[7:])


def _copy(connection: BaseDatabaseWrapper, rows: list[tuple[object, ...]]) -> None:
    # COPY goes past Django's execute(), so its guards are called here.
    if connection.needs_rollback:
        raise TransactionManagementError(
            "The transaction is broken by an earlier error; leave the atomic block."
        )
    with (
        connection.wrap_database_errors,
        connection.cursor() as cursor,
        cursor.copy(sql.COPY) as copy,
    ):
        for row in rows:
            copy.write_row(row)
