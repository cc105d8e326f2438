"""Processes of a measurement, which cannot outlive it."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from tests.kit.services.leash import Leashed

ROOT = Path(__file__).resolve().parents[1]
TICKS = os.sysconf("SC_CLK_TCK")

_FOREIGN = ("PG", "TEST_", "DJANGO_", "BENCH_", "PYTHON")
"""The beginnings of variables that must not reach a measured process."""


def environment(**variables: str) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
    return inherited | {"DJANGO_SETTINGS_MODULE": "benchmarks.settings"} | variables


def run_manage(*arguments: str, **variables: str) -> None:
    """Run a `manage.py` command to its end."""
    finish([sys.executable, "manage.py", *arguments], environment(**variables))


def run_worker(name: str, *arguments: str, **variables: str) -> dict[str, Any]:
    """Run benchmarks.workers.<name> to its end; return what its last line says."""
    command = [sys.executable, "-m", f"benchmarks.workers.{name}", *arguments]
    return report(finish(command, environment(**variables)))


def report(output: str) -> dict[str, Any]:
    """Return the JSON object in the last line of what a process has printed."""
    found: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return found


def finish(command: list[str], env: dict[str, str]) -> str:
    """Run a command to its end and return its output; raise RuntimeError if it fails."""
    done = subprocess.run(command, cwd=ROOT, env=env, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return done.stdout


class Process:
    """A command that runs beside us. Use as a context manager: it ends it."""

    def __init__(self, command: list[str], **variables: str) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="bench-")
        self._log = Path(self._directory.name) / "output"
        self._leashed = Leashed(command, env=environment(**variables), log=self._log)

    @classmethod
    def manage(cls, *arguments: str, **variables: str) -> Self:
        return cls([sys.executable, str(ROOT / "manage.py"), *arguments], **variables)

    @classmethod
    def worker(cls, name: str, *arguments: str, **variables: str) -> Self:
        return cls([sys.executable, "-m", f"benchmarks.workers.{name}", *arguments], **variables)

    @property
    def pid(self) -> int:
        return self._leashed.process.pid

    @property
    def running(self) -> bool:
        return self._leashed.is_running()

    @property
    def output(self) -> str:
        return self._log.read_text()

    def wait(self, seconds: float = 300) -> str:
        """Wait until it has ended well; return its output."""
        try:
            code = self._leashed.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"still running after {seconds:g} s:\n{self.output}") from None
        if code:
            raise RuntimeError(f"exited with {code}:\n{self.output}")
        return self.output

    def wait_until(self, condition: Callable[[], object], seconds: float = 120) -> None:
        """Wait until something is the case, while it runs."""
        deadline = time.monotonic() + seconds
        while not condition():
            if not self.running:
                raise RuntimeError(f"ended too early:\n{self.output}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"waited in vain:\n{self.output}")
            time.sleep(0.01)

    def cpu_seconds(self) -> float:
        """Return how long it has occupied a core so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def peak_bytes(self) -> int:
        """Return the most memory that it has occupied so far."""
        return self._status("VmHWM")

    def resident_bytes(self) -> int:
        """Return how much memory it occupies."""
        return self._status("VmRSS")

    def _status(self, name: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith(f"{name}:")]
        return int(line.split()[1]) * 1024

    def stop(self) -> None:
        self._leashed.terminate(20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._directory.cleanup()
