"""Defaults that a database or a role may have, for whoever connects anew."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, connections
from psycopg import sql


@contextmanager
def defaults(**settings: str) -> Iterator[None]:
    """Let the sessions that begin in the block start with these settings, as ALTER ROLE does."""
    _alter(*(sql.SQL("SET {} = {}").format(sql.Identifier(k), v) for k, v in settings.items()))
    try:
        yield
    finally:
        connection.close()
        # By a session that the settings do not reach.
        _alter(*(sql.SQL("RESET {}").format(sql.Identifier(name)) for name in settings))


def _alter(*changes: sql.Composable) -> None:
    apart = connections["default"].copy()
    apart.settings_dict = {**apart.settings_dict, "OPTIONS": {"options": _UNTOUCHED}}
    try:
        with apart.cursor() as cursor:
            name = sql.Identifier(str(apart.settings_dict["NAME"]))
            for change in changes:
                statement = sql.SQL("ALTER DATABASE {} {}").format(name, change)
                cursor.execute(statement.as_string(cursor.connection))
    finally:
        apart.close()
    connections.close_all()


_UNTOUCHED = "-c default_transaction_read_only=off -c statement_timeout=0"
