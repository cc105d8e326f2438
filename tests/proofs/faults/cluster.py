"""A PostgreSQL cluster of our own, to be stopped and restarted while others use it."""

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

from project.embedded import account
from project.embedded.server import PATIENCE, PORT, USER, Server, program

HARNESS = "harness"
"""The application name of our own sessions, which no fault is meant for."""


class Cluster:
    """The embedded PostgreSQL in a temporary directory; runs until close()."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="faults-postgres-"))
        self._server = Server.at(self._directory / "data")
        self._server.start()

    @property
    def socket(self) -> Path:
        """The Unix socket that the server listens on."""
        return self._sockets / f".s.PGSQL.{PORT}"

    def url(self, database: str, application: str) -> str:
        """Return the URL of a database, straight, by the Unix socket."""
        where = quote(str(self._sockets), safe="")
        return (
            f"postgresql:///{database}?host={where}&port={PORT}&user={USER}"
            f"&application_name={application}"
        )

    def query(
        self, database: str, statement: str, parameters: Sequence[Any] = ()
    ) -> list[tuple[Any, ...]]:
        """Run a statement on a connection of its own and return its rows, if it has any."""
        url = self.url(database, HARNESS)
        # No default that a fault gives to the service is meant for us.
        options = "-c transaction_timeout=0"
        with psycopg.connect(url, autocommit=True, options=options) as connection:
            # None, not an empty list: without parameters a percent sign means itself.
            cursor = connection.execute(statement, list(parameters) or None)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def restart(self, mode: str) -> None:
        """Restart the server: "fast" ends all sessions, "immediate" is a crash with recovery."""
        self._control("-m", mode, "-l", str(self._directory / "data" / "log"), "restart")

    def set(self, name: str, value: str | None) -> None:
        """Change a setting of the server while it runs; None is its default."""
        change = f"SET {name} = '{value}'" if value is not None else f"RESET {name}"
        self.query("postgres", f"ALTER SYSTEM {change}")
        self.query("postgres", "SELECT pg_reload_conf()")

    def dump_and_restore(self, database: str) -> None:
        """Restore a dump of a database over the database itself."""
        dump = self._directory / "data" / f"{database}.dump"  # where the server's account may write
        where = ["-h", str(self._sockets), "-p", str(PORT), "-U", USER]
        self._run("pg_dump", *where, "-Fc", "-f", str(dump), database)
        self._run("pg_restore", *where, "--clean", "--if-exists", "-d", database, str(dump))

    def close(self) -> None:
        """Stop the server and remove its data."""
        self._server.stop()
        atexit.unregister(self._server.stop)  # it would look for the data
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def _sockets(self) -> Path:
        return self._directory / "data"

    def _control(self, *arguments: str) -> None:
        self._run("pg_ctl", "-D", str(self._directory / "data"), "-w", *arguments)

    def _run(self, name: str, *arguments: str) -> None:
        result = account.run([str(program(name)), *arguments], timeout=PATIENCE)
        if result.returncode:
            raise RuntimeError(f"{name} {' '.join(arguments)} failed:\n{result.stdout}")
