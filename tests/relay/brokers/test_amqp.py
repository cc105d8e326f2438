"""AMQPBroker against a real RabbitMQ that fails in every way we know."""

import time
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from django.test import override_settings
from kombu import Connection

from outbox.exceptions import AccessDenied, ConfigurationError
from outbox.extensions.diagnosis import Level
from outbox.message import celery_task
from outbox.message.envelope import Envelope
from relay.brokers.amqp.broker import AMQPBroker
from relay.brokers.base import CONFIRMED, Status
from tests.kit.services.rabbitmq import RabbitNode
from tests.relay.brokers.queues import Queue, page, statuses

pytestmark = pytest.mark.django_db(databases=[])


def test_pages_follow_each_other_on_one_channel(broker: AMQPBroker, queue: Queue) -> None:
    """Delivery tags go on from page to page; a thousand messages are confirmed and arrive."""
    pages = [page(334), page(333), page(333)]
    for each in pages:
        assert broker.publish(each) == [CONFIRMED] * len(each)

    assert queue.ids() == [message.id for each in pages for message in each]


def test_messages_are_persistent_and_named(broker: AMQPBroker, queue: Queue) -> None:
    """Delivery mode 2, the message id and the content type are properties of the message."""
    [message] = page(1)
    broker.publish([message])
    with Connection(queue.url) as connection:
        raw = connection.channel().basic_get(queue.name, no_ack=True)

    assert raw.properties["delivery_mode"] == 2
    assert raw.properties["message_id"] == message.id
    assert raw.properties["content_type"] == "application/json"


def test_a_message_larger_than_a_frame_arrives_whole(broker: AMQPBroker, queue: Queue) -> None:
    """A body of many frames is published and confirmed."""
    assert broker.publish(page(1, size=1_000_000)) == [CONFIRMED]
    assert len(queue.ids()) == 1


def test_a_queue_that_rejects_is_a_nack(broker_url: str) -> None:
    """A full queue with reject-publish nacks."""
    full = Queue(broker_url, **{"x-max-length": 1, "x-overflow": "reject-publish"})
    full.declare()
    broker = full.broker()
    try:
        # A quorum queue notices its limit late; by and by it refuses everything.
        deadline = time.monotonic() + 20
        while statuses(broker.publish(page(50))) != {Status.NACKED}:
            assert time.monotonic() < deadline
    finally:
        broker.close()
        full.delete()


def test_a_message_that_the_broker_closes_the_channel_over_is_refused(
    rabbit_node: RabbitNode,
) -> None:
    """Larger than max_message_size: it alone is at fault, all others of its page arrive."""
    queue = Queue(rabbit_node.url)
    queue.declare()
    rabbit_node.ctl("eval", "application:set_env(rabbit, max_message_size, 1000).")
    broker = queue.broker()
    try:
        messages = [*page(20), *page(1, size=2000, key="k"), *page(2, key="k"), *page(20)]
        outcomes = broker.publish(messages)

        assert [outcome.status for outcome in outcomes[20:23]] == [
            Status.REFUSED,
            Status.HELD,
            Status.HELD,
        ]
        assert "larger than configured max size" in outcomes[20].reason
        assert set(outcomes[:20] + outcomes[23:]) == {CONFIRMED}
        others = {each.id for each in messages[:20] + messages[23:]}
        assert set(queue.ids()) == others
    finally:
        rabbit_node.ctl("eval", "application:unset_env(rabbit, max_message_size).")
        broker.close()
        queue.delete()


@pytest.fixture
def small_frames(rabbit_node: RabbitNode) -> Iterator[Queue]:
    """A queue at a broker that takes frames of 8 KiB at most."""
    rabbit_node.ctl("eval", "application:set_env(rabbit, frame_max, 8192).")
    queue = Queue(rabbit_node.url)
    queue.declare()
    yield queue
    queue.delete()
    rabbit_node.ctl("eval", "application:set_env(rabbit, frame_max, 131072).")


