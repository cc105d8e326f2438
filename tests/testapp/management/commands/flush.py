"""Django's flush, which ends each test with real transactions, but of no more than is needed.

Most tests write to a few tables. Django truncates all sixty, and then makes content types and
permissions anew: a tenth of a second, some thousand times. Here the tables that have rows are
truncated, and what migrations have made stays as long as nobody has changed its number.
"""

from typing import Any, ClassVar

from django.core.management.color import no_style
from django.core.management.commands import flush
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

KEPT = ("django_content_type", "auth_permission")


class Command(flush.Command):
    """Truncates the tables that have rows, if it is asked to by the end of a test."""

    made: ClassVar[dict[str, list[int]]] = {}
    """How many rows of each of KEPT there are in a database after a flush of Django's."""

    def handle(self, **options: Any) -> None:
        connection = connections[options["database"]]
        of_a_test = not options["interactive"] and options.get("reset_sequences") is False
        name = str(connection.settings_dict["NAME"])
        if not of_a_test or self.made.get(name) != _counts(connection):
            super().handle(**options)
            self.made[name] = _counts(connection)
        elif filled := _filled(connection):
            statements = connection.ops.sql_flush(no_style(), filled, allow_cascade=True)
            connection.ops.execute_sql_flush(statements)


def _counts(connection: BaseDatabaseWrapper) -> list[int]:
    return [row[0] for row in _rows(connection, "SELECT count(*) FROM {table}", KEPT)]


def _filled(connection: BaseDatabaseWrapper) -> list[str]:
    found = connection.introspection.django_table_names(only_existing=True, include_views=False)
    tables = [table for table in found if table not in KEPT]
    query = "SELECT '{name}' WHERE EXISTS (SELECT 1 FROM {table})"
    return [row[0] for row in _rows(connection, query, tables)]


def _rows(connection: BaseDatabaseWrapper, query: str, tables: Any) -> list[tuple[Any, ...]]:
    parts = [query.format(name=each, table=connection.ops.quote_name(each)) for each in tables]
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(parts))
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows
