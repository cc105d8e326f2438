"""Two services that share a broker and no code: each request has one end, the same on both sides.

Real processes, two databases, RabbitMQ; whoever it is, it is killed in between.
"""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from amqp.exceptions import NotFound
from django.db import connection
from kombu import Connection

from tests.kit.database import execute
from tests.kit.processes import ROOT, Process
from tests.kit.waiting import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="two databases of a server"),
    pytest.mark.django_db(transaction=True),
]

HERE = Path(__file__).parent
ASKED = 60


class Django(Process):
    """`python -m django`, of one of the projects."""

    program = ("-m", "django")


@dataclass
class Service:
    """One of the projects, with a database of its own."""

    name: str
    database: str
    exchange: str
    broker_url: str
    home: Path = HERE

    @property
    def environment(self) -> dict[str, str]:
        own = {name: connection.settings_dict[name] for name in NAMES}
        engine = {"ENGINE": "django.db.backends.postgresql", "NAME": self.database}
        return {
            "PYTHONPATH": os.pathsep.join([str(self.home / self.name), str(ROOT)]),
            "DJANGO_SETTINGS_MODULE": f"{self.name}.settings",
            "DATABASE": json.dumps(own | engine),
            "SOURCE": f"/{self.queue}",
            "EXCHANGE": self.exchange,
            "BROKER": self.broker_url,
        }

    @property
    def queue(self) -> str:
        return self.database.replace("_", "-")

    def run(self, *arguments: str) -> str:
        """Run a program to its end; return what it printed."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.home / self.name,
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, *command: str, failpoint: str = "") -> Django:
        return Django(*command, failpoint=failpoint, **self.environment)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        settings = connection.settings_dict
        given = {
            "host": settings["HOST"] or settings.get("OPTIONS", {}).get("host"),
            "port": settings["PORT"] or None,
            "user": settings["USER"],
            "password": settings["PASSWORD"] or None,
        }
        with psycopg.connect(dbname=self.database, **given) as found:
            return found.execute(statement).fetchall()


NAMES = ("HOST", "PORT", "USER", "PASSWORD", "OPTIONS")


NOTED = "SELECT convert_from(data, 'UTF8') FROM django_outbox_message WHERE type = 'asking.noted'"


@dataclass
class Pair:
    asking: Service
    answering: Service

    def noted(self) -> list[tuple[str, str]]:
        """Return of which requests a handler of the asker was told, and how they have ended."""
        noted = self.asking.rows(NOTED)
        return sorted((each["id"], each["is"]) for each in (json.loads(data) for (data,) in noted))

    def outcomes(self) -> dict[str, int]:
        counted = "SELECT outcome, count(*) FROM django_outbox_settlement GROUP BY outcome"
        return dict(self.asking.rows(counted))


@pytest.fixture(scope="module")
def templates(django_db_setup: None, django_db_blocker: Any) -> Iterator[dict[str, str]]:
    """A migrated database for each project, to be copied."""
    found = {name: f"{name}_{uuid.uuid4().hex[:8]}" for name in ("asking", "answering")}
    with django_db_blocker.unblock():
        try:
            for name, database in found.items():
                execute(f"CREATE DATABASE {database}")
                service = Service(name, database, "events", "amqp://broker.invalid//")
                service.run("-m", "django", "migrate", "--verbosity", "0")
            yield found
        finally:
            for database in found.values():
                execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
            connection.close()


@pytest.fixture
def pair(broker_url: str, templates: dict[str, str]) -> Iterator[Pair]:
    run = uuid.uuid4().hex[:8]
    services = [Service(name, f"{name}_{run}", f"events-{run}", broker_url) for name in templates]
    try:
        for each in services:
            execute(f"CREATE DATABASE {each.database} TEMPLATE {templates[each.name]}")
        yield Pair(*services)
    finally:
        for each in services:
            execute(f"DROP DATABASE IF EXISTS {each.database} WITH (FORCE)")
        with Connection(broker_url) as link:
            channel = link.channel()
            for each in services:
                channel.queue_delete(each.queue)
            channel.exchange_delete(f"events-{run}")


def ready(service: Service, process: Process) -> bool:
    """Tell whether a consumer reads its queue, which is bound then; fail if it has ended."""
    assert process.running, process.output
    with Connection(service.broker_url) as link:
        try:
            return bool(link.channel().queue_declare(service.queue, passive=True).consumer_count)
        except NotFound:
            return False


def running(stack: ExitStack, pair: Pair, *without: tuple[str, str]) -> dict[tuple[str, str], Any]:
    """Start relay and consumer of both, but those that are left out."""
    found = {}
    for service in (pair.answering, pair.asking):
        for command in ("consume", "relay"):
            if (service.name, command) not in without:
                process = stack.enter_context(service.start(command))
                found[service.name, command] = process
                if command == "consume":  # so that its queue is bound before anything is published
                    until(partial(ready, service, process), every=0.2)
    return found


def test_every_request_has_one_end(pair: Pair) -> None:
    """Answered, failed or expired; what was answered is what the other side has answered."""
    with ExitStack() as stack:
        running(stack, pair)
        ids = pair.asking.run("ask.py", "0", str(ASKED), "600").split()
        pair.asking.run("ask.py", "1000", "2", "1")
        pair.asking.run("ask.py", "2000", "2", "600")
        until(lambda: sum(pair.outcomes().values()) == ASKED + 4, seconds=60)
        until(lambda: len(pair.noted()) >= ASKED + 4, seconds=60)

    ends = pair.asking.rows(
        "SELECT a.message_id::text, s.outcome FROM django_outbox_settlement AS s "
        "JOIN django_outbox_request AS a ON a.id = s.request_id"
    )
    assert pair.noted() == sorted(ends)  # each end is told once

    assert pair.outcomes() == {"answered": ASKED, "expired": 2, "failed": 2}
    answers = pair.asking.rows(
        "SELECT a.message_id::text, convert_from(r.data, 'UTF8') FROM django_outbox_reply AS r "
        "JOIN django_outbox_request AS a ON a.id = r.request_id"
    )
    squares = {name: json.loads(data)["square"] for name, data in answers}
    assert squares == {name: number**2 for number, name in enumerate(ids)}
    sent = pair.answering.rows(
        "SELECT causation_id FROM django_outbox_message WHERE type = 'maths.squared'"
    )
    assert sorted(name for (name,) in sent) == sorted(ids)
    assert pair.asking.rows("SELECT count(*) FROM django_outbox_scheduled") == [(0,)]
    reasons = pair.asking.rows(
        "SELECT DISTINCT reason FROM django_outbox_settlement WHERE outcome = 'failed'"
    )
    assert reasons == [("answering.square has failed after 2 attempts: ValueError",)]


@pytest.mark.parametrize(
    ("service", "command", "failpoint"),
    [
        ("answering", "consume", "inbox.handled:2"),
        ("answering", "consume", "inbox.committed:2"),
        ("answering", "relay", "relay.published:1"),
        ("asking", "relay", "relay.published:1"),
        ("asking", "consume", "inbox.handled:2"),
        ("asking", "consume", "inbox.committed:2"),
    ],
)
def test_killed_on_either_side(pair: Pair, service: str, command: str, failpoint: str) -> None:
    """The process is killed there, and another one goes on: no answer is lost or doubled."""
    with ExitStack() as stack:
        running(stack, pair, (service, command))
        one = getattr(pair, service)
        victim = stack.enter_context(one.start(command, failpoint=failpoint))
        if command == "consume":
            until(partial(ready, one, victim), every=0.2)
        ids = pair.asking.run("ask.py", "0", str(ASKED), "600").split()
        assert victim.wait(60) == -signal.SIGKILL
        stack.enter_context(one.start(command))
        until(lambda: sum(pair.outcomes().values()) == ASKED, seconds=60)
        until(lambda: len(pair.noted()) >= ASKED, seconds=60)

    assert pair.outcomes() == {"answered": ASKED}
    assert pair.noted() == sorted((name, "answered") for name in ids)
    answers = pair.asking.rows(
        "SELECT a.message_id::text, r.number FROM django_outbox_reply AS r "
        "JOIN django_outbox_request AS a ON a.id = r.request_id"
    )
    assert sorted(answers) == sorted((name, 1) for name in ids)
    sent = pair.answering.rows("SELECT count(*) FROM django_outbox_message")
    assert sent == [(ASKED,)]


def end(process: Process) -> None:
    """End a process in an orderly way."""
    process.send(signal.SIGTERM)
    assert process.wait() == 0, process.output


RECEIPTS = (
    "SELECT state, reason, count(*) FROM django_inbox_receipt "
    "WHERE handler = 'answering.square' GROUP BY 1, 2 ORDER BY 1, 2"
)
TOLD = "SELECT count(*) FROM django_outbox_request WHERE progress_text = 'waits'"
OPEN = "SELECT count(*) FROM django_inbox_openrequest"


@pytest.mark.parametrize("failpoint", ["", "inbox.handled:1", "inbox.committed:1"])
def test_what_is_cancelled_is_so_on_both_sides(pair: Pair, failpoint: str) -> None:
    """What was to be tried again is skipped, what was to be answered later is closed.

    Also if the consumer that is told of it is killed, and another one goes on.
    """
    count = 10
    with ExitStack() as stack:
        processes = running(stack, pair)
        retried = pair.asking.run("ask.py", "4000", str(count), "600").split()
        later = pair.asking.run("ask.py", "3000", str(count), "600").split()
        answered = pair.asking.run("ask.py", "1", str(count), "600").split()
        until(lambda: pair.answering.rows(OPEN) == [(count,)])
        until(lambda: pair.outcomes() == {"answered": count})
        until(lambda: pair.asking.rows(TOLD) == [(count,)])
        if failpoint:
            end(processes["answering", "consume"])
            victim = stack.enter_context(pair.answering.start("consume", failpoint=failpoint))
            until(partial(ready, pair.answering, victim), every=0.2)
        printed = pair.asking.run("cancel.py", *retried, *later, *answered)
        assert int(printed) == 2 * count
        if failpoint:
            assert victim.wait(60) == -signal.SIGKILL
            stack.enter_context(pair.answering.start("consume"))
        until(lambda: pair.answering.rows(OPEN) == [(0,)])
        until(lambda: ("skipped", "cancelled", count) in pair.answering.rows(RECEIPTS))
        late = pair.asking.run("ask.py", "1", "1", "600").split()  # and it goes on
        until(lambda: pair.outcomes().get("answered") == count + len(late))

    assert pair.outcomes() == {"answered": count + 1, "cancelled": 2 * count}
    assert pair.answering.rows(RECEIPTS) == [
        ("processed", "cancelled", count),
        ("processed", None, count + 1),
        ("skipped", "cancelled", count),
    ]
    assert pair.answering.rows("SELECT count(*) FROM django_inbox_deadletter") == [(0,)]


def test_what_is_cancelled_before_it_is_there_is_never_handled(pair: Pair) -> None:
    """While nobody consumes: the request and its end come in one batch, or in two."""
    with ExitStack() as stack:
        processes = running(stack, pair)
        end(processes["answering", "consume"])
        ids = pair.asking.run("ask.py", "1", "10", "600").split()
        assert int(pair.asking.run("cancel.py", *ids)) == len(ids)
        stack.enter_context(pair.answering.start("consume"))
        until(
            lambda: (
                pair.answering.rows("SELECT count(*) FROM django_inbox_receipt")
                == [(2 * len(ids),)]
            )
        )
    assert pair.outcomes() == {"cancelled": len(ids)}
    handled = pair.answering.rows("SELECT count(*) FROM django_outbox_message")
    found = {(state, reason): number for state, reason, number in pair.answering.rows(RECEIPTS)}
    assert found.get(("skipped", "cancelled"), 0) == len(ids) - handled[0][0]