def test_headers_that_fit_no_frame_are_refused_before_anything_is_sent(
    small_frames: Queue,
) -> None:
    """As large as was agreed with the broker passes; one byte more is refused alone."""
    broker = small_frames.broker()

    def with_header(size: int) -> Envelope:
        return msgspec.structs.replace(page(1, key="k")[0], attributes={"note": "x" * size})

    try:
        assert broker.publish(page(1)) == [CONFIRMED]
        frames = broker._frames
        assert frames is not None
        room = 8192 - 8
        header = len(frames.pack(with_header(0)).split(b"\xce", 1)[1]) - 7 - 1 - 7 - 2 - 1
        fits, over = with_header(room - header), with_header(room - header + 1)
        connection = broker._connection

        outcomes = broker.publish([*page(5), over, *page(2, key="k"), *page(5)])
        assert [outcome.status for outcome in outcomes[5:8]] == [
            Status.REFUSED,
            Status.HELD,
            Status.HELD,
        ]
        assert "8,185 bytes" in outcomes[5].reason
        assert "allows 8,184" in outcomes[5].reason
        assert outcomes[:5] + outcomes[8:] == [CONFIRMED] * 10
        assert broker.publish([fits]) == [CONFIRMED]
        assert broker._connection is connection
        assert fits.id in small_frames.ids()
    finally:
        broker.close()


def test_headers_of_a_task_that_fit_no_frame_are_refused_alone(small_frames: Queue) -> None:
    broker = small_frames.broker()
    good, bad = (
        Envelope(
            id=message_id,
            source="/t",
            type="celery.task",
            topic="t",
            content_type=celery_task.CONTENT_TYPE,
            data=celery_task.encode(
                celery_task.TaskMessage(
                    exchange="",
                    routing_key=small_frames.name,
                    headers={"task": "t", celery_task.MESSAGE_ID: message_id, "stamp": "x" * size},
                    properties={"message_id": message_id},
                    body="[]",
                )
            ),
        )
        for message_id, size in (("good", 10), ("bad", 10_000))
    )
    try:
        outcomes = broker.publish([bad, good, bad, *page(1)])
    finally:
        broker.close()

    assert [outcome.status for outcome in outcomes] == [
        Status.REFUSED,
        Status.CONFIRMED,
        Status.REFUSED,
        Status.CONFIRMED,
    ]
    assert "one frame" in outcomes[0].reason
    assert len(small_frames.ids()) == 2


@pytest.mark.parametrize(
    "odd",
    [
        {"topic": "é" * 200},
        {"content_type": "x" * 256},
        {"id": "i" * 256},
        {"source": "\ud800"},
        {"attributes": {"n" * 256: "x"}},
        {"attributes": ["no mapping"]},
        {"version": None, "subject": 7},
        {"time": "yesterday"},
        {"data": None},
    ],
)
def test_what_amqp_has_no_form_for_is_refused_alone(
    broker: AMQPBroker, queue: Queue, odd: dict[str, Any]
) -> None:
    """A row that somebody has written by hand, say: its neighbours pass, on the same connection."""
    broker.publish(page(1))
    connection = broker._connection
    bad = msgspec.structs.replace(page(1)[0], **odd)

    outcomes = broker.publish([*page(2), bad, *page(2)])

    assert outcomes[2].status is Status.REFUSED
    assert "cannot be sent over AMQP" in outcomes[2].reason
    assert outcomes[:2] + outcomes[3:] == [CONFIRMED] * 4
    assert broker._connection is connection
    assert broker.publish([bad])[0].status is Status.REFUSED
    assert len(queue.ids()) == 5


def test_a_topic_that_we_may_not_publish_to_is_refused_alone(rabbit_node: RabbitNode) -> None:
    """Topic permissions: the denied message is refused, all others of its page arrive."""
    queue = Queue(rabbit_node.url)
    queue.declare()
    broker = queue.broker()
    try:
        rabbit_node.ctl("set_topic_permissions", "guest", queue.name, "^t$", ".*")
        messages = [*page(20), *page(1, topic="denied"), *page(20)]
        outcomes = broker.publish(messages)

        assert outcomes[20].status is Status.REFUSED
        assert "ACCESS_REFUSED" in outcomes[20].reason
        assert set(outcomes[:20] + outcomes[21:]) == {CONFIRMED}
    finally:
        rabbit_node.ctl("clear_topic_permissions", "guest")
        broker.close()
        queue.delete()


