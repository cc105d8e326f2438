"""In which order tasks go: by queue, or by a key that they were given."""

import json
import signal
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from celery import group
from django.db import transaction
from kombu import Connection, Exchange, Queue

import outbox
from outbox.celery import OutboxCelery
from outbox.message.kinds import kind_of
from outbox.message.lanes import lane_of
from outbox.models import Message
from outbox.runtime.shutdown import Shutdown
from relay.log import open_log
from relay.management.commands.relay import build
from relay.models import Parked
from relay.replay import envelope
from tests.kit.processes import Process
from tests.outbox.celery.support import arguments, new_app, written

pytestmark = pytest.mark.django_db(transaction=True)


def lanes() -> list[int]:
    return list(Message.objects.order_by("position").values_list("lane", flat=True))


def read_by_a_relay() -> list[Any]:
    """What a relay makes of the rows: their keys."""
    rows = Message.objects.order_by("position")
    fetched = open_log("default", using="default").fetch([row.position for row in rows])
    keys = [each.key for each in fetched.messages.values()]
    assert keys == [envelope(row).key for row in rows]  # as a replay does
    return keys


def nothing(*args: Any, **kwargs: Any) -> None:
    """Stand for a task; nothing runs it."""


@pytest.fixture
def app() -> OutboxCelery:
    app = new_app()
    app.task(nothing, name="unit.task", shared=False, typing=False)
    return app


@pytest.fixture
def task(app: OutboxCelery) -> Any:
    return app.tasks["unit.task"]


# --- Lanes ---------------------------------------------------------------------------------------


def test_tasks_for_one_queue_are_in_one_lane(app: OutboxCelery, task: Any) -> None:
    """However they are sent; other queues have lanes of their own."""
    with transaction.atomic():
        for number in range(40):
            task.delay(number)
        group(task.s(number) for number in range(40, 45)).delay()
        app.send_task("unit.task", (45,))
        app.send_task("elsewhere.task", (46,))
        task.apply_async((47,), countdown=9)

    assert [arguments(each)[0] for each in written()] == [[number] for number in range(48)]
    assert set(lanes()) == {lane_of("celery", 4)}


def test_queues_spread_over_the_lanes(task: Any) -> None:
    with transaction.atomic():
        for number in range(40):
            task.apply_async((number,), queue=f"queue-{number % 8}")

    assert lanes() == [lane_of(f"queue-{number % 8}", 4) for number in range(40)]
    assert set(lanes()) == set(range(4))


def test_a_queue_is_one_whatever_leads_there(app: OutboxCelery, task: Any) -> None:
    """Its name, or another routing key; an exchange that is named stands for its queues."""
    exchange = Exchange("unit.exchange", "topic")
    app.conf.task_queues = [Queue("celery"), Queue("unit.queue", exchange, "unit.#")]
    with transaction.atomic():
        task.apply_async((1,), queue="unit.queue")
        task.apply_async((2,), queue="unit.queue", routing_key="unit.other")
    with transaction.atomic():
        task.apply_async((3,), exchange="unit.exchange", routing_key="unit.a")
        task.apply_async((4,), exchange="unit.exchange", routing_key="unit.b")

    assert lanes() == [lane_of("unit.queue", 4)] * 2 + [lane_of("unit.exchange", 4)] * 2


# --- Keys ----------------------------------------------------------------------------------------

KEYS: dict[str, Any] = {
    "format": "order-{order_id}",
    "function": lambda order_id, note="": f"order-{order_id}",
    "static": staticmethod(lambda order_id, note="": f"order-{order_id}"),
}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("bind", [False, True])
@pytest.mark.parametrize("way", ["delay", "send_task", "signature"])
def test_a_task_can_have_a_key(app: OutboxCelery, kind: str, bind: bool, way: str) -> None:
    """Of its arguments: it is that of the message, and decides on the lane."""

    def close(order_id: int, note: str = "") -> None:
        """Stand for a task."""

    def bound(self: Any, order_id: int, note: str = "") -> None:
        """Stand for a task that gets itself."""

    task: Any = app.task(
        bound if bind else close, name="unit.close", bind=bind, shared=False, outbox_key=KEYS[kind]
    )
    app.finalize()
    with transaction.atomic():
        if way == "delay":
            result = task.delay(7, note="n")
        elif way == "signature":
            result = task.s(7).set(countdown=1).delay()
        else:
            result = app.send_task("unit.close", (7,), {"note": "n"})

    row = Message.objects.get()
    assert (row.key, row.subject, row.lane) == ("order-7", result.id, lane_of("order-7", 4))
    assert read_by_a_relay() == ["order-7"]
    [sent] = written()
    assert "outbox_key" not in str(sent)
    assert sent.headers["id"] == result.id


