"""Databases of a measurement: migrated, filled, dropped at the end."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import psycopg

from benchmarks.processes import environment, run_manage
from benchmarks.servers import Servers

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Database:
    """One database of ours on the server."""

    servers: Servers
    name: str

    def url(self, application: str = "") -> str:
        return self.servers.url(self.name, application)

    def connect(self, *, autocommit: bool = True) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self.url("harness"), autocommit=autocommit)

    def query(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a statement on a connection of its own and return its rows, if it has any."""
        with self.connect() as connection:
            # None, not an empty list: without parameters a percent sign means itself.
            cursor = connection.execute(statement, list(parameters) or None)
            rows: list[tuple[Any, ...]] = cursor.fetchall() if cursor.description else []
            return rows

    def value(self, statement: str, parameters: Sequence[Any] = ()) -> Any:
        [(value,)] = self.query(statement, parameters)
        return value


@contextmanager
def empty_database(servers: Servers, name: str) -> Iterator[Database]:
    """Create a database without tables; drop it at the end."""
    name = f"bench_{name}_{os.getpid()}_{next(_numbers)}"
    servers.execute(f'CREATE DATABASE "{name}"')
    try:
        yield Database(servers, name)
    finally:
        servers.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@contextmanager
def service_database(servers: Servers, name: str) -> Iterator[Database]:
    """Create a database with the tables of the service; drop it at the end."""
    with empty_database(servers, name) as database:
        run_manage("migrate", "--run-syncdb", "--verbosity=0", DATABASE_URL=database.url())
        yield database


def load(database: Database, messages: int, *, first: int = 0, **options: str) -> None:
    """Emit messages of 250 bytes, as the service would, in transactions of 1,000.

    What the server has to do because of that, now or within minutes, is done when this returns.
    """
    subprocess.run(
        [sys.executable, "-m", "benchmarks.workers.load", str(messages), str(first)],
        env=environment(DATABASE_URL=database.url("load"), **options),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    database.query("ANALYZE")
    database.query("CHECKPOINT")
