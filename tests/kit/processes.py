"""Run the project's commands as real processes."""

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from outbox import failpoints

ROOT = Path(__file__).resolve().parents[2]


class Process:
    """`manage.py` with arguments, in a process of its own; use as a context manager.

    `limits` are soft and hard limits of its resources in bytes, such as {resource.RLIMIT_AS: n}.
    """

    program: tuple[str, ...] = ("manage.py",)

    def __init__(
        self,
        *arguments: str,
        failpoint: str = "",
        limits: Mapping[int, int] | None = None,
        **environment: str,
    ) -> None:
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in __exit__
        env = os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"} | environment
        if failpoint:
            env[failpoints.VARIABLE] = failpoint
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error::ResourceWarning", *self.program, *arguments],
            cwd=ROOT,
            env=env,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        for each, most in (limits or {}).items():
            resource.prlimit(self._process.pid, each, (most, most))

    def memory(self, what: str = "VmRSS") -> int:
        """Return bytes of memory that it has, or had at most (VmHWM)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition(f"{what}:")[2].split()[0]) * 1024

    def wait(self, seconds: float = 60) -> int:
        """Wait until it has ended; return its exit code, negative for a signal."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} s:\n{self.output}") from None

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def output(self) -> str:
        """What it has printed so far, on both streams."""
        self._output.flush()
        return Path(f"/proc/self/fd/{self._output.fileno()}").read_text()

    def wait_for(self, condition: Callable[[], object], seconds: float = 60) -> None:
        """Wait until something is the case, as long as the process lives."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.running, f"ended with {self._process.returncode}:\n{self.output}"
            assert time.monotonic() < deadline, f"waited in vain:\n{self.output}"
            time.sleep(0.01)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self.running:
            self._process.kill()
        self._process.wait()
        self._output.close()


class Worker(Process):
    """A Celery worker with two processes that runs the tasks of the tests."""

    program = ("-m", "celery", "-A", "tests.inbox.celery_app", "worker", "--loglevel", "INFO")
    program += ("--concurrency", "2", "--without-gossip", "--without-mingle", "--hostname")

    def __init__(self, *arguments: str, **options: str) -> None:
        super().__init__(f"tests-{uuid.uuid4().hex[:8]}@localhost", *arguments, **options)

    @property
    def ready(self) -> bool:
        return " ready." in self.output


@contextmanager
def running(*arguments: str, **environment: str) -> Iterator[Process]:
    with Process(*arguments, **environment) as process:
        yield process


def run(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run a command to its end; return exit code and output."""
    with Process(*arguments, **environment) as process:
        code = process.wait()
        return code, process.output
