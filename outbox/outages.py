"""Tell a database that is away, or not ready, from a statement that is wrong: pure policy.

And from one that is there and does not let us in, for which the driver has no SQLSTATE.
"""

import re
import sqlite3

from django.db import Error, InterfaceError, OperationalError

# Conditions that pass by themselves, or with a new connection, under whatever exception the
# driver files them (PostgreSQL documentation, appendix "PostgreSQL Error Codes").
OUTAGES = (
    "08",  # the connection is lost, or could not be made
    "25006",  # read-only: a failover left us with a server that is none to write to
    "25P03",  # idle_in_transaction_session_timeout
    "25P04",  # transaction_timeout
    "26000",  # the session was reset, and has none of its prepared statements any more
    "53",  # out of connections, memory or disk
    "57P0",  # shutting down, starting up, database dropped, idle_session_timeout
)

# What is logged of a broker or a database: which of the two, where it is, and the reason.
AWAY = "The %s is away (%s): %s. Nothing is lost; trying again until it is back."
DENIED = "The %s does not let us in (%s): %s. Nothing is lost; trying again until it does."

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


# What the server says of a login (PostgreSQL sources, auth.c and postinit.c), and what to do. In
# other languages, as lc_messages has it, it counts as being away.
_REFUSALS = (
    (
        r"password authentication failed|no password supplied",
        "Correct USER and PASSWORD in DATABASES",
    ),
    (
        r'role "[^"]*" (does not exist|is not permitted to log in)',
        "Correct USER in DATABASES, or create it",
    ),
    (r'database "[^"]*" does not exist', "Correct NAME in DATABASES, or create it"),
    (r'permission denied for database "[^"]*"', "Grant CONNECT on it to USER"),
    (r"no pg_hba\.conf entry", "Allow it in pg_hba.conf, or correct HOST, USER and NAME"),
    (r"\w+ authentication failed for user", "Correct USER, or pg_hba.conf"),
)
# One of several servers may be away only, and is waited for.
_AWAY = re.compile(r"refused|time(d )?out|starting up|shutting down|translate host|unreachable")


def refusal(exc: BaseException) -> str:
    """Return what a database refuses that does not let us in, and what to do; "" if it is not that.

    No part of it is a secret.
    """
    text = str(exc).strip()
    if not isinstance(exc, OperationalError) or _AWAY.search(text):
        return ""
    for pattern, remedy in _REFUSALS:
        if re.search(pattern, text):
            return f"{text.rpartition('FATAL:')[2].strip()}. {remedy}"
    return ""
