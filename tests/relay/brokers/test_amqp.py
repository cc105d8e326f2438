"""AMQPBroker against a real RabbitMQ that fails in every way we know."""

import select
import socket
import threading
import time
import uuid
from collections.abc import Iterator

import pytest
from django.test import override_settings
from kombu import Connection

from outbox.envelope import Envelope
from outbox.exceptions import ConfigurationError
from relay.brokers import amqp
from relay.brokers.amqp import AMQPBroker
from relay.brokers.base import CONFIRMED, Outcome, Status
from tests.services.rabbitmq import RabbitNode

pytestmark = pytest.mark.django_db(databases=[])


def page(count: int, topic: str = "t", size: int = 2, key: str | None = None) -> list[Envelope]:
    data = b"x" * size
    return [
        Envelope(id=str(uuid.uuid4()), source="/t", type="t", data=data, topic=topic, key=key)
        for _ in range(count)
    ]


class Queue:
    """A queue of the test's own, bound to an exchange of its own."""

    def __init__(self, url: str, **arguments: object) -> None:
        self.url = url
        self.name = f"amqp-{uuid.uuid4()}"
        self.arguments = arguments

    def declare(self) -> None:
        with Connection(self.url) as connection:
            channel = connection.channel()
            channel.exchange_declare(self.name, "topic", durable=True, auto_delete=False)
            channel.queue_declare(
                self.name,
                durable=True,
                auto_delete=False,
                arguments={"x-queue-type": "quorum", **self.arguments},
            )
            channel.queue_bind(self.name, self.name, routing_key="t")

    def ids(self) -> list[str]:
        with Connection(self.url) as connection:
            channel = connection.channel()
            found = []
            while (raw := channel.basic_get(self.name, no_ack=True)) is not None:
                found.append(raw.properties["message_id"])
            return found

    def delete(self) -> None:
        with Connection(self.url) as connection:
            channel = connection.channel()
            channel.queue_delete(self.name)
            channel.exchange_delete(self.name)

    def broker(self, **options: object) -> AMQPBroker:
        return AMQPBroker.from_settings(
            self.url, {"EXCHANGE": self.name, **options}, using="default"
        )


@pytest.fixture
def queue(broker_url: str) -> Iterator[Queue]:
    made = Queue(broker_url)
    made.declare()
    yield made
    made.delete()


@pytest.fixture
def broker(queue: Queue) -> Iterator[AMQPBroker]:
    made = queue.broker()
    yield made
    made.close()


def statuses(outcomes: list[Outcome]) -> set[Status]:
    return {outcome.status for outcome in outcomes}


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


def test_without_any_permission_the_broker_is_away(rabbit_node: RabbitNode) -> None:
    """Everything denied: no message is to blame, but for the few that found it out."""
    queue = Queue(rabbit_node.url)
    queue.declare()
    broker = queue.broker()
    try:
        rabbit_node.ctl("set_topic_permissions", "guest", queue.name, "^nothing$", ".*")
        outcomes = broker.publish(page(30))

        statuses = [outcome.status for outcome in outcomes]
        assert statuses.count(Status.UNKNOWN) >= 27
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


def test_nobody_listens_at_the_address() -> None:
    """Connection refused: unknown at once, with the reason."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    broker = AMQPBroker.from_settings(f"amqp://127.0.0.1:{port}//", {}, using="default")
    started = time.monotonic()
    outcomes = broker.publish(page(2))

    assert statuses(outcomes) == {Status.UNKNOWN}
    assert "refused" in outcomes[0].reason.lower()
    assert time.monotonic() - started < 1


def test_wrong_credentials_are_an_outage_that_hides_them(broker_url: str) -> None:
    """Access refused is reported, and no password appears anywhere."""
    broker = AMQPBroker.from_settings(
        broker_url.replace("guest:guest", "guest:s3cret"), {}, using="default"
    )
    outcomes = broker.publish(page(1))

    assert statuses(outcomes) == {Status.UNKNOWN}
    assert "s3cret" not in repr(outcomes) + broker.address


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


def test_a_broker_that_accepts_and_never_answers(queue: Queue) -> None:
    """A listener that takes the connection and says nothing runs into the timeout."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"amqp://guest:guest@127.0.0.1:{server.getsockname()[1]}//"
        broker = AMQPBroker.from_settings(
            url, {"CONNECT_TIMEOUT": 0.5, "SOCKET_TIMEOUT": 0.5}, using="default"
        )
        assert statuses(broker.publish(page(1))) == {Status.UNKNOWN}
        broker.close()


def test_a_restarted_broker_is_found_again(rabbit_node: RabbitNode) -> None:
    """Clean restart between two pages: the second is published on a new connection."""
    queue = Queue(rabbit_node.url)
    queue.declare()
    broker = queue.broker()
    first, second = page(3), page(3)
    broker.publish(first)
    rabbit_node.stop()
    assert statuses(broker.publish(second)) == {Status.UNKNOWN}
    rabbit_node.start()

    assert broker.publish(second) == [CONFIRMED] * 3
    broker.close()
    assert queue.ids() == [message.id for message in first + second]


