"""A queue that is being consumed: the connection, what has arrived on it, and its settlement."""

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from amqp.exceptions import AMQPError
from kombu import Connection

from inbox.conf import InboxSettings
from inbox.delivery import Delivery
from inbox.frames import tolerant_frame_handler
from inbox.heartbeat import Heartbeat
from inbox.registry import handlers
from inbox.topology import declare, queue_name
from outbox import amqp

logger = logging.getLogger("inbox")

DELIVERY_COUNT = "x-delivery-count"
"""The header in which a quorum queue counts the deliveries before this one."""


@dataclass(slots=True)
class Incoming:
    """A delivery, and the tag by which it is settled."""

    tag: int
    delivery: Delivery


class Subscription:
    """A consumer of one group's queue on a connection of its own. Used by one thread.

    Its methods raise AMQPError or OSError when the connection is gone; what had arrived on it
    and was not acknowledged is delivered again on the next one.
    """

    def __init__(self, group: str, *, url: str, conf: InboxSettings) -> None:
        self._url = url
        self.arrived: deque[Incoming] = deque()
        self._queue = queue_name(group, conf)
        self._group = group
        self._conf = conf
        self._heartbeat: Heartbeat | None = None
        self._channel: Any = None  # py-amqp's, beneath kombu's types
        self._connection: Connection | None = None
        # py-amqp's too: kombu's connects anew, without our consumer, when it finds itself cut off.
        self._link: Any = None

    def open(self) -> None:
        """Connect, declare queue and bindings, and consume.

        Raises ConfigurationError for an exchange that cannot be used.
        """
        conf = self._conf
        connection = self._connection = amqp.connect(
            self._url,
            name=f"django-outbox-inbox {self._queue}",
            connect_timeout=conf.CONNECT_TIMEOUT,
            socket_timeout=conf.SOCKET_TIMEOUT,
            heartbeat=conf.HEARTBEAT,
            ssl=conf.SSL,
            frame_handler=tolerant_frame_handler,
        )
        bound = handlers.groups().get(self._group, [])
        declare(connection, exchange=conf.EXCHANGE, queue=self._queue, bound=bound)
        self._link = connection.connection
        self._heartbeat = Heartbeat(self._link)
        self._heartbeat.start()
        self._channel = connection.channel()
        self._channel.auto_decode = False
        self._channel.basic_qos(0, conf.PREFETCH, False)
        self._channel.basic_consume(
            self._queue, callback=self._on_message, on_cancel=self._on_cancel
        )

    def read(self, seconds: float) -> None:
        """Wait for a frame, then take all messages that are already here into `arrived`."""
        # Not drain_events(), which starts its timeout again with each heartbeat of the broker.
        read_frame = self._link.blocking_read
        try:
            read_frame(timeout=seconds)
            while len(self.arrived) < self._conf.PREFETCH:
                read_frame(timeout=0)
        except TimeoutError:
            pass
        # Only now: the broker's heartbeats may have waited here during a long batch.
        self._link.heartbeat_tick()

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Keep the connection alive during the block, which must not use it."""
        assert self._heartbeat is not None
        with self._heartbeat.standing_in():
            yield

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        """Acknowledge one message, or it and all before it."""
        self._channel.basic_ack(tag, multiple=multiple)

    def ready(self) -> int:
        """Return how many messages wait in the queue, apart from those that were delivered."""
        declared = self._channel.queue_declare(queue=self._queue, passive=True)
        return int(declared.message_count)

    def close(self) -> None:
        """End in an orderly way, so that acknowledgements on their way arrive."""
        self._stop_heartbeat()
        try:
            if self._link is not None and self._link.connected:
                self._link.close()
        except (AMQPError, OSError):
            logger.debug("Error while closing the broker connection", exc_info=True)
        self.drop()

    def drop(self) -> None:
        """End at once: a broken connection gives no answer."""
        self._stop_heartbeat()
        connection, self._connection, self._link = self._connection, None, None
        if connection is None:
            return
        try:
            amqp.drop(connection)
        except (AMQPError, OSError):
            logger.debug("Error while dropping the broker connection", exc_info=True)

    def _stop_heartbeat(self) -> None:
        heartbeat, self._heartbeat = self._heartbeat, None
        if heartbeat is not None:
            heartbeat.stop()

    def _on_message(self, raw: Any) -> None:
        properties = raw.properties
        # A name that is not UTF-8 comes as bytes.
        headers = {
            name if isinstance(name, str) else repr(name): value
            for name, value in (properties.get("application_headers") or {}).items()
        }
        # The broker's, not the sender's: with it a second delivery would not look like the first.
        headers.pop(DELIVERY_COUNT, None)
        delivery = Delivery(
            headers=headers,
            body=raw.body if isinstance(raw.body, bytes) else str(raw.body).encode(),
            content_type=properties.get("content_type"),
            topic=raw.delivery_info.get("routing_key") or "",
            redelivered=bool(raw.delivery_info.get("redelivered")),
        )
        self.arrived.append(Incoming(raw.delivery_tag, delivery))

    def _on_cancel(self, consumer_tag: str) -> None:
        raise OSError(f"the broker cancelled the consumer; was queue {self._queue!r} deleted?")
