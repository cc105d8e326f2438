"""Servers on a leash."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.services.leash import Leashed

_OWNER = """
import os, sys
from pathlib import Path
from tests.kit.services.leash import Leashed
leashed = Leashed(["/bin/sh", "-c", sys.argv[1]], env=os.environ, log=Path(os.devnull))
sys.stdin.read()
"""
# Says that it runs on the pipe it has inherited a path to, and keeps that open while it lives.
_SERVER = 'exec 9>"$PIPE"; echo started >&9; sleep 600 & sleep 600'


@pytest.fixture
def lifeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A named pipe that reaches its end when the last process of the server has ended."""
    path = tmp_path / "lifeline"
    os.mkfifo(path)
    monkeypatch.setenv("PIPE", str(path))
    return path


def test_the_server_dies_with_its_owner(lifeline: Path):
    """SIGKILL of the owner ends the server and the server's children."""
    owner = subprocess.Popen([sys.executable, "-c", _OWNER, _SERVER], stdin=subprocess.PIPE)
    with lifeline.open() as pipe:
        assert pipe.readline() == "started\n"
        owner.kill()
        owner.communicate()

        assert pipe.read() == ""


def test_kill_ends_the_whole_group(lifeline: Path):
    """Letting the leash go ends the server and its children at once."""
    server = Leashed(["/bin/sh", "-c", _SERVER], env=os.environ, log=Path(os.devnull))
    with lifeline.open() as pipe:
        assert pipe.readline() == "started\n"
        assert server.is_running()
        server.kill()

        assert pipe.read() == ""
    assert not server.is_running()


def test_terminate_lets_the_server_end_by_itself(tmp_path: Path):
    """A server that obeys SIGTERM has time to put things in order."""
    log = tmp_path / "log"
    polite = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    server = Leashed(["/bin/sh", "-c", polite], env=os.environ, log=log)
    while "ready" not in log.read_text():
        assert server.is_running()
    server.terminate(timeout=30)

    assert log.read_text() == "ready\nbye\n"
    assert server.process.returncode == 3
