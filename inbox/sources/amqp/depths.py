"""How many messages wait in the queues of groups, and how many consumers they have."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from amqp.exceptions import AMQPError, NotFound
from kombu import Connection

from inbox.conf import inbox_settings
from inbox.sources.amqp.topology import queue_name
from outbox.amqp import connection as amqp
from outbox.error_text import describe


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """What a broker says of a queue; `error` if it says nothing else."""

    group: str
    queue: str
    ready: int = 0
    consumers: int = 0
    missing: bool = False
    error: str = ""


def read_depths(url: str, groups: Sequence[str]) -> Iterator[Depth]:
    """Ask a broker for the queue of each group, declaring nothing.

    Raises AMQPError, OSError or ConfigurationError if it does not let us in.
    """
    conf = inbox_settings()
    amqp.check_url(url)
    connection = amqp.connect(
        url,
        name="django-outbox-inbox doctor",
        connect_timeout=conf.CONNECT_TIMEOUT,
        socket_timeout=conf.CONNECT_TIMEOUT,
        heartbeat=0,
        ssl=conf.SSL,
    )
    try:
        for group in groups:
            yield _depth(connection, group)
    finally:
        amqp.drop(connection)


def _depth(connection: Connection, group: str) -> Depth:
    name = queue_name(group)
    try:
        channel: Any = connection.channel()  # a failed declaration closes it
        _, ready, consumers = channel.queue_declare(name, passive=True)
    except NotFound:
        return Depth(group=group, queue=name, missing=True)
    except (AMQPError, OSError) as exc:
        return Depth(group=group, queue=name, error=amqp.refusal(exc) or describe(exc))
    return Depth(group=group, queue=name, ready=ready, consumers=consumers)
