"""A real Celery worker with a queue of its own, and a relay that feeds it."""

import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.test import override_settings

from outbox.runtime.shutdown import Shutdown
from relay.management.commands.relay import build
from tests.kit.processes import ROOT
from tests.testapp import tasks

PATIENCE = 60


@dataclass
class Worker:
    """The running worker: what its tasks wrote down, and how to reach it."""

    broker: str
    queue: str
    file: Path
    environment: dict[str, str] = field(default_factory=dict)
    relays: dict[str, Any] = field(default_factory=dict)

    def lines(self, task: str = "") -> list[Any]:
        """Return what the tasks wrote, in order."""
        if not self.file.exists():
            return []
        found = [json.loads(line) for line in self.file.read_text().splitlines()]
        return [line for line in found if task in ("", line["task"])]

    def wait_for(self, count: int, task: str = "") -> list[Any]:
        """Wait until so many lines are there, and return them."""
        deadline = time.monotonic() + PATIENCE
        while len(found := self.lines(task)) < count:
            assert time.monotonic() < deadline, f"only {found}"
            time.sleep(0.02)
        return found

    def relay(self) -> None:
        """Publish what is in the outbox."""
        with override_settings(RELAYS=self.relays), Shutdown() as shutdown:
            relay = build("default", "default", shutdown)
            try:
                assert relay.run_until_empty(), relay.progress
            finally:
                relay.close()


@contextmanager
def running_worker(
    broker: str,
    results: str = "",
    *,
    queue_type: str = "classic",
    backend: str,
    database_url: str = "",
) -> Iterator[Worker]:
    """Run `celery worker`, prefork, until the block ends; set up the app of this process alike.

    Within the block of another one, the app is set up for the inner one.
    """
    queue = f"tasks-{uuid.uuid4()}"
    options = {"PAGE_SIZE": 3} if backend.endswith("AMQPBroker") else {}
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "lines"
        environment = {
            "C_FORCE_ROOT": "1",  # root may run these tests, pickle and all
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "TASKS_BROKER": broker,
            "TASKS_FILE": str(file),
            "TASKS_QUEUE": queue,
            "TASKS_QUEUE_TYPE": queue_type,
            "TASKS_RESULTS": results,
            **({"DATABASE_URL": database_url} if database_url else {}),
        }
        relays = {"default": {"BACKEND": backend, "URL": broker, "MESSAGES": "tasks", **options}}
        worker = Worker(broker, queue, file, environment, relays)
        with _configured(environment), _process(environment, Path(directory) / "log"):
            yield worker


@contextmanager
def _configured(environment: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(environment)
    _configure()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        _configure()


def _configure() -> None:
    tasks.configure(tasks.app)
    for name in ("queues", "router", "default_queue", "default_exchange", "send_task_message"):
        vars(tasks.app.amqp).pop(name, None)
    tasks.app.amqp._producer_pool = None
    vars(tasks.app).pop("pool", None)
    tasks.app._pool = None
    tasks.app._backend_cache = None
    tasks.app._local = type(tasks.app._local)()


@contextmanager
def _process(environment: dict[str, str], log: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "celery", "-A", "tests.testapp.tasks", "worker"]
    command += ["-n", f"{environment['TASKS_QUEUE']}@%h"]  # others may run beside it
    command += ["-P", "prefork", "-c", "2", "-l", "INFO", "--without-mingle", "--without-gossip"]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | environment, stdout=output, stderr=output
        )
        try:
            deadline = time.monotonic() + PATIENCE
            while " ready." not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            yield
        except AssertionError:
            print(log.read_text()[-4000:])
            raise
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
