"""Consume the inbox's queues beside a Celery worker: a bootstep that runs manage.py consume.

Each consumer is a process of its own, started anew and not forked: pool and consumer inherit no
connection from each other, whatever the pool is, and both end with the worker. Import it from
inbox.celery.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import django
from celery import bootsteps
from celery.utils.nodenames import node_format
from celery.worker import state
from django.apps import apps
from django.conf import settings

from inbox.conf import inbox_settings
from inbox.handlers.groups import choose_groups, chosen_broker
from inbox.sources.adapters import source_of
from outbox.exceptions import ConfigurationError
from outbox.runtime.backoff import Backoff

logger = logging.getLogger("inbox")

LOOK_EVERY = 1.0
"""Seconds from one look at the consumers to the next."""
BACKOFF = Backoff(base=2.0, cap=60.0)
STABLE = 60.0
"""Seconds after which a consumer's end is not counted with those before."""


@dataclass(slots=True)
class Consuming:
    """A process that consumes for groups, or is to be started again."""

    groups: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    failures: int = 0
    started: float = 0.0
    resume_at: float = 0.0

    def look(self, worker: Any) -> None:
        """Start the process if there is none and it is time to; tell of one that has ended."""
        now = time.monotonic()
        if self.process is None:
            if now >= self.resume_at:
                self.process = start(self.groups, worker)
                self.started = now
            return
        code = self.process.poll()
        if code is None:
            return
        if now - self.started >= STABLE:
            self.failures = 0
        delay = BACKOFF.delay(self.failures)
        logger.error(
            "The consumer of %s has ended with exit code %d; what it has printed says why. "
            "Nothing is lost; starting it again in %.1f s.",
            _named(self.groups),
            code,
            delay,
        )
        self.process = None
        self.failures += 1
        self.resume_at = now + delay


class ConsumeStep(bootsteps.StartStopStep):
    """Runs consumers of groups of handlers as long as the worker does.

    app.steps["worker"].add(ConsumeStep)

    Which groups, and how many processes for all of them, is said by the Celery settings
    `inbox_groups` (a list; by default all) and `inbox_processes` (by default 1), or by attributes
    of a subclass.
    A consumer that ends is started again, after a pause that grows. The worker's warm shutdown
    lets each finish its batch; a cold one kills them.
    """

    label = "Inbox"
    requires = ("celery.worker.components:Timer", "celery.worker.components:Pool")
    groups: Sequence[str] | None = None
    processes: int | None = None

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._consuming: list[Consuming] = []
        self._timer: Any = None
        self._closing = False
        self._asked: set[int] = set()

    def start(self, worker: Any) -> None:
        """Start the consumers; raise ConfigurationError if they could never work."""
        if not apps.ready:
            django.setup()
        url = chosen_broker()
        _settings_module()
        groups, processes = self._groups(worker.app.conf), self._processes(worker.app.conf)
        source_of(groups[0], url=url, conf=inbox_settings())
        self._consuming = [Consuming(groups) for _ in range(processes)]
        self._look(worker)
        self._timer = worker.timer.call_repeatedly(LOOK_EVERY, self._look, (worker,))

    def info(self, worker: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return what `celery inspect stats` shows: the processes of each group."""
        found: dict[str, list[int]] = {}
        for each in self._consuming:
            running = [each.process.pid] if each.process is not None else []
            for group in each.groups:
                found.setdefault(group, []).extend(running)
        return {"inbox": found}

    def close(self, worker: Any) -> None:
        """Ask the consumers to finish; they do so while tasks do the same."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        for process in self._running():
            self._ask(process)

    def stop(self, worker: Any) -> None:
        """Wait until the consumers have ended; kill them if the shutdown has become a cold one."""
        for process in self._running():
            # A timer that has a thread of its own may have started one in the meantime.
            self._ask(process)
            while process.poll() is None:
                if state.should_terminate not in (None, False):
                    process.kill()
                time.sleep(0.05)
            # That of one which was asked before it could listen: it has begun nothing.
            if process.returncode not in (0, -signal.SIGTERM):
                logger.error("A consumer has ended with exit code %d.", process.returncode)

    def terminate(self, worker: Any) -> None:
        """Kill the consumers: their transactions roll back, the broker delivers again."""
        for process in self._running():
            process.kill()
            process.wait()

    def _look(self, worker: Any) -> None:
        for each in self._consuming:
            if not self._closing:
                each.look(worker)

    def _ask(self, process: subprocess.Popen[bytes]) -> None:
        """Ask a consumer to finish, once: asked twice it ends at once."""
        if process.pid not in self._asked:
            self._asked.add(process.pid)
            process.terminate()

    def _running(self) -> list[subprocess.Popen[bytes]]:
        return [each.process for each in self._consuming if each.process is not None]

    def _groups(self, conf: Any) -> list[str]:
        chosen = self.groups if self.groups is not None else conf.get("inbox_groups")
        if chosen is None:
            return choose_groups()
        if isinstance(chosen, str) or not chosen:
            raise ConfigurationError(
                f"inbox_groups is a list of groups of handlers, or None for all, not {chosen!r}"
            )
        return choose_groups([str(group) for group in chosen])

    def _processes(self, conf: Any) -> int:
        chosen = self.processes if self.processes is not None else conf.get("inbox_processes", 1)
        if type(chosen) is not int or chosen < 1:
            raise ConfigurationError(f"inbox_processes is a whole number from 1 on, not {chosen!r}")
        return chosen


def start(groups: Sequence[str], worker: Any) -> subprocess.Popen[bytes]:
    """Start a consumer of groups, which prints where the worker does."""
    chosen = [argument for group in groups for argument in ("--group", group)]
    command = ["-m", "django", "consume", *chosen, "--parent", str(os.getpid())]
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": _settings_module(),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    with ExitStack() as stack:
        output = None
        if isinstance(worker.logfile, str) and worker.logfile:
            path = node_format(worker.logfile, worker.hostname)
            output = stack.enter_context(open(path, "ab"))
        # A group of its own: of Ctrl-C it would hear twice, and a second signal ends it at once.
        return subprocess.Popen(
            [sys.executable, *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,
        )


def _named(groups: Sequence[str]) -> str:
    return f"group{'s' * (len(groups) > 1)} {', '.join(map(repr, groups))}"


def _settings_module() -> str:
    found = getattr(settings, "SETTINGS_MODULE", None) or os.environ.get("DJANGO_SETTINGS_MODULE")
    if not found:
        raise ConfigurationError(
            "ConsumeStep starts processes, which need a module of settings: set "
            "DJANGO_SETTINGS_MODULE."
        )
    return str(found)
