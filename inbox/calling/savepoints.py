"""Savepoints one after the other in a transaction, each in one round trip."""

from itertools import count

from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.pq import TransactionStatus

from inbox.calling.sessions import SETTINGS, STATE, State
from outbox.database.transactions import send

_numbers = count(1)


class Savepoints:
    """What is done between two begin() can be undone alone, by roll_back().

    The end of one is sent with the begin of the next, where the database takes several statements
    at once. So a transaction that somebody has ended is noticed at the next begin(), or at
    release(): they raise the database's error about a savepoint that is not there. With the first
    begin() and with release() the settings of the session are read, on the same way to the server.
    """

    def __init__(self, using: str) -> None:
        self._using = using
        self._name = f"inbox_{next(_numbers)}"  # of its own, for a handler that calls handlers
        self._begun = False
        self._untouched = False
        self.before: State = {}
        """Settings of the session before the first begin(); empty where they cannot be read."""
        self.after: State = {}
        """The same at release()."""

    def begin(self) -> None:
        """Let what follows be undone alone; what came before stays."""
        if self._untouched:
            self._untouched = False
        elif self._begun:
            self._run(f"RELEASE SAVEPOINT {self._name}", f"SAVEPOINT {self._name}")
        else:
            self.before = self._run_and_look(f"SAVEPOINT {self._name}")
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
            self.after = self._run_and_look(f"RELEASE SAVEPOINT {self._name}")
            self._begun = self._untouched = False

    @property
    def changed(self) -> bool:
        """Whether the settings of the session are others since the first begin()."""
        return self.before != self.after

    def _run_and_look(self, statement: str) -> State:
        """Run a statement, and read the settings of the session on the same way to the server."""
        connection = connections[self._using]
        if connection.vendor != "postgresql":
            self._run(statement)
            return {}
        if _is_watched(connection):
            self._run(statement)
            [row] = send(connection, STATE)
        else:
            row = send(connection, f"{statement}; {STATE}")[-1]
        values = (row.get_value(0, index) for index in range(len(SETTINGS)))
        return dict(zip(SETTINGS, map(_decode, values), strict=True))

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
            send(connection, "; ".join(statements))


def check_constraints(connection: BaseDatabaseWrapper) -> None:
    """Check those that wait for the commit, as Django does, in one round trip."""
    if connection.vendor != "postgresql" or _is_watched(connection):
        connection.check_constraints()
    else:
        send(connection, "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")


def _decode(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="surrogateescape")


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