class Clock:
    """A clock that moves on by a second whenever someone looks at it."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1
        return self.now


def test_a_page_of_one_key_may_take_longer_than_one_confirm(
    broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each confirm starts the time anew, so that a slow link never makes a page impossible."""
    queue = Queue(broker_url)
    queue.declare()
    broker = queue.broker(CONFIRM_TIMEOUT=20.0)
    messages = page(50, key="k")
    monkeypatch.setattr(amqp, "time", Clock())
    try:
        assert broker.publish(messages) == [CONFIRMED] * 50
        assert queue.ids() == [message.id for message in messages]
    finally:
        broker.close()
        queue.delete()


def test_confirms_that_came_while_sending_count(
    broker: AMQPBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that took all the time to send is not given up with its confirms unread."""
    broker.publish(page(1))
    assert broker._connection is not None
    connection = broker._channel.connection
    clock, write = Clock(), connection.transport.write

    def writes_slowly(frames: bytes) -> None:
        write(frames)
        clock.now += 1000
        # The confirm has arrived before anyone asks for it.
        assert select.select([connection.sock], [], [], 10)[0]

    monkeypatch.setattr(amqp, "time", clock)
    monkeypatch.setattr(connection.transport, "write", writes_slowly)

    assert broker.publish(page(3)) == [CONFIRMED] * 3


def test_a_broker_that_only_keeps_the_connection_alive_is_found_out(
    broker: AMQPBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heartbeats are no confirms, however often they come."""
    broker.publish(page(1))
    clock, rounds = Clock(), iter(range(1000))

    def beat(timeout: float) -> None:
        if timeout == 0 or next(rounds) % 2:
            raise TimeoutError

    monkeypatch.setattr(amqp, "time", clock)
    monkeypatch.setattr(broker._channel.connection, "drain_events", beat)
    outcomes = broker.publish(page(3))

    assert statuses(outcomes) == {Status.UNKNOWN}
    assert "3 messages not confirmed within 30 s" in outcomes[0].reason


def test_a_frozen_broker_is_found_out_by_the_deadline(rabbit_node: RabbitNode) -> None:
    """A broker that stops answering without closing: unknown after the confirm timeout."""
    queue = Queue(rabbit_node.url)
    queue.declare()
    broker = queue.broker(CONFIRM_TIMEOUT=1.0)
    broker.publish(page(1))
    rabbit_node.pause()
    try:
        outcomes = broker.publish(page(2))
    finally:
        rabbit_node.resume()

    assert statuses(outcomes) == {Status.UNKNOWN}
    assert "not confirmed within 1 s" in outcomes[0].reason
    assert broker.publish(page(1)) == [CONFIRMED]
    broker.close()


def test_a_queue_without_its_limit_takes_messages_again(
    rabbit_node: RabbitNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ may refuse for ever on a channel that met the limit: another one is opened."""
    queue = Queue(rabbit_node.url)
    queue.declare()
    limit = '{"max-length": 2, "overflow": "reject-publish"}'
    rabbit_node.ctl("set_policy", queue.name, f"^{queue.name}$", limit, "--apply-to", "queues")
    monkeypatch.setattr("relay.brokers.amqp.RENEW_SECONDS", 3600.0)
    broker = queue.broker()
    while broker.publish(page(1)) == [CONFIRMED]:
        pass
    rabbit_node.ctl("clear_policy", queue.name)
    assert queue.ids()

    monkeypatch.setattr("relay.brokers.amqp.RENEW_SECONDS", 0.0)
    broker.publish(page(1))  # refused, where RabbitMQ has that bug
    sent = page(1)
    assert broker.publish(sent) == [CONFIRMED]
    assert sent[0].id in queue.ids()
    broker.close()
    queue.delete()


def test_a_blocked_connection_is_an_outage(rabbit_node: RabbitNode) -> None:
    """Memory alarm: connection.blocked ends the page at once; after it everything flows."""
    queue = Queue(rabbit_node.url)
    queue.declare()
    broker = queue.broker(CONFIRM_TIMEOUT=5.0)
    broker.publish(page(1))
    rabbit_node.ctl("set_vm_memory_high_watermark", "0.000001")
    try:
        outcomes = broker.publish(page(5))
        assert statuses(outcomes) == {Status.UNKNOWN}
    finally:
        rabbit_node.ctl("set_vm_memory_high_watermark", "0.6")
    deadline = time.monotonic() + 20
    while statuses(broker.publish(page(1))) != {Status.CONFIRMED}:
        assert time.monotonic() < deadline
    broker.close()


def test_an_idle_connection_stays_alive(queue: Queue) -> None:
    """keep_alive() answers heartbeats: idle for several intervals, still the same connection."""
    broker = queue.broker(HEARTBEAT=1)
    broker.publish(page(1))
    before = broker._connection
    done = threading.Event()
    deadline = time.monotonic() + 4.5
    while time.monotonic() < deadline:
        broker.keep_alive()
        done.wait(0.2)

    assert broker.publish(page(1)) == [CONFIRMED]
    assert broker._connection is before
    broker.close()


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
