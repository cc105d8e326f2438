"""Counting the users of a server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from project.embedded.lease import Lease

_USER = """
import sys
from pathlib import Path
from project.embedded.lease import Lease

lease = Lease(Path(sys.argv[1]))
lease.take()
print("taken", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other_user(tmp_path: Path):
    """Another process that uses the resource until it is ended."""
    command = [sys.executable, "-c", _USER, str(tmp_path / "pg")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"taken\n"
        yield process
        process.kill()


def test_the_only_user_is_the_last(tmp_path: Path):
    """Who uses a resource alone is the last one when leaving, and only once."""
    lease = Lease(tmp_path / "pg")
    lease.take()

    assert lease.release()
    assert not lease.release()


@pytest.mark.slow
def test_one_of_two_is_not_the_last(tmp_path: Path, other_user: subprocess.Popen):
    """A resource stays in use while another process uses it."""
    lease = Lease(tmp_path / "pg")
    lease.take()

    assert not lease.release()


@pytest.mark.slow
def test_a_killed_user_does_not_count(tmp_path: Path, other_user: subprocess.Popen):
    """A process that was killed leaves nothing behind that keeps the resource in use."""
    lease = Lease(tmp_path / "pg")
    lease.take()
    other_user.kill()
    other_user.wait()

    assert lease.release()


def test_a_forked_child_goes_on_using(tmp_path: Path):
    """The parent is not the last one while a child forked from it lives."""
    lease = Lease(tmp_path / "pg")
    lease.take()
    ours, childs = os.pipe()
    os.set_blocking(ours, True)
    child = os.fork()
    if child == 0:
        os.close(childs)
        os.read(ours, 1)  # until the parent closes its end
        os._exit(0)
    os.close(ours)

    assert not lease.release()

    os.close(childs)
    os.waitpid(child, 0)
    lease.take()
    assert lease.release()
