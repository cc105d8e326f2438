"""The transaction that handlers share: none of them may take it away from the others."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from inbox.calling.sessions import GAP, Session, kept
from outbox.database import failures
from outbox.error_text import causes

IDLE_IN_TRANSACTION = "25P03"
"""The SQLSTATE of idle_in_transaction_session_timeout."""


# A savepoint may be rolled back to. A comment in front does not hide a statement.
_ENDS_TRANSACTION = re.compile(
    rf"{GAP}*(COMMIT|END|ABORT|ROLLBACK(?!\s+(WORK\s+|TRANSACTION\s+)?TO)"
    r"|PREPARE\s+TRANSACTION)\b",
    re.IGNORECASE | re.DOTALL,
)


class EndsTransaction(Exception):
    """A handler tried to end the transaction of its batch, or to close the connection it is on."""


@contextmanager
def kept_open(connection: BaseDatabaseWrapper) -> Iterator[Session]:
    """Let close(), COMMIT and ROLLBACK raise EndsTransaction during the block, and do nothing.

    A transaction that ends without Django's knowledge takes the batch along, or a relay's page:
    receipts would be there without effects, or the other way round. Yields the session, of which
    is noted what statements set in it.
    """

    def refuse() -> None:
        raise EndsTransaction(
            "a handler must not close the database connection: the transaction that it shares with "
            "others is on it"
        )

    def check(text: str) -> None:
        if _ENDS_TRANSACTION.match(text):
            raise EndsTransaction(
                "a handler must not end the transaction that it shares with others; use atomic() "
                "for a savepoint of its own"
            )

    attributes = vars(connection)
    outer = attributes.get("close")
    attributes["close"] = refuse
    try:
        with kept(connection, check) as session:
            yield session
    finally:
        del attributes["close"]
        if outer is not None:  # of a handler that receives messages itself
            attributes["close"] = outer


@contextmanager
def apart(using: str) -> Iterator[None]:
    """Let `using` be another connection during the block: one that is in no transaction."""
    outer = connections[using]
    inner = outer.copy()
    connections[using] = inner
    try:
        yield
    finally:
        connections[using] = outer
        inner.close()


class Condition(Enum):
    """What a driver knows of its transaction, without asking the server."""

    OPEN = auto()
    FAILED = auto()
    """Nothing but a rollback is possible."""
    OVER = auto()


def condition(connection: BaseDatabaseWrapper) -> Condition:
    """Tell in which condition a transaction is; one that a handler has begun itself looks open."""
    driver = connection.connection
    if driver is None:
        return Condition.OVER
    if connection.vendor == "postgresql":
        return _CONDITIONS.get(driver.info.transaction_status.name, Condition.OVER)
    return Condition.OPEN if driver.in_transaction else Condition.OVER


_CONDITIONS = {"INTRANS": Condition.OPEN, "INERROR": Condition.FAILED}


def transaction_lives(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether the transaction around a handler that failed can go on."""
    return (
        connection.connection is not None
        and not connection.needs_rollback
        and connection.is_usable()
    )


def lost(connection: BaseDatabaseWrapper, exc: BaseException) -> bool:
    """Tell whether the server or the network ended the connection, not the handler that `exc` left.

    A handler that does nothing with its transaction for longer than the server bears has itself to
    thank for it; else the batch would meet the same end again and again.
    """
    if any(failures.sqlstate(cause) == IDLE_IN_TRANSACTION for cause in causes(exc)):
        return False
    connection.is_usable()  # psycopg learns of it only by use
    return getattr(connection.connection, "broken", False)
