"""Tell a database that is away, or not ready, from a statement that is wrong: pure policy."""

import sqlite3

from django.db import Error, InterfaceError, OperationalError

# Conditions that pass by themselves, or with a new connection, under whatever exception the
# driver files them (PostgreSQL documentation, appendix "PostgreSQL Error Codes").
OUTAGES = (
    "08",  # the connection is lost, or could not be made
    "25006",  # read-only: a failover left us with a server that is none to write to
    "25P03",  # idle_in_transaction_session_timeout
    "25P04",  # transaction_timeout
    "53",  # out of connections, memory or disk
    "57P0",  # shutting down, starting up, database dropped, idle_session_timeout
)

_SQLITE_PASSES = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_outage(exc: BaseException) -> bool:
    """Tell whether `exc`, as Django raises it, is worth trying again on a new connection.

    A file is never away: of SQLite's errors only those of a locked database pass by themselves.
    """
    if not isinstance(exc, Error):
        return False
    cause = exc.__cause__
    if isinstance(cause, sqlite3.Error):
        # The lowest byte is the primary code; the rest only says more of it.
        return (getattr(cause, "sqlite_errorcode", 0) & 0xFF) in _SQLITE_PASSES
    if isinstance(exc, OperationalError | InterfaceError):
        return True
    state: str | None = getattr(cause, "sqlstate", None)
    return state is not None and state.startswith(OUTAGES)
