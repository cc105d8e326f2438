"""Two services that share a broker and no code: what is lost between them is found and named.

Real processes, two databases, RabbitMQ. Buckets of a second, so that minutes pass quickly.
"""

import json
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from os import environ
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection
from kombu import Connection

from tests.kit.database import execute
from tests.kit.waiting import until
from tests.proofs.requests import test_two_services as requests

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="two databases of a server"),
    pytest.mark.django_db(transaction=True),
]

HERE = Path(__file__).parent


@dataclass
class Service(requests.Service):
    """One of the projects; `peer` is the group that the seller compares with."""

    home: Path = HERE
    peer: str = "peer"

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "PEER": self.peer}

    def change(self, statement: str, *values: object) -> None:
        settings = connection.settings_dict
        given = {
            "host": settings["HOST"] or settings.get("OPTIONS", {}).get("host"),
            "port": settings["PORT"] or None,
            "user": settings["USER"],
            "password": settings["PASSWORD"] or None,
        }
        with psycopg.connect(dbname=self.database, **given) as found:
            found.execute(statement, values)


@dataclass
class Pair:
    selling: Service
    booking: Service

    def sell(self, first: int, count: int, seconds: float = 0) -> list[str]:
        """Sell numbers; return the ids of the messages."""
        return self.selling.run("sell.py", str(first), str(count), str(seconds)).split()

    def booked(self) -> int:
        """How many sales have a receipt."""
        rows = self.booking.rows(
            "SELECT count(*) FROM django_inbox_receipt WHERE handler = 'booking.book'"
        )
        return int(rows[0][0])

    def reconcile(self, *options: str) -> tuple[int, dict[str, Any]]:
        """Run the command; return its exit code, and what it says of the group."""
        done = subprocess.run(
            [sys.executable, "-m", "django", "reconcile", "--json", "--wait", "90", *options],
            env=environ | self.selling.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)["groups"][0]

    def breaks(self) -> dict[tuple[str, str], set[str]]:
        """The ids of breaks by kind and state."""
        found: dict[tuple[str, str], set[str]] = {}
        rows = self.selling.rows("SELECT kind, state, message_id FROM django_outbox_break")
        for kind, state, message_id in rows:
            found.setdefault((kind, state), set()).add(message_id)
        return found


@pytest.fixture(scope="module")
def templates(django_db_setup: None, django_db_blocker: Any) -> Iterator[dict[str, str]]:
    """A migrated database for each project, to be copied."""
    found = {name: f"{name}_{uuid.uuid4().hex[:8]}" for name in ("selling", "booking")}
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
    services[0].peer = services[1].queue
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


def started(stack: ExitStack, service: Service, *commands: str) -> dict[str, Any]:
    """Start processes of a service; a consumer reads its queue then."""
    found = {}
    for command in commands:
        found[command] = stack.enter_context(service.start(command))
        if command == "consume":
            until(partial(requests.ready, service, found[command]), every=0.2)
    return found


def test_every_planted_loss_is_found_and_named(pair: Pair) -> None:
    """Receipts deleted, a queue purged, a sender restored, a handler that fails; or nothing."""
    with ExitStack() as stack:
        booking = started(stack, pair.booking, "consume", "relay")
        started(stack, pair.selling, "consume", "relay")
        # Buckets count from the first that begins when it is bound, and when we first look.
        code, told = pair.reconcile()
        assert (code, told["agrees"]) == (0, True)
        until(lambda: pair.selling.rows("SELECT 1 FROM django_outbox_grouptopic"))
        since = pair.selling.rows("SELECT now()::timestamptz(0)::text")[0][0]
        sold = pair.sell(0, 30, 0.05)
        until(lambda: pair.booked() == 30)
        until(lambda: _stated_since(pair, sold[-1]))
        code, told = pair.reconcile()
        assert (code, told["agrees"]) == (0, True)
        assert pair.breaks() == {}

        forgotten = set(sold[3:5])
        pair.booking.change(
            "DELETE FROM django_inbox_receipt WHERE message_id = ANY(%s)", list(forgotten)
        )
        restored = sold[10]
        pair.selling.change("DELETE FROM django_outbox_message WHERE message_id = %s", restored)
        [failing] = pair.sell(1_000, 1)
        until(lambda: pair.booked() == 29)
        booking["consume"].send(signal.SIGTERM)
        assert booking["consume"].wait() == 0
        purged = set(pair.sell(100, 5))
        _purge(pair, 5)
        started(stack, pair.booking, "consume")
        until(lambda: _stated_since(pair, max(purged)))

        code, told = pair.reconcile("--since", since)
        assert (code, told["agrees"]) == (1, False)
        assert pair.breaks() == {
            ("missing", "open"): forgotten | purged,
            ("unknown", "open"): {restored},
            ("unsettled", "open"): {failing},
        }

        code, told = pair.reconcile("--repair")
        assert code == 1
        assert pair.breaks() == {
            ("missing", "repaired"): forgotten | purged,
            ("unknown", "open"): {restored},
            ("unsettled", "open"): {failing},
        }
        assert pair.booked() == 36
        pair.selling.run(
            *("-m", "django", "reconcile", "--accept", restored, failing, "--reason", "a drill")
        )
        code, told = pair.reconcile("--since", since)
        assert (code, told["agrees"]) == (0, True)


def test_under_load_there_is_no_false_break(pair: Pair) -> None:
    """With transactions that are held open over the ends of many buckets."""
    with ExitStack() as stack:
        started(stack, pair.booking, "consume", "relay")
        started(stack, pair.selling, "consume", "relay")
        until(lambda: pair.selling.rows("SELECT 1 FROM django_outbox_grouptopic"))
        writers = [
            subprocess.Popen(
                [sys.executable, "sell.py", str(100 * number), str(count), str(seconds)],
                cwd=HERE / "selling",
                env=environ | pair.selling.environment,
                stdout=subprocess.DEVNULL,
            )
            for number, (count, seconds) in enumerate([(80, 0.2), (80, 0.2), (6, 4.0), (6, 4.0)])
        ]
        for each in writers:
            assert each.wait(120) == 0
        until(lambda: pair.booked() == 172)
        last = pair.selling.rows("SELECT max(message_id::text) FROM django_outbox_message")[0][0]
        until(lambda: _stated_since(pair, last))
        code, told = pair.reconcile()

    assert (code, told["agrees"]) == (0, True)
    opened = {name: ids for name, ids in pair.breaks().items() if name[1] != "in_transit"}
    assert opened == {}
    totals = pair.selling.rows(
        "SELECT sum(count) FROM (SELECT DISTINCT ON (start, type) count FROM "
        "django_outbox_buckettotal ORDER BY start, type, revision DESC) AS newest"
    )
    assert totals == [(172,)]


def _stated_since(pair: Pair, message_id: str) -> bool:
    """Tell whether the bucket of a message has been stated, and all that was stated is answered."""
    time = uuid.UUID(message_id).int >> 80
    [(stated, left)] = pair.selling.rows(
        "SELECT max(stated), (SELECT count(*) FROM django_outbox_tostate) "
        "FROM django_outbox_reconciliation"
    )
    return stated > time and not left


def _purge(pair: Pair, count: int) -> None:
    with Connection(pair.booking.broker_url) as link:
        channel = link.channel()

        def waiting() -> int:
            return int(channel.queue_declare(pair.booking.queue, passive=True).message_count)

        until(lambda: waiting() >= count)
        channel.queue_purge(pair.booking.queue)
