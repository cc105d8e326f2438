"""Emit: check an event, wrap it in an envelope, insert it in the caller's transaction."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any, Unpack

from asgiref.sync import sync_to_async
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import atomic

from outbox.conf import OutboxSettings, outbox_settings
from outbox.context import taken
from outbox.database.event_loop import in_event_loop, no_coroutine, recipe
from outbox.exceptions import InvalidEvent, TransactionRequired
from outbox.message.envelope import Envelope
from outbox.message.event_types import registry
from outbox.producer.awaiting import is_asking, wait_for
from outbox.producer.delivery_time import due
from outbox.producer.drafting import Draft, EmitOptions, draft_of, wrap
from outbox.producer.measuring import emitted
from outbox.producer.wakeup import wake_on_commit
from outbox.producer.writing import append, in_transaction, write_database, write_some_later
from outbox.tracing.hooks import created


def emit(
    event: object, payload: Any = None, *, using: str | None = None, **options: Unpack[EmitOptions]
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
    draft = draft_of("emit", event, payload, options)
    with no_coroutine("emit()", "aemit()"):
        return write([draft], using)[0]


def emit_many(events: Iterable[object], *, using: str | None = None) -> list[Envelope]:
    """Add many events to the outbox with one statement, in the running transaction.

    `events` are event objects, or Draft(event=..., payload=..., key=...) where one needs
    options. Returns their messages in order; raises what emit() raises, and then writes none.
    """
    drafts = [
        event if isinstance(event, Draft) else Draft(event=event) for event in _several(events)
    ]
    with no_coroutine("emit_many()", "aemit_many()"):
        return write(drafts, using)


async def aemit(
    event: object, payload: Any = None, *, using: str | None = None, **options: Unpack[EmitOptions]
) -> Envelope:
    """Run emit() in the thread that holds this task's database connections."""
    return await sync_to_async(emit)(event, payload, using=using, **options)


async def aemit_many(events: Iterable[object], *, using: str | None = None) -> list[Envelope]:
    """Run emit_many() in the thread that holds this task's database connections."""
    return await sync_to_async(emit_many)(events, using=using)


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


def require_transaction(connection: BaseDatabaseWrapper, caller: str) -> None:
    """Raise TransactionRequired, in the name of the `caller`, unless a transaction is open."""
    if not in_transaction(connection):
        given = "" if connection.alias == DEFAULT_DB_ALIAS else f"using={connection.alias!r}"
        raise TransactionRequired(
            f"{caller} needs a transaction on the database {connection.alias!r}, so that the event "
            f"and your data commit together. Wrap both in transaction.atomic({given})."
            + (f" In async code: {recipe(caller)}." if in_event_loop() else "")
        )


def write(
    drafts: Sequence[Draft],
    using: str | None,
    *,
    finish: Callable[[Envelope], Envelope] | None = None,
    into: Callable[[BaseDatabaseWrapper, list[Envelope], OutboxSettings], None] = append,
) -> list[Envelope]:
    """Write drafts in the running transaction; return their messages in order.

    `finish` makes of each message what is written; `into` writes those that are not for later.
    Raises what emit() raises.
    """
    connection = connections[using or write_database()]
    require_transaction(connection, "emit()")
    if not drafts:
        return []
    started, conf = time.perf_counter(), outbox_settings()
    now = datetime.now(UTC)
    carried = taken()
    envelopes = [wrap(draft, conf, now, carried) for draft in drafts]
    if finish is not None:
        envelopes = [finish(each) for each in envelopes]
    envelopes = created(envelopes)
    dues = [due(draft.deliver_at, draft.delay) for draft in drafts]
    awaits = any(map(is_asking, envelopes))
    # On PostgreSQL nothing of a transaction stands in which a statement has failed.
    whole = awaits and connection.vendor != "postgresql"
    with atomic(using=connection.alias) if whole else nullcontext():
        if any(when is not None for when in dues):
            envelopes = write_some_later(connection, envelopes, dues, conf)
            # For what is scheduled as well: the relay may have to sleep less than it meant to.
            wake_on_commit(connection.alias)
        else:
            into(connection, envelopes, conf)
        if awaits:
            wait_for(connection, envelopes, dues)
    emitted(connection, envelopes, started)
    return envelopes
