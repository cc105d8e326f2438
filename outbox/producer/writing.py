"""Write finished envelopes into the log, in the caller's transaction."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import msgspec
from django.apps import apps
from django.db import ProgrammingError, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError, atomic

from outbox.conf import OutboxSettings
from outbox.database.instants import parameter
from outbox.database.prepared import counting_cursor
from outbox.database.privileges import add_remedy
from outbox.exceptions import ConfigurationError
from outbox.message.envelope import Envelope
from outbox.message.lanes import hash_of, lane_of
from outbox.producer import sql
from outbox.producer.delivery_time import Due
from outbox.producer.scheduling import schedule
from outbox.producer.wakeup import wake_on_commit

COPY_FROM = 100
"""From this many rows on, emit_many() uses COPY where the database has it."""


def write_database() -> str:
    """Return the alias of the database that holds the outbox, as the routers say."""
    if not apps.is_installed("outbox"):
        raise ConfigurationError(
            "The outbox is not installed: add 'outbox' and 'relay' to INSTALLED_APPS, and run "
            "manage.py migrate."
        )
    from outbox.models import Message  # noqa: PLC0415 - models are not loaded when this is imported

    return router.db_for_write(Message)


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


def append(
    connection: BaseDatabaseWrapper,
    envelopes: Sequence[Envelope],
    conf: OutboxSettings,
    *,
    scope: str | None = None,
) -> None:
    """Write finished envelopes in the running transaction; wake the relay after it.

    All with one `scope` are in one lane, and so keep their order; by default their key decides.
    """
    _append(connection, [values_of(envelope, conf, scope) for envelope in envelopes])
    wake_on_commit(connection.alias)


def write_some_later(
    connection: BaseDatabaseWrapper,
    envelopes: list[Envelope],
    dues: list[Due | None],
    conf: OutboxSettings,
) -> list[Envelope]:
    """Write each envelope where it belongs; return them with the times at which they are due."""
    pairs = list(zip(dues, envelopes, strict=True))
    rows = [values_of(envelope, conf) for when, envelope in pairs if when is None]
    later = [(when, later_values_of(connection, e, conf)) for when, e in pairs if when is not None]
    # Two tables take two statements, of which none shall remain if the second fails.
    with atomic(using=connection.alias) if rows else nullcontext():
        _append(connection, rows)
        times = schedule(connection, later)
    return [msgspec.structs.replace(e, time=times.get(e.id, e.time)) for e in envelopes]


def values_of(
    envelope: Envelope, conf: OutboxSettings, scope: str | None = None
) -> tuple[object, ...]:
    """Return the values of sql.COLUMNS. Without scope or key, messages spread over the lanes."""
    if scope is None:
        scope = envelope.key if envelope.key is not None else envelope.id
    return (
        lane_of(scope, conf.LANES),
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
        msgspec.json.encode(envelope.attributes).decode() if envelope.attributes else "{}",
    )


def later_values_of(
    connection: BaseDatabaseWrapper, envelope: Envelope, conf: OutboxSettings
) -> tuple[object, ...]:
    """Return the values of sql.COLUMNS, with a hash in place of the lane."""
    _, *rest = values_of(envelope, conf)
    hashed = hash_of(envelope.key if envelope.key is not None else envelope.id)
    row = (hashed, *rest)
    return row if connection.vendor == "postgresql" else _adapted(connection, *row)


def _append(connection: BaseDatabaseWrapper, rows: list[tuple[object, ...]]) -> None:
    try:
        if len(rows) >= COPY_FROM and connection.vendor == "postgresql":
            _copy(connection, rows)
        elif rows:
            _insert(connection, rows)
    except ProgrammingError as exc:
        add_remedy(exc, "emit", connection.alias)
        raise


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
    time = parameter(rest[6], connection)
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