@pytest.mark.parametrize(
    ("given", "key"), [("k", "k"), (42, "42"), (uuid.UUID(int=1), str(uuid.UUID(int=1)))]
)
def test_a_call_can_have_a_key(app: OutboxCelery, task: Any, given: Any, key: str) -> None:
    """Also of a task that is only known by its name, and of all members of a group."""
    with transaction.atomic():
        task.apply_async((1,), outbox_key=given)
        app.send_task("elsewhere.task", (2,), outbox_key=given)
        group(task.s(3), task.s(4).set(outbox_key="own")).apply_async()
        group(task.s(5), app.signature("elsewhere.task", (6,))).apply_async(outbox_key=given)
        task.apply_async_on_commit((7,), outbox_key=given)
        task.delay(8)

    assert read_by_a_relay() == [key, key, None, "own", key, key, key, None]
    assert not any("outbox_key" in str(each) for each in written())


def test_a_call_decides_before_its_task(app: OutboxCelery) -> None:
    task: Any = app.task(
        nothing, name="unit.keyed", shared=False, typing=False, outbox_key=lambda n: n
    )
    app.finalize()
    with transaction.atomic():
        task.apply_async((1,), outbox_key="mine")
        app.send_task("unit.keyed", (1,), outbox_key="mine")
        task.delay(1)

    assert read_by_a_relay() == ["mine", "mine", "1"]


def test_a_key_may_be_none(app: OutboxCelery) -> None:
    """A function of the arguments can say that a call has none."""
    task: Any = app.task(
        nothing, name="unit.some", shared=False, typing=False, outbox_key=lambda n: n or None
    )
    with transaction.atomic():
        task.delay(0)
        task.delay(1)

    assert read_by_a_relay() == [None, "1"]


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("{order}", "no argument for 'order' in its outbox_key"),
        ("{number.x}", "no argument for .* in its outbox_key"),
        ("", "key is empty"),
        (lambda number: "x" * 300, "key is 300 characters long"),
        (lambda number: 1.5, "key must be a string"),
    ],
)
def test_a_key_that_is_none_is_told(app: OutboxCelery, key: Any, told: str) -> None:
    """Before anything is written."""

    def numbered(number: int) -> None:
        """Stand for a task."""

    task: Any = app.task(numbered, name="unit.numbered", shared=False, outbox_key=key)
    with transaction.atomic(), pytest.raises(outbox.InvalidEvent, match=told):
        task.delay(1)

    assert not Message.objects.exists()


def test_wrong_arguments_are_told_as_celery_does(app: OutboxCelery) -> None:
    """Whether the task has a key or not."""

    def numbered(number: int) -> None:
        """Stand for a task."""

    task: Any = app.task(numbered, name="unit.numbered", shared=False, outbox_key="{number}")
    with transaction.atomic(), pytest.raises(TypeError, match="number"):
        task.delay()


def test_a_key_is_asked_for_only_by_the_outbox(app: OutboxCelery) -> None:
    """Celery's own way knows none, and runs no code for it."""

    def key(*args: Any) -> str:
        raise AssertionError("nobody has asked")

    task: Any = app.task(nothing, name="unit.plain", shared=False, typing=False, outbox_key=key)
    app.conf.task_always_eager = True
    assert task.delay(1).get() is None
    assert task.apply_async((1,), outbox_key="k").get() is None


def test_tasks_from_before_are_read_as_ever() -> None:
    """Rows of an older version have the id as their key, in a lane of their own, and no subject."""
    app = new_app()
    with transaction.atomic():
        result = app.send_task("unit.task", (1,))
    row = Message.objects.get()

    assert (row.key, row.subject) == (result.id, None)
    assert read_by_a_relay() == [None]
    assert kind_of(row.content_type).key(row.key, row.subject) is None


def test_a_member_of_a_group_can_bypass_by_its_name(app: OutboxCelery) -> None:
    """What a signature says of itself is not lost in a group, whoever knows the task."""
    from kombu.exceptions import OperationalError  # noqa: PLC0415 - for this test alone

    bypass = app.signature("elsewhere.task", (1,)).set(outbox=False)
    with transaction.atomic(), pytest.raises(OperationalError):
        group(bypass, bypass.clone()).delay()

    assert not Message.objects.exists()


# --- On the wire -------------------------------------------------------------------------------


@pytest.fixture
def sent(broker_url: str) -> Iterator[Any]:
    """Sends tasks to queues of a real broker, and tells what has arrived there."""
    name = f"order-{uuid.uuid4()}"
    app = OutboxCelery("order", broker=broker_url, set_as_current=False)
    exchange = Exchange(name, "topic")
    queues = [Queue(f"{name}-{n}", exchange, f"{n}.#") for n in range(3)]
    app.conf.update(task_queues=queues, task_default_queue=queues[0].name)
    yield Sent(app, broker_url, name)
    with Connection(broker_url) as link:
        channel: Any = link.channel()
        for queue in queues:
            channel.queue_delete(queue.name)
        channel.exchange_delete(name)
    app.close()


