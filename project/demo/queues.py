"""Ask an AMQP broker about the queues of our groups, without changing anything there."""

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
    conf = inbox_settings()
    connection = amqp.connect(
        url, name="demo", connect_timeout=5, socket_timeout=5, heartbeat=0, ssl=conf.SSL
    )
    try:
        channel: Any = connection.channel()
        found = channel.queue_declare(queue=queue_name(group), passive=True)
    except NotFound:
        return None
    finally:
        amqp.drop(connection)
    return Queue(found.message_count, found.consumer_count)
