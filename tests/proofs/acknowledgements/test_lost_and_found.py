"""A sender and two groups of another service, which share a broker and no code.

Real processes, two databases, RabbitMQ. Whatever is lost on the way, either way, and whoever is
killed: each group handles each message once, and the sender knows it.
"""

import json
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from amqp.exceptions import NotFound
from django.db import connection
from kombu import Connection

from tests.kit.database import execute
from tests.kit.processes import Process
from tests.kit.waiting import until
from tests.proofs.requests import test_two_services as services

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="two databases of a server"),
    pytest.mark.django_db(transaction=True),
]

HERE = Path(__file__).parent
SENT = 30
GROUPS = ("billing", "shipping")


@dataclass
class Service(services.Service):
    """One of the two projects."""

    home: Path = HERE
    prefix: str = ""
    within: float = 1.0

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {"PREFIX": self.prefix, "WITHIN": str(self.within)}


@dataclass
class Scene:
    sending: Service
    receiving: Service

    def send(self) -> None:
        self.sending.run("send.py", str(SENT))

    def states(self, column: str = "state") -> dict[tuple[str, str], int]:
        counted = f'SELECT "group", {column}, count(*) FROM django_outbox_acknowledgement'
        rows = self.sending.rows(f'{counted} GROUP BY "group", {column}')
        return {(group, value): count for group, value, count in rows}

    def settled(self) -> bool:
        return self.states() == {(group, "handled"): SENT for group in GROUPS}

    def noted(self) -> dict[str, list[int]]:
        """Return what the handlers have noted, by group; twice what was handled twice."""
        rows = self.receiving.rows("SELECT * FROM noted ORDER BY 1, 2")
        return {group: [n for each, n in rows if each == group] for group in GROUPS}

    def told(self, group: str) -> int:
        """Return how many ids a group has told, again and again."""
        rows = self.receiving.rows(
            "SELECT convert_from(data, 'UTF8') FROM django_outbox_message"
            " WHERE type = 'outbox.acknowledgement'"
        )
        said = [json.loads(data) for (data,) in rows]
        return sum(len(each["handled"]) for each in said if each["group"] == group)

    def queue(self, group: str) -> str:
        return self.receiving.prefix + group if group in GROUPS else self.sending.queue

    def depth(self, group: str) -> tuple[int, int]:
        """Return how many messages wait in a queue, and its consumers; -1 if there is none."""
        with Connection(self.sending.broker_url) as link:
            try:
                found = link.channel().queue_declare(self.queue(group), passive=True)
            except NotFound:
                return -1, 0
            return found.message_count, found.consumer_count

    def drop(self, group: str, *, queue: bool = False) -> int:
        """Lose all that waits in a queue, or with the queue; return how many messages."""
        with Connection(self.sending.broker_url) as link:
            channel = link.channel()
            return int((channel.queue_delete if queue else channel.queue_purge)(self.queue(group)))

    def consume(self, stack: ExitStack, group: str, failpoint: str = "") -> Process:
        """Start a consumer, of the sender's own group or one of the other service; it reads."""
        if group in GROUPS:
            process = self.receiving.start("consume", "--group", group, failpoint=failpoint)
        else:
            process = self.sending.start("consume", failpoint=failpoint)
        stack.enter_context(process)
        until(partial(self._reads, group, process), every=0.2)
        return process

    def _reads(self, group: str, process: Process) -> bool:
        assert process.running, process.output
        return self.depth(group)[1] > 0

    def stop(self, group: str, process: Process) -> None:
        """End a consumer; its queue stays."""
        process.send(signal.SIGTERM)
        assert process.wait() == 0, process.output
        until(lambda: self.depth(group)[1] == 0, every=0.2)


@pytest.fixture(scope="module")
def templates(django_db_setup: None, django_db_blocker: Any) -> Iterator[dict[str, str]]:
    """A migrated database for each project, to be copied."""
    found = {name: f"{name}_{uuid.uuid4().hex[:8]}" for name in ("sending", "receiving")}
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
def scene(broker_url: str, templates: dict[str, str]) -> Iterator[Scene]:
    run = uuid.uuid4().hex[:8]
    both = [
        Service(name, f"{name}_{run}", f"events-{run}", broker_url, prefix=f"{run}-")
        for name in templates
    ]
    found = Scene(*both)
    try:
        for each in both:
            execute(f"CREATE DATABASE {each.database} TEMPLATE {templates[each.name]}")
        found.receiving.run(
            "-c",
            "import django; django.setup(); from django.db import connection;"
            "connection.cursor().execute('CREATE TABLE noted (who text, number int)')",
        )
        yield found
    finally:
        for each in both:
            execute(f"DROP DATABASE IF EXISTS {each.database} WITH (FORCE)")
        with Connection(broker_url) as link:
            channel = link.channel()
            for queue in (*GROUPS, ""):
                channel.queue_delete(found.queue(queue))
            channel.exchange_delete(f"events-{run}")