class Sent:
    def __init__(self, app: OutboxCelery, url: str, name: str) -> None:
        self.app, self.url, self.name = app, url, name
        app.task(nothing, name="unit.task", shared=False, typing=False)
        self.task: Any = app.tasks["unit.task"]

    def queue(self, number: int) -> str:
        return f"{self.name}-{number}"

    def relays(self, **options: Any) -> dict[str, Any]:
        backend = "relay.brokers.amqp.AMQPBroker"
        return {"default": {"BACKEND": backend, "URL": self.url, "MESSAGES": "tasks", **options}}

    def relay(self, settings: Any, **options: Any) -> None:
        settings.RELAYS = self.relays(**options)
        with Shutdown() as shutdown:
            relay = build("default", "default", shutdown)
            try:
                relay.run_until_empty()
            finally:
                relay.close()

    def arrived(self, number: int) -> list[int]:
        """Take all that is in a queue: the first argument of each task."""
        found = []
        with Connection(self.url) as link:
            channel: Any = link.channel()
            while (message := channel.basic_get(self.queue(number), no_ack=True)) is not None:
                found.append(json.loads(message.body)[0][0])
        return found


@pytest.mark.parametrize("page", [3, 1000])
def test_a_queue_gets_tasks_in_the_order_in_which_they_were_sent(
    sent: Sent, settings: Any, page: int
) -> None:
    """In one transaction, and in one after the other, and past other queues."""
    with transaction.atomic():
        for number in range(40):
            sent.task.delay(number)
            sent.task.apply_async((number,), queue=sent.queue(1))
    for number in range(40, 60):
        with transaction.atomic():
            sent.task.delay(number)
            sent.task.apply_async(
                (number,), queue=sent.queue(1), routing_key=f"1.{number % 7}", priority=number % 3
            )
    sent.relay(settings, PAGE_SIZE=page)

    assert sent.arrived(0) == list(range(60))
    assert sent.arrived(1) == list(range(60))


def test_a_refused_task_holds_nobody_up_unless_it_has_a_key(sent: Sent, settings: Any) -> None:
    """Of its key alone, and nobody of its queue."""
    with transaction.atomic():
        sent.task.apply_async((1,), exchange="gone", routing_key="x", outbox_key="k")
        sent.task.apply_async((2,), outbox_key="k")
        sent.task.apply_async((3,), exchange="gone", routing_key="x", outbox_key="l")
        sent.task.apply_async((4,), outbox_key="m")
        sent.task.apply_async((5,), exchange="gone", routing_key="x")
        sent.task.apply_async((6,))
        sent.task.apply_async((7,))
    sent.relay(settings)
    with transaction.atomic():
        sent.task.apply_async((8,), outbox_key="k")
        sent.task.apply_async((9,), outbox_key="m")
    sent.relay(settings)

    assert sorted(sent.arrived(0)) == [4, 6, 7, 9]
    parked = Parked.objects.order_by("position").values_list("key", "reason")
    assert list(parked) == [
        ("k", "refused"),
        ("k", "held"),
        ("l", "refused"),
        (None, "refused"),
        ("k", "held"),
    ]


@pytest.mark.slow
def test_the_order_outlives_relays_that_are_killed(sent: Sent, database_url: str) -> None:
    """Whatever comes twice: what comes first is in order, also of several relays at once."""
    environment = {
        "DATABASE_URL": database_url,
        "TEST_RELAYS": json.dumps(sent.relays(PAGE_SIZE=7)),
    }
    with transaction.atomic():
        for number in range(40):
            sent.task.delay(number)
    for point in ("relay.published:2", "relay.checkpointed:2", "relay.committed"):
        with Process("relay", "--until-empty", failpoint=point, **environment) as relay:
            assert relay.wait() == -signal.SIGKILL, relay.output
    for number in range(40, 80):
        with transaction.atomic():
            sent.task.delay(number)
    with (
        Process("relay", "--until-empty", **environment) as one,
        Process("relay", "--until-empty", **environment) as two,
    ):
        for number in range(80, 160):
            with transaction.atomic():
                sent.task.delay(number)
        assert (one.wait(), two.wait()) == (0, 0), one.output + two.output
    with Process("relay", "--until-empty", **environment) as last:
        assert last.wait() == 0, last.output

    arrived = sent.arrived(0)
    assert len(arrived) > 160
    assert list(dict.fromkeys(arrived)) == list(range(160))
