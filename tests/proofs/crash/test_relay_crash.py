"""The relay is killed with SIGKILL at each point that matters, and started again."""

import signal
import uuid
from collections import Counter
from collections.abc import Iterator

import pytest
from django.db import transaction
from kombu import Connection

import outbox
from relay.models import Checkpoint
from tests.kit.processes import Process, run
from tests.kit.support import Counted
from tests.testapp.events import Happened
from tests.testapp.models import Effect

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

KEYS = "abcde"
PER_KEY = 20


@pytest.fixture
def bound(broker_url: str) -> Iterator[dict[str, str]]:
    """An exchange with a queue bound to it; the environment that makes the relay use them."""
    name = f"crash-{uuid.uuid4()}"
    with Connection(broker_url) as link:
        channel = link.channel()
        channel.exchange_declare(name, "topic", durable=True, auto_delete=False)
        channel.queue_declare(
            name, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"}
        )
        channel.queue_bind(name, name, routing_key="#")
        yield {"BROKER_URL": broker_url, "TEST_EXCHANGE": name}
        channel.queue_delete(name)
        channel.exchange_delete(name)


def emit_all(event: type[Counted] | type[Happened]) -> list[str]:
    """Commit messages of several keys; return their ids, in order per key."""
    with transaction.atomic():
        return [
            envelope.id
            for envelope in outbox.emit_many(
                [event(key, number) for number in range(PER_KEY) for key in KEYS]
            )
        ]


def arrived(environment: dict[str, str]) -> list[tuple[str, str]]:
    """Take all (key, id) from the queue, in order of arrival."""
    found = []
    with Connection(environment["BROKER_URL"]) as link:
        channel = link.channel()
        while (raw := channel.basic_get(environment["TEST_EXCHANGE"], no_ack=True)) is not None:
            headers = raw.properties["application_headers"]
            found.append((headers["ce-partitionkey"], headers["ce-id"]))
    return found


@pytest.mark.parametrize(
    ("failpoint", "repeats"),
    [
        ("relay.read", False),
        ("relay.published", True),
        ("relay.checkpointed", True),
        ("relay.committed", False),
    ],
)
def test_a_killed_relay_loses_nothing_and_keeps_the_order(
    failpoint: str, repeats: bool, bound: dict[str, str], database_url: str
) -> None:
    """SIGKILL at the third page: each message arrives, repeated only if it was not checkpointed."""
    emitted = emit_all(Counted)
    environment = bound | {"DATABASE_URL": database_url}
    arguments = ("relay", "--until-empty", "--page-size", "7")
    with Process(*arguments, failpoint=f"{failpoint}:3", **environment) as killed:
        assert killed.wait() == -signal.SIGKILL, killed.output
    code, output = run(*arguments, **environment)
    assert code == 0, output

    messages = arrived(bound)
    counts = Counter(message_id for _, message_id in messages)
    assert set(counts) == set(emitted)
    assert (max(counts.values()) > 1) is repeats
    for key in KEYS:
        seen = list(dict.fromkeys(i for k, i in messages if k == key))
        assert seen == [i for i in emitted if i in set(seen)], f"key {key} out of order"
    assert sum(Checkpoint.objects.values_list("count", flat=True)) == len(emitted)


@pytest.mark.parametrize(
    "failpoint", ["relay.read", "relay.published", "relay.checkpointed", "relay.committed"]
)
def test_a_killed_local_relay_handles_everything_once(failpoint: str, database_url: str) -> None:
    """Local broker: effects and checkpoint commit together, so nothing is handled twice."""
    emit_all(Happened)
    environment = {"DATABASE_URL": database_url, "BROKER_URL": ""}
    arguments = ("relay", "--until-empty", "--page-size", "7")
    with Process(*arguments, failpoint=f"{failpoint}:3", **environment) as killed:
        assert killed.wait() == -signal.SIGKILL, killed.output
    code, output = run(*arguments, **environment)
    assert code == 0, output

    effects = list(Effect.objects.order_by("id").values_list("key", "number"))
    assert len(effects) == len(set(effects)) == len(KEYS) * PER_KEY
    for key in KEYS:
        assert [n for k, n in effects if k == key] == list(range(PER_KEY))


def test_a_dead_relays_lane_is_taken_over_at_once(bound: dict[str, str], database_url: str) -> None:
    """A second relay that is already running goes on where a killed one stopped."""
    environment = bound | {"DATABASE_URL": database_url}
    with (
        Process("relay", "--page-size", "3", failpoint="relay.published:5", **environment) as first,
        Process("relay", "--page-size", "3", **environment) as second,
    ):
        emitted = emit_all(Counted)
        second.wait_for(lambda: total() == len(emitted) or not first.running)
        second.wait_for(lambda: total() == len(emitted))
        second.send(signal.SIGTERM)
        assert second.wait() == 0
        if first.running:  # the second was so fast that the first did not see five pages
            first.send(signal.SIGTERM)
            assert first.wait() == 0

    assert {i for _, i in arrived(bound)} == set(emitted)


def total() -> int:
    return sum(Checkpoint.objects.values_list("count", flat=True))
