"""Tell a database that is away, or not ready, from a statement that is wrong: pure policy.

And from one that is there and does not let us in, for which the driver has no SQLSTATE.
"""

import re
import sqlite3
from itertools import islice
from typing import NamedTuple

from django.db import Error, InterfaceError, OperationalError

from outbox.error_text import causes, is_a, text_of

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


class Sentence(NamedTuple):
    """What is logged of a broker or a database: which of the two, where it is, and the reason.

    `promise` is what a process does about it that goes on; one that ends does not say it.
    """

    fact: str
    promise: str


AWAY = Sentence("The %s is away (%s): %s Nothing is lost", "; trying again until it is back.")
DENIED = Sentence(
    "The %s does not let us in (%s): %s Nothing is lost", "; trying again until it does."
)
UNREADY = Sentence("The %s is not ready (%s): %s Nothing is lost", "; trying again until it is.")
SHORT = Sentence(
    "This process has too little memory for what it has asked the %s (%s): %s Nothing is lost",
    "; trying again, with less at a time where that can be.",
)
ENDED = Sentence(
    "The %s has ended what we did (%s): %s Nothing is lost",
    "; trying again, with less at a time where that can be.",
)

_CANCELED = "57014"
_TIMEOUTS = {
    "25P03": "idle_in_transaction_session_timeout",
    "25P04": "transaction_timeout",
    "55P03": "lock_timeout",
    _CANCELED: "statement_timeout",
}

# What libpq and psycopg say without a SQLSTATE when this process has no memory for a result or a
# statement (libpq's fe-exec.c, fe-misc.c and fe-protocol3.c). A server that has none says 53200.
_NO_MEMORY = re.compile(
    r"out of memory|(cannot|can't|could not) allocate memory|insufficient memory"
)

_COLUMN = "42703"
_MISSING = ("3F000", "42P01", _COLUMN)  # a schema, a table

_SQLITE_PASSES = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_outage(exc: BaseException) -> bool:
    """Tell whether `exc`, as Django raises it, is worth trying again on a new connection.

    A file is never away: of SQLite's errors only those of a locked database pass by themselves.
    """
    if not is_a(exc, Error):
        return False
    cause = next(islice(causes(exc), 1, None), None)
    if cause is not None and is_a(cause, sqlite3.Error):
        # The lowest byte is the primary code; the rest only says more of it.
        code = getattr(cause, "sqlite_errorcode", 0)
        return type(code) is int and (code & 0xFF) in _SQLITE_PASSES
    if is_a(exc, OperationalError, InterfaceError):
        return True
    return sqlstate(cause).startswith(OUTAGES) or _is_stale_plan(cause) or is_out_of_memory(exc)


def is_out_of_memory(exc: BaseException) -> bool:
    """Tell whether this process has no memory for what it asked; the server may have plenty."""
    if is_a(exc, MemoryError):
        return True
    if not is_a(exc, Error):
        return False
    cause = next(islice(causes(exc), 1, None), None)
    if cause is not None and is_a(cause, MemoryError):
        return True
    return not sqlstate(cause) and bool(_NO_MEMORY.search(text_of(exc)))


def _is_stale_plan(cause: BaseException | None) -> bool:
    """Tell whether a prepared statement returned other columns, before a migration changed them.

    A new session prepares it anew. The code alone stands for whatever a server cannot do.
    """
    if sqlstate(cause) != "0A000":
        return False
    return getattr(getattr(cause, "diag", None), "source_function", "") == "RevalidateCachedQuery"


def is_unready(exc: BaseException) -> bool:
    """Tell whether a table or column is missing, as while a dump is restored, or before migrate.

    To be asked only of statements of ours. Where none has worked before, it is a database that was
    not migrated at all, and nothing to wait for.
    """
    return is_a(exc, Error) and any(sqlstate(each) in _MISSING for each in causes(exc))


def is_canceled(exc: BaseException) -> bool:
    """Tell whether the database has ended a statement that took too long."""
    return any(sqlstate(each) == _CANCELED for each in causes(exc))


def sqlstate(exc: BaseException | None) -> str:
    """Return the code that a driver's error bears; "" if it is none."""
    try:
        state = getattr(exc, "sqlstate", None)
    except BaseException:  # of an exception that only looks like one
        return ""
    return state if type(state) is str else ""


def told(exc: BaseException) -> tuple[Sentence, str]:
    """Return how to log an outage of a database: the sentence, and the reason, without secrets."""
    text = text_of(exc).strip()
    if is_out_of_memory(exc):
        return SHORT, text or type(exc).__name__
    if refused := refusal(exc):
        return DENIED, refused
    for cause in causes(exc):
        if (state := sqlstate(cause)) in _MISSING:
            remedy = "; run manage.py migrate" if state == _COLUMN else ""
            return UNREADY, text.partition("\n")[0] + remedy
        if name := _TIMEOUTS.get(sqlstate(cause)):
            return ENDED, f"{text}; see {name} of the role, the database and the server"
    return AWAY, text


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
    text = text_of(exc).strip()
    if not is_a(exc, OperationalError) or _AWAY.search(text):
        return ""
    for pattern, remedy in _REFUSALS:
        if re.search(pattern, text):
            return f"{text.rpartition('FATAL:')[2].strip()}. {remedy}"
    return ""