@pytest.mark.parametrize("count", [1, 30])
def test_a_topic_that_we_may_not_publish_to_is_refused_though_nothing_else_passes(
    rabbit_node: RabbitNode, count: int
) -> None:
    """The broker says that it is the topic: it keeps nobody else waiting."""
    queue = Queue(rabbit_node.url)
    queue.declare()
    broker = queue.broker()
    try:
        rabbit_node.ctl("set_topic_permissions", "guest", queue.name, "^t$", ".*")
        outcomes = broker.publish(page(count, topic="denied"))

        assert statuses(outcomes) == {Status.REFUSED}
        assert not broker.denied
        assert broker.publish(page(1)) == [CONFIRMED]
    finally:
        rabbit_node.ctl("clear_topic_permissions", "guest")
        broker.close()
        queue.delete()


@pytest.mark.parametrize("count", [1, 3, 30])
def test_without_any_permission_the_broker_is_away(rabbit_node: RabbitNode, count: int) -> None:
    """Everything denied: no message is to blame, however few there are."""
    queue = Queue(rabbit_node.url)
    queue.declare()
    broker = queue.broker()
    try:
        rabbit_node.ctl("set_topic_permissions", "guest", queue.name, "^nothing$", ".*")
        outcomes = broker.publish([*page(count), *page(count, topic="other")])

        assert statuses(outcomes) == {Status.UNKNOWN}
        assert "ACCESS_REFUSED" in outcomes[0].reason
        assert broker.denied
    finally:
        rabbit_node.ctl("clear_topic_permissions", "guest")
        broker.close()
        queue.delete()


def test_a_deleted_exchange_is_declared_again(broker: AMQPBroker, queue: Queue) -> None:
    """The broker closes the channel for a missing exchange: unknown, then as new."""
    broker.publish(page(1))
    with Connection(queue.url) as connection:
        connection.channel().exchange_delete(queue.name)

    assert statuses(broker.publish(page(1))) == {Status.UNKNOWN}
    # The exchange is back, and nothing is bound to it any more.
    assert statuses(broker.publish(page(1))) == {Status.UNROUTABLE}


def test_an_exchange_of_another_kind_is_an_outage_with_its_reason(queue: Queue) -> None:
    """PRECONDITION_FAILED on the exchange is reported, not raised."""
    with Connection(queue.url) as connection:
        channel = connection.channel()
        channel.exchange_delete(queue.name)
        channel.exchange_declare(queue.name, "fanout", durable=True, auto_delete=False)
    broker = queue.broker()
    outcomes = broker.publish(page(1))
    broker.close()

    assert statuses(outcomes) == {Status.UNKNOWN}
    assert "PRECONDITION_FAILED" in outcomes[0].reason


def test_an_exchange_of_another_type_is_told_at_the_start(queue: Queue) -> None:
    """What it is and what to do; a relay that runs takes it for an outage, and says the same."""
    name = f"direct-{uuid.uuid4()}"
    with Connection(queue.url) as connection:
        connection.channel().exchange_declare(name, "direct", durable=True, auto_delete=False)
    broker = AMQPBroker.from_settings(queue.url, {"EXCHANGE": name}, using="default")
    try:
        with pytest.raises(ConfigurationError, match=r"not a durable topic exchange.*delete it"):
            broker.open()
        [outcome] = broker.publish(page(1))
        assert outcome.status is Status.UNKNOWN
        assert "not a durable topic exchange" in outcome.reason
    finally:
        broker.close()
        with Connection(queue.url) as connection:
            connection.channel().exchange_delete(name)


def test_an_exchange_with_arguments_of_an_operator_is_used_as_it_is(queue: Queue) -> None:
    """Such as an alternate exchange, which then gets what no queue is bound for."""
    with Connection(queue.url) as connection:
        channel = connection.channel()
        channel.exchange_delete(queue.name)
        channel.exchange_declare(
            queue.name,
            "topic",
            durable=True,
            auto_delete=False,
            arguments={"alternate-exchange": "amq.fanout"},
        )
        channel.queue_bind(queue.name, queue.name, routing_key="t")
    broker = queue.broker()
    broker.open()

    assert broker.publish(page(2)) == [CONFIRMED] * 2
    assert len(queue.ids()) == 2
    broker.close()


