"""Statements that PostgreSQL plans once for a connection, not each time.

Django puts values into the text of a statement, so the server parses and plans every one anew. Of
small statements that is most of what they cost. Here values travel apart from the text, results
come in binary form, and the server keeps the plan under a name, in the session.

A pooler that hands sessions around, such as PgBouncer in transaction mode, must see no such name:
the next session does not have it, or has another statement under it. A session is our own if its
server process is the one that the connection was told of when it was opened: poolers make that
up.
"""

from typing import Any, cast
from weakref import WeakKeyDictionary

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

_owned: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


class _Cursor(psycopg.Cursor[Any]):
    """Results in binary form; values apart from the statement."""

    prepares: bool | None = False

    def execute(self, query: Any, params: Any = None, **_: Any) -> Any:
        return super().execute(query, params, prepare=self.prepares, binary=True)


class _Preparing(_Cursor):
    """Whose statements the server keeps, whatever the connection says of those of others."""

    prepares = True

    def execute(self, query: Any, params: Any = None, **_: Any) -> Any:
        threshold = self.connection.prepare_threshold
        self.connection.prepare_threshold = 0
        try:
            return super().execute(query, params)
        finally:
            self.connection.prepare_threshold = threshold


class _Releasing(_Preparing):
    """Which leaves no snapshot behind in a transaction that stays open.

    The server keeps what it has executed, and its snapshot, until the next statement comes.
    """

    def execute(self, query: Any, params: Any = None, **_: Any) -> Any:
        super().execute(query, params)
        self.connection.execute("SELECT", prepare=False)
        return self


class _Counting(_Cursor):
    """Whose statements the server keeps after as many uses as the connection says."""

    prepares = None


def prepared_cursor(connection: BaseDatabaseWrapper) -> CursorWrapper:
    """Return a cursor whose statements stay prepared, on a session of our own.

    For statements of which there are few, by their texts. The last one pins its snapshot until the
    next or the end of the transaction. Elsewhere it is Django's own cursor, and
    returns the same: integers, text, bytes, booleans and timestamps without time zone.
    """
    return _swapped(connection, _Preparing)


def bound_cursor(connection: BaseDatabaseWrapper) -> CursorWrapper:
    """Return a cursor like prepared_cursor() that costs another round trip, and pins no snapshot.

    For statements whose best plan depends on the values: with `plan_cache_mode` set to
    force_custom_plan they are parsed once and planned each time.
    """
    return _swapped(connection, _Releasing)


def counting_cursor(connection: BaseDatabaseWrapper) -> CursorWrapper:
    """Return a cursor that prepares if the option `prepare_threshold` of DATABASES is set.

    For connections that are the application's, which alone knows what it does to them.
    """
    cursor = connection.cursor()
    raw = connection.connection
    if not connection.queries_logged and getattr(raw, "prepare_threshold", None) is not None:
        cursor.cursor = _Counting(raw)
    return cursor


def large_cursor(connection: BaseDatabaseWrapper) -> CursorWrapper:
    """Return a cursor for large values: they travel apart from the statement, and as they are.

    In the text of a statement a value of n bytes takes ten times n while it is written. Nothing is
    kept in the session, so that a pooler does not matter.
    """
    cursor = connection.cursor()
    if connection.vendor == "postgresql" and not connection.queries_logged:
        cursor.cursor = _Cursor(connection.connection)
    return cursor


def _swapped(connection: BaseDatabaseWrapper, cls: type[_Cursor]) -> CursorWrapper:
    cursor = connection.cursor()
    # Logged queries are to be read by people, with their values.
    if (
        connection.vendor == "postgresql"
        and not connection.queries_logged
        and is_own_session(connection)
    ):
        cursor.cursor = cls(connection.connection)
    return cursor


def is_own_session(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether the session is ours alone, for as long as the connection lasts."""
    connection.ensure_connection()
    raw: Any = connection.connection
    if raw not in _owned:
        with connection.wrap_database_errors:
            row = raw.execute("SELECT pg_backend_pid()").fetchone()
        _owned[raw] = cast(int, row[0]) == raw.info.backend_pid
    return _owned[raw]
