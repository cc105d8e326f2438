"""Savepoints one after the other in a transaction, each in one round trip."""

from itertools import count

from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

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
            self._run(f"ROLLBACK TO SAVEPOINT {self._name}")
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
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql" and _takes_several(connection):
                cursor.execute("; ".join(statements))
            else:
                for statement in statements:
                    cursor.execute(statement)


def _takes_several(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether one call may have several statements: not if psycopg prepares them."""
    return connection.connection.prepare_threshold is None
