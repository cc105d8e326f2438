"""Start commands of this project as processes of their own, which cannot outlive this one."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from django.conf import settings
from django.db import connection

from project import database_url

# A watcher reads from a pipe that only this process can write to. It sees the end of file when
# this process lets go or dies, by whatever signal, and kills the group. The command replaces the
# shell, so that our child is the command itself.
_LEASH = 'exec 3<&0; (read -r _; kill -KILL 0) <&3 & exec "$@" 3<&- </dev/null'
_PATIENCE = 15.0


class ProcessError(Exception):
    """A process ended that should not have."""


class ManageProcess:
    """A command of this project that runs in the background, in a session of its own.

    Ctrl-C in the terminal does not reach it: it is for the owner to end it.
    """

    program: ClassVar[tuple[str, ...]] = ("manage.py",)

    def __init__(self, *arguments: str, log: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = " ".join([self.program[-1], *arguments])
        self._log = log
        inner, self._leash = os.pipe()
        command = [sys.executable, *self.program, *arguments]
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    ["/bin/sh", "-c", _LEASH, "leash", *command],
                    cwd=settings.BASE_DIR,
                    stdin=inner,
                    env={**os.environ, "DATABASE_URL": child_database_url(), **(env or {})},
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        finally:
            os.close(inner)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def was_killed(self) -> bool:
        """Tell whether SIGKILL has ended the process."""
        return self._process.poll() == -signal.SIGKILL

    def ensure_running(self) -> None:
        """Raise ProcessError, with the end of its output, if the process has ended by itself."""
        if not self.running:
            raise ProcessError(
                f"'{self.name}' ended with exit code {self._process.returncode}:\n"
                + "\n".join(self._lines()[-15:])
            )

    def kill(self) -> None:
        """End the process at once, as a power failure would: SIGKILL."""
        self._process.kill()
        self._process.wait()
        self._let_go()

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        self._process.send_signal(number)

    def request_stop(self) -> None:
        """Ask the process to end, as a service manager would: SIGTERM. Does not wait."""
        if self.running:
            self._process.terminate()

    def finish(self) -> None:
        """Wait until the process has ended, and kill it if that takes too long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE)
        self.kill()

    def wait(self, seconds: float) -> int | None:
        """Wait until the process ends by itself; return its exit code, None if it takes longer."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    @property
    def output(self) -> str:
        """What the process has printed and logged."""
        return "\n".join(self._lines())

    def last_figures(self) -> dict[str, Any]:
        """Return the figures of the last line of JSON that the process logged."""
        for line in reversed(self._lines()):
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and entry.get("message") in ("progress", "stopped"):
                return entry
        return {}

    def _lines(self) -> list[str]:
        return self._log.read_text(errors="replace").splitlines()

    def _let_go(self) -> None:
        if self._leash >= 0:
            os.close(self._leash)
            self._leash = -1


class WorkerProcess(ManageProcess):
    """A Celery worker."""

    program = ("-m", "celery")


def child_database_url() -> str:
    """Return the URL of our database for the processes that we start.

    With the embedded server, this process is the one that keeps it running.
    """
    connection.ensure_connection()
    return database_url.compose(connection.settings_dict)
