"""The processes of a world: relays, consumers, writers and people; none outlives the test."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from outbox.failpoints import VARIABLE as FAILPOINT
from tests.kit.processes import ROOT
from tests.kit.services.leash import Leashed
from tests.proofs.faults.history import Counts

_STOP_SECONDS = 20
_FOREIGN = ("PG", "TEST_", FAILPOINT, "DJANGO_")
"""The beginnings of variables that are another run's."""


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of a process of a world."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
    return inherited | {"DJANGO_SETTINGS_MODULE": "tests.proofs.faults.settings"} | variables


class Service:
    """A relay or a consumer: a `manage.py` command that should run until it is told to stop."""

    def __init__(self, name: str, *command: str, env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self._log = log
        arguments = [sys.executable, str(ROOT / "manage.py"), *command]
        self._leashed = Leashed(arguments, env=env, log=log)

    @property
    def pid(self) -> int:
        return self._leashed.process.pid

    @property
    def running(self) -> bool:
        return self._leashed.is_running()

    @property
    def exit_code(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._leashed.process.poll()

    def send(self, number: signal.Signals) -> None:
        self._leashed.process.send_signal(number)

    def stop(self) -> int | None:
        """Ask it to end, and kill it if it does not; return its exit code."""
        self._leashed.terminate(_STOP_SECONDS)
        return self.exit_code

    def kill(self) -> None:
        self._leashed.process.kill()
        self._leashed.kill()

    def mark(self) -> int:
        """Return the end of what it has printed so far."""
        return self._log.stat().st_size

    def printed(self, since: int = 0) -> str:
        return self._log.read_bytes()[since:].decode(errors="replace")

    def said(self, pattern: str, since: int = 0) -> bool:
        """Tell whether it has printed something that matches, after a mark."""
        return re.search(pattern, self.printed(since)) is not None

    def last_figures(self) -> dict[str, Any]:
        """Return the last figures that it logged."""
        for line in reversed(self.printed().splitlines()):
            if line.startswith("{"):
                entry: dict[str, Any] = json.loads(line)
                if entry.get("message") in ("progress", "stopped"):
                    return entry
        return {}

    def resident_bytes(self) -> int:
        """Return how much memory it occupies."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


class Writers:
    """A process of several writers; see tests.proofs.faults.writers."""

    def __init__(self, threads: int, rate: float, *, env: Mapping[str, str], log: Path) -> None:
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.proofs.faults.writers", str(threads), str(rate)],
                cwd=ROOT,
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._log = log

    def go(self) -> None:
        self._tell("go")

    def pause(self) -> Counts:
        """Let the writers finish what they are at; return what they have done since the start."""
        self._tell("pause")
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the writers have ended:\n{self._log.read_text()[-2000:]}")
        counts = json.loads(line)
        return Counts(committed=counts["committed"], in_doubt=counts["in_doubt"])

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _tell(self, command: str) -> None:
        assert self._process.stdin is not None
        print(command, file=self._process.stdin, flush=True)


class Person:
    """Somebody at the command line; see tests.proofs.faults.person. Use as a context manager."""

    def __init__(self, *, env: Mapping[str, str], log: Path) -> None:
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.proofs.faults.person"],
                cwd=ROOT,
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._log = log
        self._unanswered: list[tuple[str, ...]] = []
        self._answered: list[tuple[tuple[str, ...], int]] = []

    def tell(self, *command: str) -> None:
        """Give a command, without waiting for what comes of it."""
        assert self._process.stdin is not None
        print(json.dumps(command), file=self._process.stdin, flush=True)
        self._unanswered.append(command)

    def listen(self) -> None:
        """Wait until all commands are carried out."""
        assert self._process.stdout is not None
        for command in self._unanswered:
            line = self._process.stdout.readline()
            if "messages" not in (said := json.loads(line or "{}")):
                raise RuntimeError(f"{command}: {line}\n{self._log.read_text()[-2000:]}")
            self._answered.append((command, said["messages"]))
        self._unanswered.clear()

    def count(self, option: str = "") -> int:
        """Return how many messages the commands have dealt with, those with an option or all."""
        return sum(count for command, count in self._answered if not option or option in command)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
