"""Django's flush, which ends each test with real transactions, but of no more than is needed.

Most tests write few rows to a few tables. Django truncates all sixty, and then makes content types
and permissions anew: a tenth of a second, some thousand times. Here the tables that have rows are
emptied, and what migrations have made stays as long as nobody has changed its number.

PostgreSQL makes new files for a table that is truncated, and for each of its indexes: deleting a
few rows takes a tenth of that. Nothing vacuums or analyzes the tables meanwhile, so that new rows
come after the old ones and a test meets them in the order in which it wrote them, as in a new
table. What has grown, or was analyzed, is truncated.
"""

from typing import Any, ClassVar

from django.core.management.color import no_style
from django.core.management.commands import flush
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

KEPT = ("django_content_type", "auth_permission")
SMALL = 64 * 1024
"""Bytes of a table whose rows are deleted: eight of PostgreSQL's pages."""


class Command(flush.Command):
    """Empties the tables that have rows, if it is asked to by the end of a test."""

    made: ClassVar[dict[str, list[int]]] = {}
    """How many rows of each of KEPT there are in a database after a flush of Django's."""

    def handle(self, **options: Any) -> None:
        connection = connections[options["database"]]
        of_a_test = not options["interactive"] and options.get("reset_sequences") is False
        name = str(connection.settings_dict["NAME"])
        if not of_a_test or self.made.get(name) != _counts(connection):
            super().handle(**options)
            self.made[name] = _counts(connection)
            _leave_alone(connection)
        elif filled := _filled(connection):
            connection.ops.execute_sql_flush(_emptying(connection, filled))


def _counts(connection: BaseDatabaseWrapper) -> list[int]:
    return [row[0] for row in _rows(connection, "SELECT count(*) FROM {table}", KEPT)]


def _filled(connection: BaseDatabaseWrapper) -> list[str]:
    query = "SELECT '{name}' WHERE EXISTS (SELECT 1 FROM {table})"
    return [row[0] for row in _rows(connection, query, _tables(connection))]


def _tables(connection: BaseDatabaseWrapper) -> list[str]:
    found = connection.introspection.django_table_names(only_existing=True, include_views=False)
    return [table for table in found if table not in KEPT]


def _emptying(connection: BaseDatabaseWrapper, filled: list[str]) -> list[str]:
    """Return the statements that empty these tables."""
    if connection.vendor != "postgresql" or not _are_small(connection, filled):
        return connection.ops.sql_flush(no_style(), filled, allow_cascade=True)
    names = [connection.ops.quote_name(each) for each in filled]
    # As TRUNCATE does, they wait for the sessions that a test left behind.
    return [
        f"LOCK TABLE {', '.join(names)} IN ACCESS EXCLUSIVE MODE",
        *(f"DELETE FROM {each}" for each in names),
    ]


def _are_small(connection: BaseDatabaseWrapper, tables: list[str]) -> bool:
    """Whether none has grown, and the statistics know of none."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT bool_and(reltuples <= 0 AND pg_relation_size(oid) <= %s) FROM pg_class "
            "WHERE relkind = 'r' AND relname = ANY (%s) AND pg_table_is_visible(oid)",
            [SMALL, tables],
        )
        return cursor.fetchone() == (True,)


def _leave_alone(connection: BaseDatabaseWrapper) -> None:
    """Let no autovacuum make room for new rows between old ones."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            for table in _tables(connection):
                name = connection.ops.quote_name(table)
                cursor.execute(f"ALTER TABLE {name} SET (autovacuum_enabled = false)")


def _rows(connection: BaseDatabaseWrapper, query: str, tables: Any) -> list[tuple[Any, ...]]:
    parts = [query.format(name=each, table=connection.ops.quote_name(each)) for each in tables]
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(parts))
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows
