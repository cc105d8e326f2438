"""Consume a group's queue: prefetch, receive as one batch, then acknowledge.

Nothing is acknowledged before its transaction has committed. While the database is away the
messages stay here, unacknowledged; when the process dies the broker delivers them again. What
failed is in the database: about once a second a turn is taken at what is due there. Now and then a
batch of what is kept no longer is deleted.
"""

import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from typing import Any

from amqp.exceptions import AMQPError
from django.db import Error, connections

from inbox import retention
from inbox.calls import LostInHandler
from inbox.conf import InboxSettings
from inbox.delivery import Result
from inbox.ledger import Ledger
from inbox.receiver import Batch
from inbox.registry import handlers
from inbox.retries import Retries
from inbox.subscription import Incoming, Subscription
from outbox import amqp
from outbox.commands import check_access
from outbox.exceptions import AccessDenied
from outbox.failpoints import hit
from outbox.housekeeping import Housekeeping
from outbox.outages import AWAY, DENIED, is_outage, refusal
from outbox.shutdown import Shutdown

logger = logging.getLogger("inbox")

READ_SECONDS = 1.0
"""How long one read waits for messages before it looks whether to stop."""
TURN_EVERY = 1.0
"""Seconds from one look at what is due to the next, if nothing is known to be."""
LARGEST_BATCH = 1000
"""Messages of one transaction: with ordered handlers each may take a lock in it."""

BROKER = "broker"
DATABASE = "database"


