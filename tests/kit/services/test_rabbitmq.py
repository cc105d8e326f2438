"""Brokers for the tests."""

import socket

import amqp
import kombu
import pytest

from tests.kit.services import rabbitmq
from tests.kit.services.rabbitmq import RabbitNode


def _publish(url: str, queue: str, body: str) -> None:
    # Confirmed: only then the broker has promised to keep it.
    options = {"confirm_publish": True}
    with (
        kombu.Connection(url, transport_options=options) as connection,
        connection.SimpleQueue(queue) as simple,
    ):
        simple.put(body, delivery_mode=2)


def _get(url: str, queue: str) -> str:
    with kombu.Connection(url) as connection, connection.SimpleQueue(queue) as simple:
        message = simple.get(timeout=10)
        message.ack()
        return message.payload


def test_the_broker_carries_a_message(broker_url: str):
    """Whatever broker the tests have found, it is a real one."""
    with kombu.Connection(broker_url) as connection, connection.channel() as channel:
        queue = channel.queue_declare(exclusive=True).queue
        channel.basic_publish(amqp.Message("hello"), routing_key=queue)
        received = []
        channel.basic_consume(queue, callback=received.append, no_ack=True)
        connection.drain_events(timeout=10)

    assert [message.body for message in received] == ["hello"]


def test_a_server_that_is_no_broker_does_not_answer():
    """A listener that says nothing is not mistaken for a broker."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not rabbitmq.answers(f"amqp://guest:guest@127.0.0.1:{silent.getsockname()[1]}//")


def test_a_stranger_is_not_let_in(rabbit_node: RabbitNode):
    """A broker with other credentials is not one that the tests can use."""
    assert rabbitmq.answers(rabbit_node.url)
    assert not rabbitmq.answers(rabbit_node.url.replace("guest:guest", "guest:wrong"))


@pytest.mark.slow
def test_messages_survive_stop_and_kill(rabbit_node: RabbitNode):
    """A node keeps its address and its durable messages, however it ended."""
    for end in (rabbit_node.stop, rabbit_node.kill):
        _publish(rabbit_node.url, f"survives-{end.__name__}", "kept")
        end()
        assert not rabbitmq.answers(rabbit_node.url)

        rabbit_node.start()
        assert _get(rabbit_node.url, f"survives-{end.__name__}") == "kept"


def test_a_paused_node_is_silent(rabbit_node: RabbitNode):
    """Connections to a paused node stay open, and nothing answers on them."""
    with amqp.Connection(f"127.0.0.1:{rabbit_node.port}") as connection:
        rabbit_node.pause()
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.2)
        assert connection.connected
        rabbit_node.resume()
        assert connection.channel().is_open


def test_a_node_is_controlled_apart_from_others(rabbit_node: RabbitNode):
    """The control command reaches this node, by its own name."""
    assert f"test-{rabbit_node.port}@localhost" in rabbit_node.ctl("cluster_status")
