"""Call what others have written beside our transactions: it may use the database, and harms nobody.

A carrier runs in the transaction of whoever emits, a receiver of a signal in the process of a relay
or a consumer. One that fails in the database would take that transaction along; one that leaves a
transaction open, or a setting behind, changes what comes after it. Nothing is said to the database
as long as the other one says nothing to it either.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

_START = r"(?:^|;)(?:\s|--[^\n]*\n|/\*.*?\*/)*"
_ENDS = re.compile(
    rf"{_START}(?:COMMIT|END|ABORT|BEGIN|START\s+TRANSACTION|PREPARE\s+TRANSACTION"
    r"|ROLLBACK(?!\s+(?:WORK\s+|TRANSACTION\s+)?TO))\b",
    re.IGNORECASE | re.DOTALL,
)
_SETS = re.compile(rf"{_START}(?:SET|RESET|DISCARD)\b|\bset_config\s*\(", re.IGNORECASE | re.DOTALL)
_NAME = "outbox_beside"
_ENDING = ("close", "commit", "rollback")
_IDLE, _IN_TRANSACTION, _IN_ERROR = 0, 2, 3
_numbers = count(1)


class Trespass(DatabaseError):
    """Somebody tried to end a transaction that is not his."""


class unharmed:  # noqa: N801  # as contextlib's own
    """Let the block harm no transaction and no session of this thread; its value is what it did.

    The list has a text for each thing that was put right, once the block is over. What the block
    raises undoes what it did to the database within a transaction. With `settings` it may change
    those of the session, within a transaction. With `opens` it may have opened connections.
    """

    __slots__ = ("_opens", "_settings", "_watched", "_wrong")

    def __init__(self, *, settings: bool = False, opens: bool = True) -> None:
        self._settings = settings
        self._opens = opens
        self._wrong: list[str] = []

    def __enter__(self) -> list[str]:
        found = connections.all(initialized_only=True)
        self._watched = [_Watched(each, self._settings) for each in found]
        return self._wrong

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        for each in reversed(self._watched):
            each.stop()
        for each in self._watched:
            self._wrong += each.mend(exc is not None)
        if self._opens:
            known = {each.connection for each in self._watched}
            for connection in connections.all(initialized_only=True):
                if connection not in known:
                    self._wrong += _closed_if_left_open(connection)


class _Watched:
    """A connection while somebody else may use it."""

    __slots__ = (
        "_blocks",
        "_has_set",
        "_hooks",
        "_in_atomic_block",
        "_needs_rollback",
        "_refused",
        "_savepoint",
        "_savepoints",
        "_settings",
        "_was_in_error",
        "_within",
        "connection",
    )

    def __init__(self, connection: BaseDatabaseWrapper, settings: bool) -> None:
        self.connection = connection
        self._settings = settings
        self._in_atomic_block = connection.in_atomic_block
        self._within = self._in_atomic_block or not (
            connection.connection is None or connection.autocommit
        )
        self._savepoint = ""
        self._has_set = False
        connection.execute_wrappers.append(self._watch)
        if not self._within:
            return
        self._savepoints = connection.savepoint_ids[:]
        self._blocks = connection.atomic_blocks[:]
        self._needs_rollback = connection.needs_rollback
        self._hooks = connection.run_on_commit[:]
        self._was_in_error = _status(connection) == _IN_ERROR
        attributes = vars(connection)
        self._refused = [attributes.get(name) for name in _ENDING]
        for name in _ENDING:
            attributes[name] = _refuse

    def stop(self) -> None:
        """Let everything be done again."""
        with suppress(ValueError):
            self.connection.execute_wrappers.remove(self._watch)
        if not self._within:
            return
        attributes = vars(self.connection)
        for name, before in zip(_ENDING, self._refused, strict=True):
            attributes.pop(name, None)
            if before is not None:
                attributes[name] = before

    def mend(self, failed: bool) -> list[str]:
        """Put right what is wrong; return what that was."""
        if self._within:
            problem = self._mended(failed)
            return [problem] if problem and not failed else []
        found = _closed_if_left_open(self.connection)
        if self._has_set and self.connection.connection is not None:
            self.connection.close()
            found.append("changed settings of the session")
        return found

    def _mended(self, failed: bool) -> str:
        connection = self.connection
        problem = ""
        if connection.atomic_blocks != self._blocks or not (
            connection.in_atomic_block or not connection.autocommit
        ):
            problem = "left a transaction open"
        elif connection.needs_rollback and not self._needs_rollback:
            problem = "left an error in the transaction"
        elif not self._was_in_error and _status(connection) == _IN_ERROR:
            problem = "left an error of the database in the transaction"
        elif self._has_set and not self._settings:
            problem = "changed settings of the session"
        if not (problem or failed or self._savepoint):
            return ""
        if not self._savepoint:
            self._restore()
        elif problem or failed:
            self._restore()
            connection.run_on_commit = self._hooks
            if not self._run(f"ROLLBACK TO SAVEPOINT {self._savepoint}"):
                problem = problem or "ended a savepoint of others"
        elif not self._run(f"RELEASE SAVEPOINT {self._savepoint}"):
            problem = "ended a savepoint of others"
        return problem

    def _restore(self) -> None:
        connection = self.connection
        connection.savepoint_ids = self._savepoints
        connection.atomic_blocks = self._blocks
        connection.in_atomic_block = self._in_atomic_block
        connection.needs_rollback = self._needs_rollback

    def _watch(
        self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any
    ) -> Any:
        text = sql if isinstance(sql, str) else str(sql)
        if _NAME in text:  # of a block around this one, or within it
            return execute(sql, params, many, context)
        if self._within and _ENDS.search(text):
            raise Trespass("it must not end the transaction of others; use atomic()")
        self._has_set |= bool(_SETS.search(text))
        if self._within and not self._savepoint and not self.connection.needs_rollback:
            name = f"{_NAME}_{next(_numbers)}"
            if self._run(f"SAVEPOINT {name}"):
                self._savepoint = name
        return execute(sql, params, many, context)

    def _run(self, statement: str) -> bool:
        try:
            with self.connection.cursor() as cursor:
                cursor.execute(statement)
        except DatabaseError:
            return False
        return True


def _refuse(*_: Any, **__: Any) -> None:
    raise Trespass("it must neither end the transaction of others nor close their connection")


def _status(connection: BaseDatabaseWrapper) -> int:
    """Return what the driver knows of its transaction, as PQtransactionStatus() says it."""
    driver: Any = connection.connection
    if driver is None:
        return _IDLE
    if connection.vendor == "postgresql":
        return int(driver.pgconn.transaction_status)
    return _IN_TRANSACTION if driver.in_transaction else _IDLE


def _closed_if_left_open(connection: BaseDatabaseWrapper) -> list[str]:
    """Roll back a transaction that is open where none was, and let the connection begin anew."""
    driver: Any = connection.connection
    if driver is None:
        return []
    if not connection.in_atomic_block:
        if not connection.settings_dict["AUTOCOMMIT"]:
            return []  # the project's own way
        if connection.autocommit and _status(connection) == _IDLE:
            return []
    with suppress(Exception):
        driver.rollback()
    connection.in_atomic_block = False
    connection.savepoint_ids = []
    connection.atomic_blocks = []
    connection.needs_rollback = False
    connection.run_on_commit = []
    with suppress(Exception):
        connection.close()
    if connection.connection is not None:  # a database of SQLite's in memory stays
        connection.set_autocommit(True)
    return ["left a transaction open"]
