"""Stopping in an orderly way, and at once when asked twice."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from outbox.runtime.shutdown import Shutdown

ROOT = Path(__file__).resolve().parents[3]
LONG = 60.0


@pytest.fixture
def shutdown() -> Iterator[Shutdown]:
    with Shutdown() as made:
        yield made


class TestWaiting:
    """wait() ends early for a request and for what is readable."""

    def test_time(self, shutdown: Shutdown):
        """Without either it takes its time."""
        start = time.monotonic()
        assert shutdown.wait(0.05) is False
        assert time.monotonic() - start >= 0.05
        assert not shutdown.requested

    @pytest.mark.parametrize("seconds", [0, -1])
    def test_no_time(self, shutdown: Shutdown, seconds: float):
        """No time is a look."""
        assert shutdown.wait(seconds) is False

    def test_request_from_another_thread(self, shutdown: Shutdown):
        """A request wakes who waits."""
        thread = threading.Timer(0.05, shutdown.request)
        thread.start()
        start = time.monotonic()
        assert shutdown.wait(LONG) is False
        assert time.monotonic() - start < LONG / 2
        assert shutdown.requested
        thread.join()

    def test_after_a_request(self, shutdown: Shutdown):
        """After it, nothing waits any more, however often it was made."""
        for _ in range(100_000):  # more than a socket buffers
            shutdown.request()
        start = time.monotonic()
        assert shutdown.wait(LONG) is False
        assert shutdown.wait(LONG) is False
        assert time.monotonic() - start < LONG / 2

    def test_sources(self, shutdown: Shutdown):
        """A file descriptor that becomes readable ends the wait, and is told apart."""
        reader, writer = socket.socketpair()
        with reader, writer:
            assert shutdown.wait(0, reader.fileno()) is False
            writer.send(b"x")
            assert shutdown.wait(LONG, reader.fileno()) is True
            shutdown.request()
            assert shutdown.wait(LONG, reader.fileno()) is False


class TestSignals:
    """In this process."""

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_request(self, shutdown: Shutdown, number: signal.Signals):
        """SIGTERM and SIGINT ask for an orderly end."""
        shutdown.install()
        os.kill(os.getpid(), number)
        shutdown.wait(LONG)
        assert shutdown.requested

    def test_between_two_instructions(self, shutdown: Shutdown):
        """A signal that arrives right before the wait begins ends it, too.

        Its handler would run only after the wait, so the interpreter must wake us by itself.
        """
        shutdown.install()
        assert signal.set_wakeup_fd(-1) == shutdown._writer.fileno()

    def test_signals_of_others(self, shutdown: Shutdown):
        """Other signals may interrupt a wait, once; they are no request."""
        shutdown.install()
        before = signal.signal(signal.SIGUSR1, lambda number, frame: None)
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
            shutdown.wait(LONG)
            start = time.monotonic()
            assert shutdown.wait(0.05) is False
            assert time.monotonic() - start >= 0.05
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert not shutdown.requested

    def test_close_gives_them_back(self):
        """Afterwards the signals belong to who had them before."""
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        with Shutdown() as shutdown:
            shutdown.install()
            assert signal.getsignal(signal.SIGTERM) != before[0]

        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
        assert signal.set_wakeup_fd(-1) == -1

    def test_request_after_close(self):
        """A request that comes too late does no harm."""
        shutdown = Shutdown()
        shutdown.close()
        shutdown.request()
        assert shutdown.requested


PROGRAM = """
import sys, threading
from outbox.runtime.shutdown import Shutdown

with Shutdown() as shutdown:
    shutdown.install()
    print("ready", flush=True)
    shutdown.wait(60)
    print("requested", shutdown.requested, flush=True)
    while "busy" in sys.argv:
        threading.Event().wait(0.05)
    print("done", flush=True)
"""


def start(*arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
class TestProcess:
    """In a process of its own."""

    def test_first_signal(self, number: signal.Signals):
        """The first one ends the wait, and the process ends as it likes."""
        with start() as process:
            process.send_signal(number)
            output, errors = process.communicate(timeout=30)

        assert (process.returncode, output, errors) == (0, "requested True\ndone\n", "")

    def test_second_signal(self, number: signal.Signals):
        """The second one ends the process at once, with the exit code of the signal."""
        with start("busy") as process:
            process.send_signal(number)
            assert process.stdout
            assert process.stdout.readline() == "requested True\n"
            process.send_signal(number)
            output, errors = process.communicate(timeout=30)

        assert process.returncode == 128 + number
        assert (output, errors) == ("", "Second signal: stopping at once.\n")
