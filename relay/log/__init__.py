"""The log: one port (base.py), one adapter for each database that can hold it."""

from django.db import connections

from outbox.exceptions import ConfigurationError
from relay.log.base import PAGE_BYTES, Fetched, Log, Start
from relay.log.postgresql import PostgreSQLLog
from relay.log.sqlite import SQLiteLog
from relay.log.window import Page, Window

__all__ = ["Fetched", "Log", "Page", "PostgreSQLLog", "SQLiteLog", "Start", "Window", "open_log"]

_ADAPTERS: dict[str, type[Log]] = {"postgresql": PostgreSQLLog, "sqlite": SQLiteLog}


def open_log(
    relay: str, *, using: str, start: Start = "beginning", page_bytes: int = PAGE_BYTES
) -> Log:
    """Return the log of the database `using`, as the relay named `relay` reads it.

    `page_bytes` bounds the data of a page. Raises ConfigurationError on a database that cannot
    hold the outbox.
    """
    connection = connections[using]
    try:
        adapter = _ADAPTERS[connection.vendor]
    except KeyError:
        raise ConfigurationError(
            f"The relay cannot read the database {using!r}: {connection.display_name} is not "
            "supported. Use PostgreSQL, or SQLite for development."
        ) from None
    return adapter(relay, using=using, start=start, page_bytes=page_bytes)
