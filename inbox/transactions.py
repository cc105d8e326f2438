"""The transaction that handlers share: none of them may take it away from the others."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db.backends.base.base import BaseDatabaseWrapper

IDLE_IN_TRANSACTION = "25P03"
"""The SQLSTATE of idle_in_transaction_session_timeout."""


class ClosesConnection(Exception):
    """A handler tried to close the connection that the transaction of its batch is on."""


@contextmanager
def kept_open(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Let close() raise ClosesConnection during the block, and do nothing.

    Django would end the transaction without a word, and with it the batch, or a relay's page.
    """

    def refuse() -> None:
        raise ClosesConnection(
            "a handler must not close the database connection: the transaction that it shares with "
            "others is on it"
        )

    attributes = vars(connection)
    outer = attributes.get("close")
    attributes["close"] = refuse
    try:
        yield
    finally:
        del attributes["close"]
        if outer is not None:  # of a handler that receives messages itself
            attributes["close"] = outer


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
    if getattr(exc.__cause__, "sqlstate", None) == IDLE_IN_TRANSACTION:
        return False
    connection.is_usable()  # psycopg learns of it only by use
    return getattr(connection.connection, "broken", False)
