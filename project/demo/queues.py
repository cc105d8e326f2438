"""The queues of our groups at an AMQP broker: asked about, and, for the demo, robbed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from amqp.exceptions import NotFound

from inbox.conf import inbox_settings
from inbox.sources.amqp.topology import queue_name
from outbox.amqp import connection as amqp


class Queue(NamedTuple):
    """What a broker tells of a queue: messages that wait in it, consumers that read from it."""

    messages: int
    consumers: int


def look(url: str, group: str) -> Queue | None:
    """Return the state of a group's queue; None if it is not declared.

    A consumer declares its queue and bindings before it starts to read, so a queue with a
    consumer gets everything that is published from then on.
    """
    try:
        with _channel(url) as channel:
            found = channel.queue_declare(queue=queue_name(group), passive=True)
    except NotFound:
        return None
    return Queue(found.message_count, found.consumer_count)


def throw_away(url: str, group: str) -> int:
    """Take all that waits in a group's queue, as a stranger would, and handle none of it."""
    with _channel(url) as channel:
        count = 0
        while channel.basic_get(queue_name(group), no_ack=True) is not None:
            count += 1
    return count


def delete(url: str, group: str) -> int:
    """Delete a group's queue; return how many messages went with it."""
    with _channel(url) as channel:
        return int(channel.queue_delete(queue_name(group)))


@contextmanager
def _channel(url: str) -> Iterator[Any]:
    conf = inbox_settings()
    connection = amqp.connect(
        url, name="demo", connect_timeout=5, socket_timeout=5, heartbeat=0, ssl=conf.SSL
    )
    try:
        yield connection.channel()
    finally:
        amqp.drop(connection)