@dataclass(slots=True)
class Progress:
    """What a consumer has done so far; the terminal shows it."""

    received: int = 0
    handled: int = 0
    duplicates: int = 0
    retrying: int = 0
    waiting: int = 0
    skipped: int = 0
    dead: int = 0
    letters: int = 0
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
        self._retries = Retries(using, group)
        self._next_turn = 0.0
        self._housekeeping = Housekeeping(using, conf.PRUNE_INTERVAL, retention.owned, logger)
        self._outages = 0
        self._denied = False
        self._resume_at = 0.0  # when to look for a broker that is away

    def open(self) -> None:
        """Connect to what is there; raise AccessDenied if database or broker do not let us in.

        For the start, when that is a mistake of a setting; later credentials may be rotated.
        Raises ConfigurationError for an exchange that cannot be used.
        """
        check_access(self._using)
        try:
            self._subscribed()
        except (AMQPError, OSError) as exc:
            if refused := amqp.refusal(exc):
                where = amqp.address(self._url)
                raise AccessDenied(f"The broker does not let us in ({where}): {refused}.") from exc

    def run(self, *, until_empty: bool = False) -> bool:
        """Consume until a stop is requested, or until the queue is empty and nothing is due.

        Broker or database away: backs off, says so once, goes on when they return; with
        `until_empty` it gives up instead and returns False, as it does at the end if anything has
        come to be retrying or dead. Raises ConfigurationError for an exchange that cannot be used.
        """
        since: Any = None
        try:
            while not self._shutdown.requested:
                try:
                    if until_empty and since is None:
                        since = Ledger(self._using).now()
                    self._take_turn()
                    self._tidy()
                    if self._broker_rests():
                        continue
                    if self._step(self._subscribed(), until_empty):
                        failed = Ledger(self._using).unfinished_since(self._names(), since)
                        return not (failed or self.progress.letters)
                except (AMQPError, OSError) as exc:
                    self._unsubscribe()
                    refused = amqp.refusal(exc)
                    reason = refused or f"{type(exc).__name__}: {exc}"
                    self._away(BROKER, reason, denied=bool(refused))
                except Error as exc:
                    if not is_outage(exc):
                        raise
                    connections[self._using].close()
                    refused = refusal(exc)
                    reason = refused or str(exc).strip()
                    delay = self._away(DATABASE, reason, denied=bool(refused))
                    if not until_empty:
                        with self._idle():
                            self._shutdown.wait(delay)
                if self.progress.away and until_empty:
                    return False
            return True
        finally:
            if self._subscription is not None:
                self._subscription.close()

    def _names(self) -> list[str]:
        return [each.name for each in handlers.groups().get(self.group, [])]

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
        if subscription is not None:
            subscription.drop()

    def _step(self, subscription: Subscription, until_empty: bool) -> bool:
        """Read what is there, process it; return whether nothing is left and that was asked."""
        if not subscription.arrived:
            subscription.read(0.05 if until_empty else self._read_seconds())
            self._back(BROKER)
        if subscription.arrived:
            self._process(subscription)
            return False
        if not until_empty or subscription.ready() or subscription.arrived:
            return False
        # Nothing was there to read, and nothing is due either.
        return not (self._take_turn(now=True) or Ledger(self._using).resting(self._names()))

    def _read_seconds(self) -> float:
        turn = max(0.0, self._next_turn - time.monotonic())
        return min(READ_SECONDS, turn, self._housekeeping.until_turn())

    def _take_turn(self, *, now: bool = False) -> bool:
        """Handle what is due, if it is time to look; return whether anything was."""
        if not now and time.monotonic() < self._next_turn:
            return False
        _drop_broken_connections()
        with self._idle():
            turn = self._retries.turn()
        self._back(DATABASE)
        self._next_turn = 0.0 if turn.more else time.monotonic() + TURN_EVERY
        progress = self.progress
        progress.handled += turn.handled
        progress.retrying += turn.retrying
        progress.skipped += turn.skipped
        progress.dead += turn.dead
        return bool(turn.settled)

    def _tidy(self) -> None:
        """Delete some of what is kept no longer, if it is time to."""
        if self._housekeeping.due:
            with self._idle():
                self._housekeeping.turn()

    def _idle(self) -> AbstractContextManager[None]:
        return self._subscription.idle() if self._subscription else nullcontext()

    def _broker_rests(self) -> bool:
        """Wait a little, if it is too early to look for a broker that is away."""
        rest = self._resume_at - time.monotonic()
        if rest <= 0:
            return False
        self._shutdown.wait(min(rest, READ_SECONDS))
        return True

    def _process(self, subscription: Subscription) -> None:
        batch = _next_batch(subscription.arrived)
        _drop_broken_connections()
        receiver = Batch(
            [incoming.delivery for incoming in batch], using=self._using, group=self.group
        )
        with subscription.idle():
            try:
                results = receiver.receive()
            except LostInHandler:
                for incoming in batch:
                    # With care from now on: it may be one of them that the database died of.
                    incoming.delivery = replace(incoming.delivery, redelivered=True)
                raise
        # Only now: had the transaction failed, the batch would still be waiting there.
        for _ in batch:
            subscription.arrived.popleft()
        self._back(DATABASE)
        self._count(results)
        if receiver.woke:
            self._next_turn = 0.0
        subscription.ack(batch[-1].tag, multiple=True)
        hit("inbox.acked")

    def _count(self, results: Sequence[Result]) -> None:
        progress = self.progress
        progress.batches += 1
        progress.received += len(results)
        for result in results:
            progress.handled += result.handled
            progress.duplicates += result.duplicates
            progress.retrying += result.retrying
            progress.waiting += result.waiting
            progress.skipped += result.skipped
            progress.dead += result.dead
            progress.letters += result.letters

    def _away(self, what: str, reason: str, *, denied: bool = False) -> float:
        """Say once that something is away; return how long to wait before the next attempt.

        And again when it is there and does not let us in: that may need a person.
        """
        if self.progress.away != what:
            self._outages = 0
        if self.progress.away != what or self._denied is not denied:
            self.progress.away, self._denied = what, denied
            where = amqp.address(self._url) if what == BROKER else f"database {self._using!r}"
            logger.error(DENIED if denied else AWAY, what, where, reason)
        delay = self._conf.backoff.delay(self._outages)
        self._outages += 1
        if what == BROKER:
            self._resume_at = time.monotonic() + delay
        return delay

    def _back(self, what: str) -> None:
        if self.progress.away == what:
            logger.info("The %s is back after %d attempts.", what, self._outages)
            self.progress.away = ""


def _next_batch(arrived: Sequence[Incoming]) -> list[Incoming]:
    """Return what comes first; what was delivered before apart, as it is handled a little later."""
    first = arrived[0].delivery.redelivered
    alike = takewhile(lambda each: each.delivery.redelivered is first, arrived)
    return list(islice(alike, LARGEST_BATCH))


def _drop_broken_connections() -> None:
    """Close connections that an error has left unusable: nobody else does, outside requests."""
    for connection in connections.all(initialized_only=True):
        if connection.errors_occurred:
            connection.close_if_unusable_or_obsolete()
