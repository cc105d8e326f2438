"""The queues of this service on an AMQP broker: one durable quorum queue for each group.

Consumers own queues and bindings; the publisher only knows the exchange.
"""

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from amqp.channel import Channel
from amqp.exceptions import AccessRefused, NotFound, PreconditionFailed
from kombu import Connection, Queue

from inbox.conf import InboxSettings, inbox_settings
from inbox.sources.base import Declared
from outbox.amqp.exchange import UnusableExchange, declare_events, declare_missing
from outbox.exceptions import ConfigurationError

logger = logging.getLogger("inbox")


def queue_name(group: str, conf: InboxSettings | None = None) -> str:
    """Return the name of a group's queue, by default as INBOX is now."""
    return (conf or inbox_settings()).QUEUE_PREFIX + group


def queue_exists(connection: Connection, queue: str) -> bool:
    """Look whether a queue is there."""
    channel: Any = connection.channel()  # py-amqp's, beneath kombu's types; a failure closes it
    try:
        channel.queue_declare(queue, passive=True)
    except NotFound:
        return False
    channel.close()
    return True


def declare(
    connection: Connection,
    *,
    exchange: str,
    queue: str,
    topics: Iterable[str],
    gone: Iterable[str] = (),
) -> Declared:
    """Declare the exchange, a group's queue and its bindings; unbind what is `gone`.

    What exists with arguments of its own, an operator's say, or may not be declared by us, is used
    as it is. Raises ConfigurationError if the exchange exists and is no durable topic exchange, and
    AccessRefused for what is missing and may not be declared.
    """
    try:
        declare_events(connection, exchange)
    except UnusableExchange as exc:
        raise ConfigurationError(f"{exc}.") from exc
    _declare_queue(connection, queue)
    return Declared(
        bound=_bind(connection, exchange, queue, sorted(topics)),
        unbound=_unbind(connection, exchange, queue, sorted(gone)),
    )


def queue_arguments(connection: Connection) -> dict[str, Any]:
    """Return the arguments of a group's queue.

    RabbitMQ 4 drops a message after 20 deliveries unless told not to; a crash of a consumer
    must not count against a message, so the limit is lifted where it exists.
    """
    major = re.match(r"\d+", str(connection.connection.server_properties.get("version", "")))
    unlimited = {"x-delivery-limit": -1} if major and int(major[0]) >= 4 else {}
    return {"x-queue-type": "quorum", **unlimited}


def _declare_queue(connection: Connection, name: str) -> None:
    channel: Any = connection.channel()  # py-amqp's, beneath kombu's types
    queue = Queue(name, durable=True, queue_arguments=queue_arguments(connection))(channel)

    def use() -> None:
        queue.queue_declare(passive=True)

    def create() -> None:
        try:
            queue.queue_declare()
        except PreconditionFailed as exc:
            use()
            logger.warning("Queue %r is used as it is, with arguments of its own: %s", name, exc)

    declare_missing(create, use)
    channel.close()


def _bind(connection: Connection, exchange: str, queue: str, keys: Sequence[str]) -> frozenset[str]:
    """Bind a queue, and return what it is bound to for certain.

    Without the right to, trust that somebody else has bound it: nobody can look.
    """
    refused = _ask_for_each(connection, Channel.queue_bind, exchange, queue, keys)
    if refused:
        logger.warning(
            "We may not bind queue %r to exchange %r, and cannot see whether it is: %s. Somebody "
            "has to bind it for %s; rabbitmqctl list_bindings shows what is bound.",
            queue,
            exchange,
            next(iter(refused.values())),
            ", ".join(map(repr, refused)),
        )
    return frozenset(keys) - refused.keys()


def _unbind(
    connection: Connection, exchange: str, queue: str, keys: Sequence[str]
) -> frozenset[str]:
    """Unbind a queue from topics, and return which; without the right to, leave it to others."""
    refused = _ask_for_each(connection, Channel.queue_unbind, exchange, queue, keys)
    if refused:
        logger.warning(
            "We may not unbind queue %r from exchange %r: %s. No handler is for what it still "
            "gets, and each of that becomes a dead letter; somebody has to unbind it from %s.",
            queue,
            exchange,
            next(iter(refused.values())),
            ", ".join(map(repr, refused)),
        )
    return frozenset(keys) - refused.keys()


def _ask_for_each(
    connection: Connection,
    ask: Callable[..., Any],
    exchange: str,
    queue: str,
    keys: Sequence[str],
) -> dict[str, AccessRefused]:
    """Bind or unbind a queue, a key at a time; return what the broker refuses, and why."""
    refused: dict[str, AccessRefused] = {}
    channel: Any = connection.channel()
    for key in keys:
        try:
            ask(channel, queue=queue, exchange=exchange, routing_key=key)
        except AccessRefused as exc:
            refused[key] = exc
            channel = connection.channel()  # a refusal has closed it
    channel.close()
    return refused
