"""Messages for later: schedule them, deliver them into the log when they are due, cancel them.

Every clock here is that of the database, so those of the machines around it may differ.
"""

import zlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import ProgrammingError, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox.conf import outbox_settings
from outbox.database.event_loop import no_coroutine
from outbox.database.instants import parameter, read
from outbox.database.prepared import prepared_cursor
from outbox.database.privileges import add_remedy
from outbox.database.transactions import own_transaction
from outbox.exceptions import InvalidMessageId
from outbox.failpoints import hit
from outbox.producer import sql
from outbox.producer.delivery_time import Due
from outbox.producer.wakeup import wake_on_commit

DELIVERED_AT_ONCE = 1000
"""Messages that one transaction moves into the log."""

DELIVER_KEY = zlib.crc32(b"django-outbox-inbox deliver")


def schedule(
    connection: BaseDatabaseWrapper, rows: Sequence[tuple[Due, tuple[object, ...]]]
) -> dict[str, datetime]:
    """Insert rows (when due, values of sql.COLUMNS with a hash as the lane); return dues by id."""
    found: dict[str, datetime] = {}
    limit = connection.features.max_query_params or 10**9
    size = max(1, limit // (len(sql.COLUMNS) + 2))
    with connection.cursor() as cursor:
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            values: list[Any] = [
                value for due, row in part for value in (*_due(connection, due), *row)
            ]
            try:
                cursor.execute(sql.schedule(connection.vendor, len(part)), values)
            except ProgrammingError as exc:
                add_remedy(exc, "emit", connection.alias)
                raise
            found |= {str(UUID(str(row[0]))): read(row[1]) for row in cursor.fetchall()}
    return found


def cancel(message_id: str | UUID, using: str | None = None) -> bool:
    """Take back a scheduled message; in the running transaction, if there is one.

    Returns True if it will not be published (should that transaction commit), False if it was
    delivered already or is not known. Raises InvalidMessageId for what is no message id.
    """
    alias = using or _write_database()
    wanted = _message_id(message_id)
    connection = connections[alias]
    with no_coroutine("cancel()", "acancel()"), connection.cursor() as cursor:
        try:
            cursor.execute(sql.CANCEL, [_uuid(connection, wanted)])
        except ProgrammingError as exc:
            add_remedy(exc, "emit", alias)
            raise
        return bool(cursor.rowcount)


async def acancel(message_id: str | UUID, using: str | None = None) -> bool:
    """Run cancel() in the thread that holds this task's database connections."""
    return await sync_to_async(cancel)(message_id, using)


def next_due(using: str) -> tuple[bool, float | None]:
    """Tell whether a message is due, and in how many seconds the next one is, if there is any."""
    connection = connections[using]
    query = sql.PG_NEXT_DUE if connection.vendor == "postgresql" else sql.SQLITE_NEXT_DUE
    with prepared_cursor(connection) as cursor:
        cursor.execute(query, ())
        due, ahead = cursor.fetchone()
    return bool(due), None if ahead is None else max(0.0, float(ahead))


def deliver_due(using: str, limit: int = DELIVERED_AT_ONCE) -> int:
    """Move at most `limit` messages that are due into the log; return how many.

    A transaction of its own. Messages of a key enter the log in the order in which they are due.
    0 if another process is at it.
    """
    connection = connections[using]
    parameters = {"limit": limit, "lanes": outbox_settings().LANES}
    with own_transaction(using), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(sql.DELIVER_LOCK, [DELIVER_KEY])
            moved = _execute(cursor, sql.PG_DELIVER, parameters) if cursor.fetchone()[0] else 0
        else:
            cursor.execute(sql.SQLITE_NOW, ())
            parameters["now"] = cursor.fetchone()[0]
            moved = _execute(cursor, sql.SQLITE_DELIVER, parameters)
            _execute(cursor, sql.SQLITE_DELIVERED, parameters)
        if moved:
            hit("outbox.delivering")
            wake_on_commit(using)
    if moved:
        hit("outbox.delivered")
    return moved


def _message_id(given: object) -> UUID:
    try:
        return UUID(str(given))
    except ValueError:
        raise InvalidMessageId(
            f"{given!r} is no message id, which is a UUID: give cancel() the `id` of what emit() "
            "has returned."
        ) from None


def _execute(cursor: Any, statement: str, parameters: dict[str, Any]) -> int:
    cursor.execute(statement, parameters)
    return int(cursor.rowcount)


def _due(connection: BaseDatabaseWrapper, due: Due) -> tuple[object, object]:
    """Return a point in time and a time from now on, one of which is None."""
    if connection.vendor == "postgresql":
        return (due, None) if isinstance(due, datetime) else (None, due)
    if isinstance(due, datetime):
        return parameter(due, connection), None
    return None, f"+{due / timedelta(seconds=1):.6f} seconds"


def _uuid(connection: BaseDatabaseWrapper, value: UUID) -> UUID | str:
    return value if connection.features.has_native_uuid_field else value.hex


def _write_database() -> str:
    from outbox.models import Scheduled  # noqa: PLC0415 - models are not loaded when this is imported

    return router.db_for_write(Scheduled)
