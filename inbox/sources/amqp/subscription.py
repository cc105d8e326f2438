"""A queue that is being consumed: the connection, what has arrived on it, and its settlement."""

import logging
import time
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from amqp import spec
from amqp.exceptions import AMQPError
from kombu import Connection

from inbox.conf import InboxSettings
from inbox.delivery import Delivery
from inbox.sources.amqp.contact import Contact
from inbox.sources.amqp.heartbeat import Heartbeat
from inbox.sources.amqp.readable import Frames
from inbox.sources.amqp.topology import declare, queue_exists, queue_name
from inbox.sources.base import (
    Declared,
    Incoming,
    Place,
    Source,
    SourceAway,
    SourceDenied,
    SourceEnded,
)
from outbox.amqp import connection as amqp
from outbox.error_text import describe, text_of

logger = logging.getLogger("inbox")

DELIVERY_COUNT = "x-delivery-count"
"""The header in which a quorum queue counts the deliveries before this one."""
PART_WEIGHS = 512
"""About what an event of a batch takes beside its body."""
READ_SECONDS = 1.0
"""How long one read goes on when more and more arrives: then it is time for a heartbeat."""


class _Cancelled(OSError):
    """The broker delivers nothing more to our consumer."""


@contextmanager
def _errors_of_the_port() -> Iterator[None]:
    """Raise SourceAway, or a class of it, for what py-amqp and the socket raise in a block."""
    try:
        yield
    except _Cancelled as exc:
        raise SourceEnded(text_of(exc)) from exc
    except (AMQPError, OSError) as exc:
        if refused := amqp.refusal(exc):
            raise SourceDenied(refused) from exc
        raise SourceAway(describe(exc)) from exc