@pytest.mark.parametrize(
    "other", [{"type": "direct"}, {"durable": False}, {"auto_delete": True}, {"internal": True}]
)
def test_an_exchange_that_is_no_durable_topic_exchange_is_refused(
    queue: Queue, other: dict[str, Any]
) -> None:
    """Whatever else is odd about it."""
    name = f"odd-{uuid.uuid4()}"
    internal = other.pop("internal", False)
    kind = {"type": "topic", "durable": True, "auto_delete": False, **other}
    with Connection(queue.url) as connection:
        channel: Any = connection.channel()
        if internal:
            values = (0, name, "topic", False, True, False, True, False, {})
            channel.send_method((40, 10), "BssbbbbbF", values, wait=(40, 11))
        else:
            channel.exchange_declare(name, **kind)
    broker = AMQPBroker.from_settings(queue.url, {"EXCHANGE": name}, using="default")
    try:
        with pytest.raises(ConfigurationError, match="not a durable topic exchange"):
            broker.open()
    finally:
        broker.close()
        with Connection(queue.url) as connection:
            connection.channel().exchange_delete(name)


class Restricted:
    """A user of a RabbitMQ node of our own, who may do only what a test says."""

    def __init__(self, node: RabbitNode) -> None:
        self._node = node
        self.name = f"user-{uuid.uuid4().hex[:8]}"
        node.ctl("add_user", self.name, "secret")
        self.url = node.url.replace("guest:guest", f"{self.name}:secret")

    def may(self, *, configure: str = "^$", write: str = "^$", read: str = "^$") -> None:
        self._node.ctl("set_permissions", self.name, configure, write, read)


def test_what_is_there_needs_no_right_to_configure(rabbit_node: RabbitNode) -> None:
    """A relay's user may publish and nothing else; a missing exchange is told, and found later."""
    user, queue = Restricted(rabbit_node), Queue(rabbit_node.url)
    user.may(write=f"^{queue.name}$")
    broker = AMQPBroker.from_settings(user.url, {"EXCHANGE": queue.name}, using="default")
    try:
        with pytest.raises(AccessDenied, match=f"ACCESS_REFUSED.*{queue.name}") as caught:
            broker.open()
        command = f"rabbitmqctl set_permissions -p / {user.name} '^{queue.name}$' WRITE READ"
        assert command in str(caught.value)
        queue.declare()
        broker.open()
        assert broker.publish(page(2)) == [CONFIRMED] * 2
        assert len(queue.ids()) == 2
        assert [each.level for each in broker.examine("x")] == [Level.OK]
    finally:
        broker.close()
        queue.delete()


def test_bad_settings_say_what_is_wrong() -> None:
    """Each mistake in URL or OPTIONS is a ConfigurationError that names it."""
    for url, options, words in [
        ("redis://x", {}, "must look like"),
        ("amqp://x:port", {}, "must look like"),
        ("amqp://x", {"EXCHANG": "x"}, "unknown keys: EXCHANG"),
        ("amqp://x", {"EXCHANGE": ""}, "EXCHANGE must"),
        ("amqp://x", {"CONFIRM_TIMEOUT": 0}, "CONFIRM_TIMEOUT must be positive"),
        ("amqp://x", {"MANDATORY": "yes"}, "True or False"),
    ]:
        with pytest.raises(ConfigurationError, match=words):
            AMQPBroker.from_settings(url, options, using="default")


def test_checks_speak_of_lost_messages() -> None:
    """MANDATORY off is a warning; a malformed relay an error."""
    with override_settings():
        assert [m.id for m in AMQPBroker.check("x", "amqp://h", {"MANDATORY": False})] == [
            "relay.W002"
        ]
        assert [m.id for m in AMQPBroker.check("x", "nope", {})] == ["relay.E002"]
        assert AMQPBroker.check("x", "amqp://h", {}) == []
