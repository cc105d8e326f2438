"""SQLite has one writer at a time, and no queue for it: who comes again at once is first again.

So the threads of a process queue here, and a process leaves others a part of the time.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.db.backends.base.base import BaseDatabaseWrapper

PATIENCE = 60_000
"""Milliseconds to wait for other processes, if the connection does not wait for longer anyway."""
SHARE = 0.1
"""Of the time of a writer: how long others have their turn after it. They look every 100 ms."""

_turns: dict[str, threading.RLock] = {}
"""By the name of the database file."""


@contextmanager
def only_writer(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Let no other thread write to this file that comes here too; wait for other processes.

    Transactions in the block begin as writers: one that has read before it writes cannot wait.
    Does nothing on other databases, or within a transaction.
    """
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        yield
        return
    with _turns.setdefault(str(connection.settings_dict["NAME"]), threading.RLock()):
        connection.ensure_connection()
        driver = connection.connection
        [patience] = driver.execute("PRAGMA busy_timeout").fetchone()
        mode = connection.transaction_mode  # type: ignore[attr-defined]
        driver.execute(f"PRAGMA busy_timeout = {max(patience, PATIENCE)}")
        connection.transaction_mode = mode or "IMMEDIATE"  # type: ignore[attr-defined]
        started = time.monotonic()
        try:
            yield
        finally:
            connection.transaction_mode = mode  # type: ignore[attr-defined]
            if connection.connection is driver:
                driver.execute(f"PRAGMA busy_timeout = {patience}")
            time.sleep((time.monotonic() - started) * SHARE)


if hasattr(os, "register_at_fork"):
    # The threads of the parent are not in a child.
    os.register_at_fork(after_in_child=_turns.clear)
