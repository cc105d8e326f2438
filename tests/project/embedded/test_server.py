"""The embedded server's life, with real processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from project.embedded import account
from project.embedded.server import EmbeddedServerError, Server

_PROCESS = """
import sys
from project.embedded import server
print(server.url(), flush=True)
sys.stdin.read()
"""


class User:
    """A process that uses the embedded server until it is told to end."""

    def __init__(self, data: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROCESS],
            env={**os.environ, "EMBEDDED_PGDATA": str(data)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            self.process.communicate()
            pytest.fail("the process could not start the server")

    def leave(self) -> None:
        """End the process in the ordinary way."""
        self.process.communicate(timeout=60)
        assert self.process.returncode == 0

    def kill(self) -> None:
        """End the process by SIGKILL."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def data(tmp_path: Path):
    """A data directory whose server is stopped after the test, whatever happened."""
    # A path with a space and a quote, as people's directories have.
    path = tmp_path / "o'neil s" / "pg"
    path.parent.mkdir()
    yield path
    server = Server.at(path)
    server.lease.take()
    server.stop()
    assert not server.is_running()


def _answers(url: str) -> bool:
    try:
        with psycopg.connect(url) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


@pytest.mark.slow
def test_the_last_user_stops_the_server(data: Path):
    """Two processes share one server, which runs until both have left."""
    first, second = User(data), User(data)
    assert first.url == second.url

    first.leave()
    assert _answers(second.url)

    second.leave()
    assert not _answers(second.url)


@pytest.mark.slow
def test_a_killed_user_does_not_keep_the_server(data: Path):
    """After SIGKILL of one process the other is the last one, and stops the server."""
    killed, other = User(data), User(data)
    killed.kill()
    assert _answers(other.url)

    other.leave()
    assert not _answers(other.url)


@pytest.mark.slow
def test_the_data_survives_a_crash_of_the_server(data: Path):
    """What was committed is there after the server was killed and started again."""
    user = User(data)
    with psycopg.connect(user.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    os.kill(int((data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    user.leave()

    again = User(data)
    with psycopg.connect(again.url) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    again.leave()


@pytest.mark.slow
def test_the_pid_of_a_dead_server_may_belong_to_another_process(data: Path):
    """The server starts although its stale pid file names a living process, such as this one."""
    user = User(data)
    stale = (data / "postmaster.pid").read_text()
    user.leave()
    (data / "postmaster.pid").write_text(stale.replace(stale.split()[0], str(os.getpid()), 1))

    again = User(data)
    assert _answers(again.url)
    again.leave()


@pytest.mark.slow
def test_an_interrupted_initdb_is_repeated(data: Path):
    """What a killed initdb left behind is not taken for a database."""
    unfinished = data.with_name("pg.new")
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")

    user = User(data)
    assert _answers(user.url)
    user.leave()


def test_a_long_path_has_its_socket_elsewhere(tmp_path: Path):
    """A data directory too deep for a Unix socket works, and leaves no socket directory behind."""
    deep = tmp_path / ("x" * 100) / "pg"
    deep.parent.mkdir()
    server = Server.at(deep)
    url = server.start()
    sockets = Path((deep / "postmaster.pid").read_text().splitlines()[4])

    assert _answers(url)
    assert deep not in (sockets, *sockets.parents)

    server.stop()
    assert not sockets.exists()


def test_data_of_another_version_is_refused(data: Path):
    """The error says which version made the data and what to do."""
    data.mkdir()
    (data / "PG_VERSION").write_text("9\n")

    with pytest.raises(EmbeddedServerError, match="made by PostgreSQL 9"):
        Server.at(data).start()


@pytest.mark.slow
def test_a_failed_start_shows_the_log(data: Path):
    """The reason, which only the server's log knows, is in the error."""
    User(data).leave()
    (data / "postgresql.conf").write_text("no_such_setting = 1\n")

    with pytest.raises(EmbeddedServerError, match="no_such_setting"):
        Server.at(data).start()


@pytest.mark.slow
def test_nobody_else_can_connect(data: Path):
    """There is no network address to connect to, and the socket's directory is closed to others."""
    user = User(data)
    with psycopg.connect(user.url) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
    assert data.stat().st_mode & 0o077 == 0
    user.leave()


@pytest.mark.slow
@pytest.mark.skipif(not account.is_root(), reason="needs root, who may not run PostgreSQL")
def test_root_runs_it_under_another_account(data: Path):
    """The server of root runs as an account of its own, with none of root's groups."""
    user = User(data)
    pid = int((data / "postmaster.pid").read_text().split()[0])
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    assert "0" not in status["Uid"].split()
    assert "0" not in status["Groups"].split()
    user.leave()
