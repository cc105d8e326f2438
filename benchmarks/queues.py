"""The queue that everything is published to: durable, a quorum queue, emptied before each turn."""

from typing import Any

from kombu import Connection

EXCHANGE = "bench"
QUEUE = "bench"


def fresh_queue(url: str, *, queue: str = QUEUE, routing_key: str = "#") -> None:
    """Declare the exchange, and the queue anew, so that it holds nothing."""
    with Connection(url, connect_timeout=10) as connection:
        channel: Any = connection.channel()
        channel.queue_delete(queue)
        channel.exchange_declare(EXCHANGE, "topic", durable=True, auto_delete=False)
        channel.queue_declare(
            queue, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"}
        )
        channel.queue_bind(queue, EXCHANGE, routing_key)


def drop_queue(url: str, queue: str = QUEUE) -> None:
    with Connection(url, connect_timeout=10) as connection:
        channel: Any = connection.channel()
        channel.queue_delete(queue)


def depth(url: str, queue: str = QUEUE) -> int:
    """Return how many messages are ready in the queue."""
    with Connection(url, connect_timeout=10) as connection:
        channel: Any = connection.channel()
        return int(channel.queue_declare(queue, passive=True).message_count)
