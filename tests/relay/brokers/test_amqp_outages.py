"""A broker that is away, closed, silent or too slow."""

import select
import socket
import threading
import time

import pytest

from relay.brokers.amqp import broker as amqp
from relay.brokers.amqp.broker import AMQPBroker
from relay.brokers.base import CONFIRMED, Status
from tests.kit.services.rabbitmq import RabbitNode
from tests.relay.brokers.queues import Queue, page, statuses

pytestmark = pytest.mark.django_db(databases=[])


def test_nobody_listens_at_the_address() -> None:
    """Connection refused: unknown at once, with the reason."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    broker = AMQPBroker.from_settings(f"amqp://127.0.0.1:{port}//", {}, using="default")
    started = time.monotonic()
    outcomes = broker.publish(page(2))

    assert statuses(outcomes) == {Status.UNKNOWN}
    assert "refused" in outcomes[0].reason.lower()
    assert time.monotonic() - started < 10


def test_wrong_credentials_are_an_outage_that_hides_them(broker_url: str) -> None:
    """Access refused is reported, and no password appears anywhere."""
    broker = AMQPBroker.from_settings(
        broker_url.replace("guest:guest", "guest:s3cret"), {}, using="default"
    )
    outcomes = broker.publish(page(1))

    assert statuses(outcomes) == {Status.UNKNOWN}
    assert "s3cret" not in repr(outcomes) + broker.address


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
    monkeypatch.setattr("relay.brokers.amqp.broker.RENEW_SECONDS", 3600.0)
    broker = queue.broker()
    while broker.publish(page(1)) == [CONFIRMED]:
        pass
    rabbit_node.ctl("clear_policy", queue.name)
    assert queue.ids()

    monkeypatch.setattr("relay.brokers.amqp.broker.RENEW_SECONDS", 0.0)
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
