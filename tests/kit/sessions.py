"""Database sessions of their own, to hold transactions open beside each other in a test."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import connection, connections, transaction

T = TypeVar("T")


class Session:
    """A thread with a connection of its own, which does one thing after the other."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._atomic: Any = None

    def run(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run a function in this session and return its result."""
        return self.start(function, *args, **kwargs).result(timeout=30)

    def start(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> Future[T]:
        """Start a function in this session, which may block."""
        return self._thread.submit(function, *args, **kwargs)

    def begin(self) -> int:
        """Open a transaction that owns a transaction id; return the id."""
        self._atomic = transaction.atomic()
        self.run(self._atomic.__enter__)
        return self.run(transaction_id)

    def commit(self) -> None:
        atomic, self._atomic = self._atomic, None
        self.run(atomic.__exit__, None, None, None)

    def rollback(self) -> None:
        atomic, self._atomic = self._atomic, None
        self.run(transaction.set_rollback, True)
        self.run(atomic.__exit__, None, None, None)

    def close(self) -> None:
        if self._atomic is not None:
            self.rollback()
        self.run(connections.close_all)
        self._thread.shutdown()


@contextmanager
def sessions(count: int) -> Iterator[list[Session]]:
    opened = [Session() for _ in range(count)]
    try:
        yield opened
    finally:
        for session in opened:
            session.close()


def transaction_id() -> int:
    """Return the id of the running transaction, which gets one if it has none."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()::text::bigint")
        return int(cursor.fetchone()[0])