def relays(stack: ExitStack, scene: Scene) -> None:
    stack.enter_context(scene.sending.start("relay"))
    stack.enter_context(scene.receiving.start("relay"))


def check(scene: Scene) -> None:
    """Each group has handled each message, once."""
    assert scene.noted() == {group: list(range(SENT)) for group in GROUPS}


def test_what_is_handled_is_acknowledged_and_not_sent_again(scene: Scene) -> None:
    """Also much later than a resend would have come."""
    with ExitStack() as stack:
        for group in (*GROUPS, "sender"):
            scene.consume(stack, group)
        relays(stack, scene)
        scene.send()
        until(scene.settled, seconds=60)
        resends = scene.states("resends")
        time.sleep(3 * scene.sending.within)
        assert scene.states("resends") == resends
        assert scene.settled()
    check(scene)


@pytest.mark.parametrize("deleted", [False, True])
def test_what_is_lost_is_sent_again_to_that_group_alone(scene: Scene, deleted: bool) -> None:
    """Purged, or deleted with its queue, while nobody consumes it; that is said until one does."""
    with ExitStack() as stack:
        scene.stop("billing", scene.consume(stack, "billing"))
        for group in ("shipping", "sender"):
            scene.consume(stack, group)
        relays(stack, scene)
        scene.send()
        until(lambda: scene.states().get(("shipping", "handled")) == SENT, seconds=60)
        until(lambda: scene.depth("billing")[0] == SENT, every=0.2)
        assert scene.drop("billing", queue=deleted) == SENT
        hold = "no_queue" if deleted else "no_consumer"
        until(lambda: scene.states("hold").get(("billing", hold)) == SENT, seconds=30)
        assert scene.noted()["billing"] == []
        scene.consume(stack, "billing")
        until(scene.settled, seconds=60)
        told = scene.told("shipping")
    check(scene)
    assert (
        told
        == SENT
        + scene.sending.rows(
            "SELECT coalesce(sum(resends), 0) FROM django_outbox_acknowledgement"
            " WHERE \"group\" = 'shipping'"
        )[0][0]
    )
    assert scene.sending.rows(
        "SELECT count(*) FROM django_outbox_acknowledgement"
        " WHERE \"group\" = 'billing' AND resends = 0"
    ) == [(0,)]


def test_acknowledgements_that_are_lost_are_given_again(scene: Scene) -> None:
    """The message comes again, is known, and is acknowledged again; its handler ran once."""
    with ExitStack() as stack:
        scene.stop("sender", scene.consume(stack, "sender"))
        for group in GROUPS:
            scene.consume(stack, group)
        relays(stack, scene)
        scene.send()
        until(lambda: all(scene.told(group) >= SENT for group in GROUPS), seconds=60)
        until(lambda: scene.depth("sender")[0] > 0, every=0.2)
        assert scene.drop("sender") > 0
        assert sum(scene.states("state")[group, "awaited"] for group in GROUPS) == 2 * SENT
        scene.consume(stack, "sender")
        until(scene.settled, seconds=60)
        assert all(scene.told(group) > SENT for group in GROUPS)
    check(scene)


@pytest.mark.parametrize("failpoint", ["inbox.handled:2", "inbox.committed:2"])
def test_a_receiver_is_killed(scene: Scene, failpoint: str) -> None:
    """Before its commit nothing was told, behind it all was; another one goes on."""
    with ExitStack() as stack:
        for group in ("shipping", "sender"):
            scene.consume(stack, group)
        victim = scene.consume(stack, "billing", failpoint)
        relays(stack, scene)
        scene.send()
        assert victim.wait(60) == -signal.SIGKILL
        scene.consume(stack, "billing")
        until(scene.settled, seconds=60)
    check(scene)


@pytest.mark.parametrize("failpoint", ["relay.resending:1", "relay.resent:1"])
def test_the_sender_is_killed_while_it_sends_again(scene: Scene, failpoint: str) -> None:
    """What it has sent and not noted is sent once more, and known there."""
    with ExitStack() as stack:
        scene.stop("billing", scene.consume(stack, "billing"))
        for group in ("shipping", "sender"):
            scene.consume(stack, group)
        stack.enter_context(scene.receiving.start("relay"))
        with scene.sending.start("relay") as relay:
            scene.send()
            until(lambda: scene.depth("billing")[0] == SENT, every=0.2)
            relay.send(signal.SIGTERM)
            relay.wait()
        scene.drop("billing")
        scene.consume(stack, "billing")
        victim = stack.enter_context(scene.sending.start("relay", failpoint=failpoint))
        assert victim.wait(60) == -signal.SIGKILL
        stack.enter_context(scene.sending.start("relay"))
        until(scene.settled, seconds=60)
    check(scene)
