"""Consume a group's queue: prefetch, receive as one batch, then acknowledge.

Nothing is acknowledged before its transaction has committed. While the database is away the
messages stay here, unacknowledged; when the process dies the broker delivers them again.
"""

import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from amqp.exceptions import AMQPError
from django.db import InterfaceError, OperationalError, connections

from inbox.conf import InboxSettings
from inbox.delivery import Result
from inbox.receiver import Batch
from inbox.subscription import Incoming, Subscription
from outbox import amqp
from outbox.failpoints import hit
from outbox.shutdown import Shutdown

logger = logging.getLogger("inbox")

READ_SECONDS = 1.0
"""How long one read waits for messages before it looks whether to stop."""

BROKER = "broker"
DATABASE = "database"


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


class Consumer:
    """One process that consumes the queue of one group, on one connection.

    Raises ConfigurationError for a URL that is not that of an AMQP broker.
    """

    def __init__(
        self, group: str, *, url: str, conf: InboxSettings, using: str, shutdown: Shutdown
    ) -> None:
        amqp.check_url(url)
        self.group = group
        self.progress = Progress()
        self._url = url
        self._conf = conf
        self._using = using
        self._shutdown = shutdown
        self._subscription: Subscription | None = None
        self._held: list[tuple[float, int]] = []  # when to give back which delivery tag
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
                    if self._step(self._subscribed(), until_empty):
                        return not self.progress.failed
                except (AMQPError, OSError) as exc:
                    self._unsubscribe()
                    self._away(BROKER, f"{type(exc).__name__}: {exc}", wait=not until_empty)
                except (OperationalError, InterfaceError) as exc:
                    connections[self._using].close()
                    self._away(DATABASE, str(exc).strip(), wait=not until_empty)
                if self.progress.away and until_empty:
                    return False
            return True
        finally:
            if self._subscription is not None:
                self._subscription.close()

    def _subscribed(self) -> Subscription:
        if self._subscription is None:
            subscription = Subscription(self.group, url=self._url, conf=self._conf)
            try:
                subscription.open()
            except BaseException:
                subscription.drop()
                raise
            self._subscription = subscription
        return self._subscription

    def _unsubscribe(self) -> None:
        """Drop the connection; the broker delivers again what was not acknowledged."""
        subscription, self._subscription = self._subscription, None
        self._held.clear()
        if subscription is not None:
            subscription.drop()

    def _step(self, subscription: Subscription, until_empty: bool) -> bool:
        """Read what is there, process it; return whether the queue is empty and that was asked."""
        if not subscription.arrived:
            subscription.read(0.05 if until_empty else self._read_seconds())
            self._back(BROKER)
        self._requeue_due(subscription)
        if subscription.arrived:
            self._process(subscription)
            return False
        if not until_empty:
            return False
        # With all that may be prefetched on hold, no more would come.
        full = len(self._held) >= self._conf.PREFETCH
        # A message may have come in between the read and the answer.
        return full or (subscription.ready() == 0 and not subscription.arrived)

    def _read_seconds(self) -> float:
        if not self._held:
            return READ_SECONDS
        return min(READ_SECONDS, max(0.01, self._held[0][0] - time.monotonic()))

    def _process(self, subscription: Subscription) -> None:
        batch = list(subscription.arrived)
        _drop_broken_connections()
        deliveries = [incoming.delivery for incoming in batch]
        with subscription.idle():
            results = Batch(deliveries, using=self._using, group=self.group).receive()
        # Only now: had the transaction failed, the batch would still be waiting there.
        subscription.arrived.clear()
        self._back(DATABASE)
        self._count(results)
        self._settle(subscription, batch, results)
        hit("inbox.acked")

    def _settle(
        self, subscription: Subscription, batch: Sequence[Incoming], results: Sequence[Result]
    ) -> None:
        """Acknowledge what is settled, with one frame where possible; hold the rest for a while."""
        failed = [
            incoming for incoming, result in zip(batch, results, strict=True) if not result.settled
        ]
        if not failed and not self._held:
            subscription.ack(batch[-1].tag, multiple=True)
            return
        for incoming, result in zip(batch, results, strict=True):
            if result.settled:
                subscription.ack(incoming.tag)
        now = time.monotonic()
        self._held += [
            (now + self._conf.redelivery.ceiling(incoming.attempt), incoming.tag)
            for incoming in failed
        ]
        self._held.sort()

    def _requeue_due(self, subscription: Subscription) -> None:
        """Give failed messages back to the queue when their pause is over."""
        now = time.monotonic()
        while self._held and self._held[0][0] <= now:
            subscription.requeue(self._held.pop(0)[1])

    def _count(self, results: Sequence[Result]) -> None:
        progress = self.progress
        progress.batches += 1
        progress.received += len(results)
        for result in results:
            progress.handled += result.handled
            progress.duplicates += result.duplicates
            progress.dead += result.dead
            progress.failed += len(result.failures)

    def _away(self, what: str, reason: str, *, wait: bool) -> None:
        """Say once that something is away, and wait before the next attempt."""
        if self.progress.away != what:
            self.progress.away, self._outages = what, 0
            where = amqp.address(self._url) if what == BROKER else f"database {self._using!r}"
            logger.error(
                "The %s is away (%s): %s. Nothing is lost; trying again until it is back.",
                what,
                where,
                reason,
            )
        delay = self._conf.backoff.delay(self._outages)
        self._outages += 1
        if wait:
            with self._subscription.idle() if self._subscription else nullcontext():
                self._shutdown.wait(delay)

    def _back(self, what: str) -> None:
        if self.progress.away == what:
            logger.info("The %s is back after %d attempts.", what, self._outages)
            self.progress.away = ""


def _drop_broken_connections() -> None:
    """Close connections that an error has left unusable: nobody else does, outside requests."""
    for connection in connections.all(initialized_only=True):
        if connection.errors_occurred:
            connection.close_if_unusable_or_obsolete()