class Subscription(Source):
    """A consumer of one group's queue on a connection of its own.

    Memory is bounded by not reading: RabbitMQ knows no prefetch in bytes, but what we leave in the
    socket it cannot send us either.
    """

    system = "rabbitmq"

    def __init__(self, group: str, *, url: str, conf: InboxSettings) -> None:
        amqp.check_url(url)
        self._url = url
        self.arrived = deque()
        self._held = 0  # about how many bytes they take
        self._frames = Frames(conf.MAX_BYTES)
        self._asked = 0  # how often anything was declared
        self._queue = queue_name(group, conf)
        self._conf = conf
        self._contact = Contact(conf.PREFETCH)
        self._last_tag = 0
        self._heartbeat: Heartbeat | None = None
        self._channel: Any = None  # py-amqp's, beneath kombu's types
        self._connection: Connection | None = None
        # py-amqp's too: kombu's connects anew, without our consumer, when it finds itself cut off.
        self._link: Any = None

    @property
    def address(self) -> str:
        return amqp.address(self._url, self._conf.SSL)

    @property
    def place(self) -> Place:
        return Place(self._queue, self._conf.EXCHANGE)

    @property
    def contact(self) -> datetime:
        return self._contact.at

    @_errors_of_the_port()
    def connect(self) -> bool:
        """Connect, and return whether the queue is there."""
        conf = self._conf
        self._connection = amqp.connect(
            self._url,
            name=f"django-outbox-inbox {self._queue}",
            connect_timeout=conf.CONNECT_TIMEOUT,
            socket_timeout=conf.SOCKET_TIMEOUT,
            heartbeat=conf.HEARTBEAT,
            ssl=conf.SSL,
            frame_handler=self._frames.handler,
        )
        self._link = self._connection.connection
        return queue_exists(self._connection, self._queue)

    @_errors_of_the_port()
    def open(self, topics: Collection[str], *, gone: Collection[str] = ()) -> Declared:
        """Declare queue and bindings, and consume.

        Raises ConfigurationError for an exchange that cannot be used.
        """
        if self._connection is None:
            self.connect()
        assert self._connection is not None
        connection, place = self._connection, self.place
        self._contact, self._last_tag = Contact(self._conf.PREFETCH), 0
        declared = declare(
            connection, exchange=place.exchange, queue=place.queue, topics=topics, gone=gone
        )
        self._asked = self._frames.answers
        self._heartbeat = Heartbeat(self._link)
        self._heartbeat.start()
        self._channel = connection.channel()
        self._channel.auto_decode = False
        self._channel.basic_qos(0, self._conf.PREFETCH, False)
        self._channel.basic_consume(
            self._queue, callback=self._on_message, on_cancel=self._on_cancel
        )
        return declared

    @property
    def full(self) -> bool:
        """Whether as much has arrived as may be in hand, in number or with what comes in bytes."""
        if not self.arrived:
            return False
        conf = self._conf
        held = self._held + self._frames.pending
        return len(self.arrived) >= conf.PREFETCH or held >= conf.PREFETCH_BYTES

    @_errors_of_the_port()
    def read(self, seconds: float) -> None:
        """Wait for a frame, then take what is already here into `arrived`, as far as it may be."""
        # Not drain_events(), which starts its timeout again with each heartbeat of the broker.
        read_frame = self._link.blocking_read
        try:
            read_frame(timeout=seconds)
            end = time.monotonic() + READ_SECONDS
            while not self.full and time.monotonic() < end:
                read_frame(timeout=0)
            self._contact.full(self._last_tag)
        except TimeoutError:
            self._contact.drained(self._link.bytes_recv)
        # Only now: the broker's heartbeats may have waited here during a long batch.
        self._link.heartbeat_tick()

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Keep the connection alive during the block, which must not use it."""
        assert self._heartbeat is not None
        with self._heartbeat.standing_in():
            yield

    @_errors_of_the_port()
    def settle(self, count: int) -> None:
        """Let go of what has arrived first, and acknowledge it with one frame."""
        tag = None
        for _ in range(count):
            incoming = self.arrived.popleft()
            self._held -= incoming.weight
            # Of several events of one message it is acknowledged with the last.
            if not self.arrived or self.arrived[0].tag != incoming.tag:
                tag = incoming.tag
        if tag is not None:
            self.ack(tag, multiple=True)

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        """Acknowledge one message, or it and all before it."""
        self._channel.basic_ack(tag, multiple=multiple)

    @_errors_of_the_port()
    def is_empty(self) -> bool:
        """Return whether nothing waits in the queue and nothing of it has arrived.

        A broker that is busy tells of a quorum queue, after a quarter of a second, that it holds
        nothing and has no consumers: it is asked again, as we consume. Raises SourceAway if it does
        not know within the SOCKET_TIMEOUT.
        """
        # Asked once more: what was delivered before the first answer may come behind it, but comes
        # before the second.
        return self._is_drained() and self._is_drained() and not self.arrived

    def _is_drained(self) -> bool:
        """Return whether the broker holds nothing that is not delivered to anybody."""
        deadline = time.monotonic() + self._conf.SOCKET_TIMEOUT
        while True:
            if not self._ask():
                return False
            if self._frames.consumers:
                return not self._frames.depth
            if time.monotonic() > deadline:
                raise OSError(f"the broker does not say what queue {self._queue!r} holds")

    def _ask(self) -> bool:
        """Ask what the queue holds; return False if so much arrived that it is full before.

        Not by queue_declare(), which reads whatever comes before the answer.
        """
        self._channel.send_method(
            spec.Queue.Declare, "BsbbbbbF", (0, self._queue, True, False, False, False, False, {})
        )
        self._asked += 1
        while self._frames.answers < self._asked:
            if self.full:
                return False
            self._link.blocking_read(timeout=self._conf.SOCKET_TIMEOUT)
        return True

    def close(self) -> None:
        """End in an orderly way, so that acknowledgements on their way arrive."""
        self._stop_heartbeat()
        # The broker answers behind all that it has sent before.
        self._frames.discard()
        try:
            if self._link is not None and self._link.connected:
                self._link.close()
        except (AMQPError, OSError, MemoryError):
            logger.debug("Error while closing the broker connection", exc_info=True)
        self.drop()

    def drop(self) -> None:
        """End at once: a broken connection gives no answer."""
        self._stop_heartbeat()
        connection, self._connection, self._link = self._connection, None, None
        if connection is not None:
            amqp.drop(connection)

    def _stop_heartbeat(self) -> None:
        heartbeat, self._heartbeat = self._heartbeat, None
        if heartbeat is not None:
            heartbeat.stop()

    def _on_message(self, raw: Any) -> None:
        self._last_tag = raw.delivery_tag
        self._contact.delivered(raw.delivery_tag)
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
            size=raw.body_size if raw.digest else None,
            sha256=raw.digest,
        )
        # A batch without events is acknowledged in its turn, like any other message.
        parts = delivery.parts() or [delivery]
        weight = raw.weight if len(parts) == 1 else raw.weight // len(parts) + PART_WEIGHS
        self.arrived += [Incoming(part, weight, raw.delivery_tag) for part in parts]
        self._held += weight * len(parts)

    def _on_cancel(self, consumer_tag: str) -> None:
        raise _Cancelled(f"nothing more of queue {self._queue!r} is delivered; was it deleted?")
