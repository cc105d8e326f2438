"""Savepoints one after the other in a transaction, each in one round trip."""

from itertools import count

from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import generators
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn

_numbers = count(1)


class Savepoints:
    """What is done between two begin() can be undone alone, by roll_back().

    The end of one is sent with the begin of the next, where the database takes several statements
    at once. So a transaction that somebody has ended is noticed at the next begin(), or at
    release(): they raise the database's error about a savepoint that is not there.
    """

    def __init__(self, using: str) -> None:
        self._using = using
        self._name = f"inbox_{next(_numbers)}"  # of its own, for a handler that calls handlers
        self._begun = False
        self._untouched = False

    def begin(self) -> None:
        """Let what follows be undone alone; what came before stays."""
        if self._untouched:
            self._untouched = False
        elif self._begun:
            self._run(f"RELEASE SAVEPOINT {self._name}", f"SAVEPOINT {self._name}")
        else:
            self._run(f"SAVEPOINT {self._name}")
            self._begun = True

    def roll_back(self) -> bool:
        """Undo what was done since begin(); return whether that was possible."""
        connection = connections[self._using]
        connection.needs_rollback = False
        try:
            # By psycopg, which forgets then what it has prepared.
            with connection.cursor() as cursor:
                cursor.execute(f"ROLLBACK TO SAVEPOINT {self._name}")
        except DatabaseError:
            connection.needs_rollback = True
            return False
        self._untouched = True
        return True

    def release(self) -> None:
        """End the last one, if any: what it did stays."""
        if self._begun:
            self._run(f"RELEASE SAVEPOINT {self._name}")
            self._begun = self._untouched = False

    def _run(self, *statements: str) -> None:
        connection = connections[self._using]
        if connection.vendor != "postgresql":
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
        elif _is_watched(connection):
            with connection.cursor() as cursor:
                for statement in statements if _prepares(connection) else ("; ".join(statements),):
                    cursor.execute(statement)
        else:
            _send(connection, "; ".join(statements))


def _send(connection: BaseDatabaseWrapper, statements: str) -> None:
    """Execute statements without values by libpq alone, in a quarter less processor time.

    Neither Django nor psycopg has anything to add to them. It waits as psycopg does, so that other
    threads, greenlets and signals have their turn.
    """
    session: PGconn = connection.connection.pgconn
    with connection.wrap_database_errors:
        session.send_query(statements.encode())
        for result in connection.connection.wait(generators.execute(session)):
            if result.status != ExecStatus.COMMAND_OK:
                raise error_from_result(result)


def _is_watched(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether somebody wants to see each statement, or psycopg has a BEGIN to send first."""
    return bool(
        connection.connection is None
        or connection.queries_logged
        or connection.execute_wrappers
        or connection.connection.info.transaction_status is TransactionStatus.IDLE
    )


def _prepares(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether psycopg prepares statements: then one call may not have several."""
    return connection.connection.prepare_threshold is not None
