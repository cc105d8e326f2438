"""The queues of this service on an AMQP broker: one durable quorum queue for each group.

Consumers own queues and bindings; the publisher only knows the exchange.
"""

import logging
import re
from collections.abc import Iterable
from typing import Any

from amqp.exceptions import PreconditionFailed
from kombu import Connection, Exchange, Queue

from inbox.conf import InboxSettings, inbox_settings
from inbox.registry import Handler
from outbox.exceptions import ConfigurationError
from outbox.registry import registry as event_types

logger = logging.getLogger("inbox")


def queue_name(group: str, conf: InboxSettings | None = None) -> str:
    """Return the name of a group's queue, by default as INBOX is now."""
    return (conf or inbox_settings()).QUEUE_PREFIX + group


def declare(connection: Connection, *, exchange: str, queue: str, bound: Iterable[Handler]) -> None:
    """Declare the exchange, a group's queue and a binding for each of its patterns.

    A queue that exists with other arguments, a policy of the operator's say, is used as it is.
    Raises ConfigurationError if the exchange exists and is no durable topic exchange.
    """
    topic = Exchange(exchange, type="topic", durable=True)
    _declare_exchange(connection, topic)
    _declare_queue(connection, queue)
    channel: Any
    with connection.channel() as channel:
        for routing_key in sorted(routing_keys(bound)):
            channel.queue_bind(queue=queue, exchange=exchange, routing_key=routing_key)


def routing_keys(bound: Iterable[Handler]) -> set[str]:
    """Return the binding keys of handlers: their patterns, and topics that differ from the type."""
    found = list(bound)
    return {each.pattern for each in found} | {
        event_type.topic
        for event_type in event_types
        if event_type.topic and any(each.wants(event_type.name) for each in found)
    }


def queue_arguments(connection: Connection) -> dict[str, Any]:
    """Return the arguments of a group's queue.

    RabbitMQ 4 drops a message after 20 deliveries unless told not to; a crash of a consumer
    must not count against a message, so the limit is lifted where it exists.
    """
    major = re.match(r"\d+", str(connection.connection.server_properties.get("version", "")))
    unlimited = {"x-delivery-limit": -1} if major and int(major[0]) >= 4 else {}
    return {"x-queue-type": "quorum", **unlimited}


def _declare_exchange(connection: Connection, topic: Exchange) -> None:
    try:
        with connection.channel() as channel:
            topic(channel).declare()
    except PreconditionFailed as exc:
        raise ConfigurationError(
            f"The exchange {topic.name!r} exists and is not a durable topic exchange: {exc}. "
            "Name another one in INBOX['EXCHANGE'] and the relay's OPTIONS, or delete it."
        ) from exc


def _declare_queue(connection: Connection, name: str) -> None:
    queue = Queue(name, durable=True, queue_arguments=queue_arguments(connection))
    try:
        with connection.channel() as channel:
            queue(channel).queue_declare()
    except PreconditionFailed as exc:
        with connection.channel() as channel:
            queue(channel).queue_declare(passive=True)
        logger.warning("Queue %r is used as it is, with arguments of its own: %s", name, exc)
