"""What a broker says of a queue that somebody else has declared."""

from typing import Any

from amqp.exceptions import AccessRefused, NotFound

from relay.brokers.base import Depth


def read_depth(connection: Any, queue: str) -> Depth | None:
    """Return how many messages wait in a queue, and its consumers; None if we may not ask.

    `connection` is py-amqp's. On a channel of its own, which a refusal closes. Raises what the
    connection raises.
    """
    channel = connection.channel()
    try:
        _, ready, consumers = channel.queue_declare(queue, passive=True)
    except NotFound:
        return Depth(exists=False)
    except AccessRefused:
        return None
    channel.close()
    return Depth(ready, consumers)
