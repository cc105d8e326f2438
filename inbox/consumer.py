"""Consume a group's queue: prefetch, receive as one batch, then acknowledge.

Nothing is acknowledged before its transaction has committed. While the database is away the
messages stay here, unacknowledged; when the process dies the broker delivers them again.
"""

import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from amqp.exceptions import AMQPError
from django.db import InterfaceError, OperationalError, connections
from kombu import Connection

from inbox.conf import InboxSettings
from inbox.delivery import Delivery, Result
from inbox.heartbeat import Heartbeat
from inbox.receiver import Batch
from inbox.registry import handlers
from inbox.topology import declare, queue_name
from outbox.failpoints import hit
from outbox.shutdown import Shutdown

logger = logging.getLogger("inbox")

READ_SECONDS = 1.0
"""How long one read waits for messages before it looks whether to stop."""


@dataclass(slots=True)
class Progress:
    """What a consumer has done so far; the terminal shows it."""

    received: int = 0
    handled: int = 0
    duplicates: int = 0
    dead: int = 0
    failed: int = 0
    batches: int = 0
    away: str = ""
    started: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Incoming:
    """A delivery with what is needed to settle it on its channel."""

    tag: int
    delivery: Delivery
    attempt: int


class Consumer:
    """One process that consumes the queue of one group, on one connection."""

    def __init__(
        self, group: str, *, url: str, conf: InboxSettings, using: str, shutdown: Shutdown
    ) -> None:
        self.group = group
        self.progress = Progress()
        self._url = url
        self._conf = conf
        self._using = using
        self._shutdown = shutdown
        self._connection: Connection | None = None
        self._heartbeat: Heartbeat | None = None
        self._channel: Any = None
        self._buffer: deque[Incoming] = deque()
        self._held: list[tuple[float, Incoming]] = []
        self._outages = 0

    def run(self, *, until_empty: bool = False) -> bool:
        """Consume until a stop is requested, or until the queue is empty.

        Broker or database away: backs off, says so once, goes on when they return; with
        `until_empty` it gives up instead and returns False. Raises ConfigurationError for an
        exchange that cannot be used.
        """
        try:
            while not self._shutdown.requested:
                try:
                    self._connect()
                    if self._step(until_empty):
                        return not self.progress.failed
                except (AMQPError, OSError) as exc:
                    self._disconnect()
                    self._away("broker", f"{type(exc).__name__}: {exc}")
                except (OperationalError, InterfaceError) as exc:
                    connections[self._using].close()
                    self._away("database", str(exc).strip())
                if self._outages and until_empty:
                    return False
            return True
        finally:
            self._disconnect()

    def _step(self, until_empty: bool) -> bool:
        """Read what is there, process it; return whether the queue is empty and that was asked."""
        if not self._buffer:
            self._read(0.05 if until_empty else self._read_seconds())
        self._requeue_due()
        if self._buffer:
            self._process()
            return False
        self._back()
        if not until_empty:
            return False
        if self._held:
            return True
        waiting = self._channel.queue_declare(queue=queue_name(self.group), passive=True)
        # A message may have come in between the read and the answer.
        return not self._buffer and waiting.message_count == 0

    def _connect(self) -> None:
        if self._channel is not None:
            return
        conf = self._conf
        self._connection = Connection(
            self._url,
            heartbeat=conf.HEARTBEAT,
            connect_timeout=conf.CONNECT_TIMEOUT,
            ssl=dict(conf.SSL) if conf.SSL is not None else self._url.startswith("amqps"),
            transport_options={
                "read_timeout": conf.SOCKET_TIMEOUT,
                "write_timeout": conf.SOCKET_TIMEOUT,
                "client_properties": {"connection_name": f"django-outbox-inbox {self.group}"},
            },
        )
        self._connection.connect()
        bound = handlers.groups().get(self.group, [])
        declare(self._connection, exchange=conf.EXCHANGE, group=self.group, bound=bound)
        self._heartbeat = Heartbeat(self._connection.connection)
        self._heartbeat.start()
        channel: Any = self._connection.channel()  # py-amqp's, beneath kombu's types
        channel.auto_decode = False
        channel.basic_qos(0, conf.PREFETCH, False)
        channel.basic_consume(
            queue_name(self.group), callback=self._on_message, on_cancel=self._on_cancel
        )
        self._channel = channel

    def _on_message(self, raw: Any) -> None:
        properties = raw.properties
        headers = properties.get("application_headers") or {}
        body = raw.body if isinstance(raw.body, bytes) else str(raw.body).encode()
        delivery = Delivery(
            headers=headers,
            body=body,
            content_type=properties.get("content_type"),
            topic=raw.delivery_info.get("routing_key") or "",
        )
        attempt = headers.get("x-delivery-count", 0)
        self._buffer.append(
            Incoming(raw.delivery_tag, delivery, attempt if isinstance(attempt, int) else 0)
        )

    def _on_cancel(self, consumer_tag: str) -> None:
        raise OSError(f"the broker cancelled the consumer; was queue {self.group!r} deleted?")

    def _read(self, seconds: float) -> None:
        """Wait for a message, then take all that has already arrived."""
        assert self._connection is not None
        self._connection.heartbeat_check()
        try:
            self._connection.drain_events(timeout=seconds)
            while len(self._buffer) < self._conf.PREFETCH:
                self._connection.drain_events(timeout=0)
        except TimeoutError:
            pass

    def _read_seconds(self) -> float:
        if not self._held:
            return READ_SECONDS
        return min(READ_SECONDS, max(0.01, self._held[0][0] - time.monotonic()))

    def _process(self) -> None:
        batch = [self._buffer[index] for index in range(len(self._buffer))]
        results = Batch(
            [incoming.delivery for incoming in batch], using=self._using, group=self.group
        ).receive()
        # Only now: had the transaction failed, the batch would still be in the buffer.
        self._buffer.clear()
        self._back()
        self._count(results)
        self._settle(batch, results)
        hit("inbox.acked")

    def _settle(self, batch: Sequence[Incoming], results: Sequence[Result]) -> None:
        """Acknowledge what is settled, with one frame where possible; hold the rest for a while."""
        failed = [
            incoming for incoming, result in zip(batch, results, strict=True) if not result.settled
        ]
        if not failed and not self._held:
            self._channel.basic_ack(batch[-1].tag, multiple=True)
            return
        for incoming, result in zip(batch, results, strict=True):
            if result.settled:
                self._channel.basic_ack(incoming.tag)
        now = time.monotonic()
        for incoming in failed:
            delay = self._conf.redelivery.ceiling(incoming.attempt)
            self._held.append((now + delay, incoming))
        self._held.sort(key=lambda held: held[0])

    def _requeue_due(self) -> None:
        """Give failed messages back to the queue when their pause is over."""
        now = time.monotonic()
        while self._held and self._held[0][0] <= now:
            _, incoming = self._held.pop(0)
            self._channel.basic_reject(incoming.tag, requeue=True)

    def _count(self, results: Sequence[Result]) -> None:
        progress = self.progress
        progress.batches += 1
        progress.received += len(results)
        for result in results:
            progress.handled += result.handled
            progress.duplicates += result.duplicates
            progress.dead += result.dead
            progress.failed += len(result.failures)

    def _away(self, what: str, reason: str) -> None:
        if not self.progress.away:
            logger.error(
                "The %s is away: %s. Nothing is lost; trying again until it is back.", what, reason
            )
        self.progress.away = what
        delay = self._conf.backoff.delay(self._outages)
        self._outages += 1
        self._pause(delay)

    def _pause(self, seconds: float) -> None:
        """Wait, answering the broker's heartbeats if there is a connection."""
        deadline = time.monotonic() + seconds
        while not self._shutdown.requested and (left := deadline - time.monotonic()) > 0:
            self._shutdown.wait(min(left, 1.0))

    def _back(self) -> None:
        if self.progress.away:
            logger.info("The %s is back after %d attempts.", self.progress.away, self._outages)
        self.progress.away = ""
        self._outages = 0

    def _disconnect(self) -> None:
        """Drop the connection; the broker delivers again what was not acknowledged."""
        heartbeat, self._heartbeat = self._heartbeat, None
        connection, self._connection, self._channel = self._connection, None, None
        self._buffer.clear()
        self._held.clear()
        if heartbeat is not None:
            heartbeat.stop()
        if connection is not None:
            try:
                connection.collect(socket_timeout=1)
            except (AMQPError, OSError):
                logger.debug("Error while dropping the broker connection", exc_info=True)
