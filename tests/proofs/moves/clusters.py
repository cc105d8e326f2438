"""Real database clusters to move a log between."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from django.db import connections

from project import database_url
from project.embedded import account
from project.embedded.server import Server, program
from tests.kit.processes import run

TEMPLATE = "migrated"


@dataclass(frozen=True)
class Cluster:
    """A PostgreSQL cluster of the tests' own."""

    server: Server

    @classmethod
    def at(cls, data: Path) -> "Cluster":
        cluster = cls(Server.at(data))
        cluster.server.start()
        return cluster

    @classmethod
    def with_database(cls, data: Path, *, epoch: int = 0) -> "Cluster":
        """Return a running cluster with a migrated database; its ids start at `epoch` * 2**32."""
        cluster = cls.at(data)
        if epoch:
            cluster.server.stop()
            tool("pg_resetwal", "-e", str(epoch), "-D", str(data))
            cluster.server.start()
        cluster.create(TEMPLATE, template="template1")
        code, output = run("migrate", "-v", "0", DATABASE_URL=cluster.url(TEMPLATE))
        assert code == 0, output
        return cluster

    def url(self, name: str) -> str:
        found = database_url.parse(self.server.url())
        return database_url.compose({**found, "NAME": name})

    def execute(self, statement: str, database: str = "postgres") -> None:
        with psycopg.connect(self.conninfo(database), autocommit=True) as connection:
            connection.execute(statement)

    def value(self, statement: str, database: str = "postgres") -> int:
        with psycopg.connect(self.conninfo(database), autocommit=True) as connection:
            row = connection.execute(statement).fetchone()
            assert row is not None
            return int(row[0])

    def create(self, name: str, *, template: str = TEMPLATE) -> str:
        """Return the URL of a new database."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def restart(self) -> None:
        self.server.stop()
        self.server.start()

    def address(self) -> list[str]:
        """Return how PostgreSQL's programs find the server."""
        found = database_url.parse(self.server.url())
        return ["-h", found["HOST"], "-p", str(found["PORT"]), "-U", found["USER"]]

    def conninfo(self, database: str) -> str:
        found = database_url.parse(self.server.url())
        return f"host={found['HOST']} port={found['PORT']} user={found['USER']} dbname={database}"


def tool(name: str, *arguments: str, directory: str = "/") -> None:
    """Run one of PostgreSQL's programs to its end."""
    command = ["env", "-C", directory, str(program(name)), *arguments]
    result = account.run(command, timeout=120)
    assert result.returncode == 0, result.stdout


def dump_and_restore(source: Cluster, target: Cluster, name: str, dump: Path, *, jobs: int) -> str:
    """Move a database with pg_dump and pg_restore; return its URL in the other cluster."""
    dump_of(source, name, dump)
    moved = target.create(name, template="template1")
    restore(target, name, dump, jobs=jobs)
    return moved


def dump_of(source: Cluster, name: str, dump: Path) -> None:
    dump.parent.mkdir(parents=True, exist_ok=True)
    account.give(dump.parent)
    account.let_reach(dump.parent)
    tool("pg_dump", *source.address(), "-Fc", "-f", str(dump), name)


def restore(target: Cluster, name: str, dump: Path, *, jobs: int = 1) -> None:
    """Restore a dump into a database that is there and empty."""
    tool("pg_restore", *target.address(), "-d", name, "-j", str(jobs), str(dump))


@contextmanager
def alias(name: str, url: str) -> Iterator[str]:
    """Let Django know a database under a name."""
    connections.databases[name] = {**connections.databases["default"], **database_url.parse(url)}
    try:
        yield name
    finally:
        connections[name].close()
        del connections[name]
        del connections.databases[name]
