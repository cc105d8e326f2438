"""Tasks that Redis refuses, one or all of them; on a Redis of our own, where it is installed."""

import uuid
from collections.abc import Callable, Iterator

import pytest
from django.db import transaction

from outbox.message import celery_task
from outbox.message.envelope import Envelope
from relay.brokers.base import CONFIRMED, Status
from relay.brokers.kombu import KombuBroker
from relay.isolation import Isolation
from tests.kit.services.redis import RedisServer


@pytest.fixture
def server() -> Iterator[RedisServer]:
    try:
        server = RedisServer()
    except FileNotFoundError as exc:
        pytest.skip(str(exc))
    yield server
    server.close()


@pytest.fixture
def broker(server: RedisServer) -> Iterator[KombuBroker]:
    broker = KombuBroker.from_settings(server.url(), {}, using="default")
    yield broker
    broker.close()


def task(queue: str, size: int = 0) -> Envelope:
    """Return a task for a queue, as the relay reads it."""
    message_id = str(uuid.uuid4())
    message = celery_task.TaskMessage(
        exchange="",
        routing_key=queue,
        headers={"task": "unit.add", "id": message_id, celery_task.MESSAGE_ID: message_id},
        properties={
            "content_type": "application/json",
            "content_encoding": "utf-8",
            "delivery_mode": 2,
        },
        body="x" * size,
        declare=[celery_task.QueueDeclaration(name=queue)],
    )
    return Envelope(
        id=message_id,
        source="/t",
        type="celery.task",
        data=celery_task.encode(message),
        content_type=celery_task.CONTENT_TYPE,
        topic="unit.add",
    )


def wrong_type(server: RedisServer) -> tuple[Envelope, str]:
    """Somebody else's string stands where the list of a queue should be."""
    server.admin.set("taken", "a string")
    return task("taken"), "WRONGTYPE"


def forbidden_key(server: RedisServer) -> tuple[Envelope, str]:
    """The user may use some keys and not others."""
    server.admin.execute_command("ACL SETUSER default resetkeys ~good* ~_kombu* ~unacked*")
    return task("elsewhere"), "NoPermissionError"


REFUSED = [wrong_type, forbidden_key]


@pytest.mark.parametrize("spoil", REFUSED)
@pytest.mark.parametrize("place", [0, 2, 4])
def test_one_that_redis_refuses_is_refused_alone(
    server: RedisServer,
    broker: KombuBroker,
    spoil: Callable[[RedisServer], tuple[Envelope, str]],
    place: int,
) -> None:
    """First, in between or last: the others of its page are there, and no outage is told."""
    bad, reason = spoil(server)
    page = [task("good") for _ in range(4)]
    page.insert(place, bad)

    outcomes = broker.publish(page)

    assert outcomes[place].status is Status.REFUSED
    assert reason in outcomes[place].reason
    assert outcomes[:place] + outcomes[place + 1 :] == [CONFIRMED] * 4
    assert server.admin.llen("good") == 4
    assert not broker.denied


@pytest.mark.parametrize("spoil", REFUSED)
@pytest.mark.parametrize("count", [1, 5, 100])
def test_what_redis_refuses_of_all_is_an_outage(
    server: RedisServer,
    broker: KombuBroker,
    spoil: Callable[[RedisServer], tuple[Envelope, str]],
    count: int,
) -> None:
    """As likely as not no message is to blame."""
    bad, reason = spoil(server)

    outcomes = broker.publish([bad] * count)

    assert {outcome.status for outcome in outcomes} == {Status.UNKNOWN}
    assert reason in outcomes[0].reason
    assert broker.denied is (spoil is forbidden_key)


def test_a_server_that_takes_nothing_is_an_outage(server: RedisServer, broker: KombuBroker) -> None:
    """Out of memory, a replica, no disk to save to: also for what comes after some that passed."""
    assert broker.publish([task("good")]) == [CONFIRMED]
    server.admin.config_set("maxmemory", "1")
    [oom] = broker.publish([task("good")])
    server.admin.config_set("maxmemory", "0")
    server.admin.replicaof("127.0.0.1", 1)
    [read_only] = broker.publish([task("good")])
    server.admin.replicaof("NO", "ONE")

    assert (oom.status, read_only.status) == (Status.UNKNOWN, Status.UNKNOWN)
    assert "OutOfMemoryError" in oom.reason
    assert "ReadOnlyError" in read_only.reason
    assert broker.publish([task("good")]) == [CONFIRMED]


def test_many_that_are_refused_end_with_the_last_that_passed(
    server: RedisServer, broker: KombuBroker
) -> None:
    """A server that has begun to refuse everything is not asked a thousand times."""
    bad, _ = wrong_type(server)

    outcomes = broker.publish([task("good"), bad, task("good"), *[bad] * 100])

    assert [each.status for each in outcomes[:3]] == [
        Status.CONFIRMED,
        Status.REFUSED,
        Status.CONFIRMED,
    ]
    assert {each.status for each in outcomes[3:]} == {Status.UNKNOWN}


@pytest.mark.django_db(transaction=True)
def test_a_message_too_large_for_redis_is_parked_and_others_pass(
    server: RedisServer, broker: KombuBroker
) -> None:
    """Redis ends the connection over it, as if it went away: the relay finds out."""
    server.admin.config_set("proto-max-bulk-len", str(1024 * 1024))
    large = task("good", 2 * 1024 * 1024)
    page = [task("good"), large, task("good")]
    isolation = Isolation("default")
    with transaction.atomic():
        first = isolation.publish(broker, page, 0)
        second = isolation.publish(broker, page[1:], 0)

    assert [each.status for each in first] == [Status.CONFIRMED, Status.UNKNOWN, Status.UNKNOWN]
    assert [each.status for each in second] == [Status.REFUSED, Status.CONFIRMED]
    assert "fails again while others pass" in second[0].reason
    assert server.admin.llen("good") == 2
