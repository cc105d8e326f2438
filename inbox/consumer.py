"""Consume a group's messages: read ahead, receive as one batch, then settle.

Nothing is acknowledged before its transaction has committed. While the database is away the
messages stay here, unacknowledged; when the process dies the broker delivers them again. What
failed is in the database: about once a second a turn is taken at what is due there. Now and then a
batch of what is kept no longer is deleted.
"""

import gc
import logging
import time
from collections.abc import MutableMapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from typing import Any

from django.db import Error, connections

from inbox import retention
from inbox.calling.calls import LostInHandler
from inbox.conf import InboxSettings
from inbox.handlers.registry import Handler, handlers
from inbox.handlers.topics import topics_of
from inbox.ledger.ledger import Ledger
from inbox.models import Binding, Receipt
from inbox.receiving.batch import Batch
from inbox.receiving.retries import Retries
from inbox.receiving.tally import Tally
from inbox.sources.adapters import source_of
from inbox.sources.base import Incoming, Source, SourceAway, SourceDenied, SourceEnded
from inbox.sources.bindings import Bindings, Plan
from outbox.database.failures import (
    AWAY,
    DENIED,
    Sentence,
    is_out_of_memory,
    is_outage,
    is_unready,
    told,
)
from outbox.database.freshness import refresh
from outbox.error_text import text_of
from outbox.exceptions import AccessDenied
from outbox.failpoints import hit
from outbox.producer.writing import write_database
from outbox.replies.overdue import sweep
from outbox.runtime.arguments import check_access
from outbox.runtime.housekeeping import Housekeeping
from outbox.runtime.outages import BROKER, DATABASE, Logger, Outages
from outbox.runtime.pace import Pace
from outbox.runtime.shutdown import Shutdown
from outbox.statements.conf import peers
from outbox.statements.rounds import Rounds

logger = logging.getLogger("inbox")

READ_SECONDS = 1.0
"""How long one read waits for messages before it looks whether to stop."""
TURN_EVERY = 1.0
"""Seconds from one look at what is due to the next, if nothing is known to be."""
LEAST_BYTES = 64 * 1024
"""Of messages in hand: with less it is one message at a time, and memory cannot be spared."""
LARGEST_BATCH = 1000
"""Messages of one transaction: with ordered handlers each may take a lock in it."""

SEEN_EVERY = 600.0
"""Seconds after which a consumer notes again that it is there, with what it has bound."""

ENDED_BY_BROKER = Sentence(
    "The %s has ended our subscription (%s): %s If the queue is gone, so is what waited in it",
    "; it is declared again, and then it is told which events may be missing.",
)


@dataclass(slots=True, kw_only=True)
class Progress(Tally):
    """What a consumer has done so far; the terminal shows it."""

    outages: Outages
    received: int = 0
    batches: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def away(self) -> str:
        return self.outages.away


def demand_tables(using: str) -> None:
    """Raise the database's error if what the newest migrations have made is not there.

    Nothing of it is needed before a handler fails or the broker answers: by then a consumer would
    wait for it, as for a table that is away for a while, and say that over and over.
    """
    for model, column in ((Binding, "unbound"), (Receipt, "last_attempts")):
        model._default_manager.using(using).values_list(column).first()


class _OfGroup(logging.LoggerAdapter[logging.Logger]):
    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, Any]:
        return f"Group {dict(self.extra or {})['group']}: {msg}", kwargs


class Consumer:
    """Consumes the messages of one group, from one source; used by one thread at a time.

    With `several` groups in the process, what is logged of broker and database names this one.
    Raises ConfigurationError for the URL of no broker that can be consumed from.
    """

    def __init__(
        self,
        group: str,
        *,
        url: str,
        conf: InboxSettings,
        using: str,
        shutdown: Shutdown,
        several: bool = False,
    ) -> None:
        self._logger: Logger = _OfGroup(logger, {"group": group}) if several else logger
        self._address = source_of(group, url=url, conf=conf).address
        self.group = group
        self._outages = Outages(conf.backoff, self._logger, of=("inbox", group))
        self.progress = Progress(outages=self._outages)
        self._url = url
        self._conf = conf
        self._using = using
        self._shutdown = shutdown
        self._source: Source | None = None
        self._bound: tuple[Bindings, Plan] | None = None
        self._next_seen = 0.0
        self._retries = Retries(using, group)
        self._next_turn = 0.0
        overdue = [sweep()] if using == write_database() else []
        self._housekeeping = Housekeeping(
            using, conf.PRUNE_INTERVAL, lambda: [*retention.owned(), *overdue], self._logger
        )
        # Answers come to the queue of this group; nobody else states anything.
        self._rounds = Rounds() if group == conf.group and peers() else None
        self._pace = Pace(LARGEST_BATCH, conf.BATCH_SECONDS)
        self._has_looked = False  # at the database, without an error
        self._turned = 0.0

    def open(self) -> None:
        """Connect to what is there; raise AccessDenied if database or broker do not let us in.

        For the start, when that is a mistake of a setting; later credentials may be rotated.
        Raises ConfigurationError for an exchange that cannot be used.
        """
        check_access(self._using, "consume")
        try:
            self._opened()
        except SourceDenied as exc:
            where = self._address
            raise AccessDenied(f"The broker does not let us in ({where}): {exc}.") from exc
        except SourceAway:
            pass  # run() waits for it
        except Error:
            connections[self._using].close()  # run() meets it again, and knows what to do

    def run(self, *, until_empty: bool = False) -> bool:
        """Consume until a stop is requested, or until the queue is empty and nothing is due.

        Broker or database away: backs off, says so once, goes on when they return; with
        `until_empty` it gives up instead and returns False, as it does at the end if anything has
        come to be retrying or dead. Raises ConfigurationError for an exchange that cannot be used.
        """
        since: Any = None
        self._outages.persistent = not until_empty
        try:
            while not self._shutdown.requested:
                self._turned = time.monotonic()
                try:
                    if until_empty and since is None:
                        since = Ledger(self._using).now()
                    self._take_turn()
                    self._tidy()
                    if self._broker_rests():
                        continue
                    if self._step(self._opened(), until_empty):
                        failed = Ledger(self._using).unfinished_since(self._names(), since)
                        return not (failed or self.progress.letters)
                except MemoryError:
                    if not self._spare():
                        raise
                except SourceAway as exc:
                    self._note_seen()
                    self._drop()
                    self._outages.failed(BROKER, text_of(exc), self._address, _sentence(exc))
                except Error as exc:
                    if is_out_of_memory(exc) and self._spare():
                        continue
                    if not is_outage(exc) and not (self._has_looked and is_unready(exc)):
                        raise
                    connections[self._using].close()
                    sentence, reason = told(exc)
                    where = f"database {self._using!r}"
                    delay = self._outages.failed(DATABASE, reason, where, sentence)
                    if not until_empty:
                        with self._idle():
                            self._shutdown.wait(delay)
                if self.progress.away and until_empty:
                    return False
            return True
        finally:
            self.close()

    @property
    def turned(self) -> float:
        """When the loop has turned last, by time.monotonic(); now if it has not begun yet."""
        return self._turned or time.monotonic()

    @property
    def missing(self) -> str:
        """What it waits for, in a word or two, before it can handle; "" if for nothing."""
        works = self._has_looked and self._source is not None
        return self.progress.away or ("" if works else "starting")

    def close(self) -> None:
        """Let go of the connection to the broker; what was settled arrives there."""
        try:
            self._note_seen()
        finally:
            self._close_source()

    def _handlers(self) -> list[Handler]:
        return handlers.groups().get(self.group, [])

    def _names(self) -> list[str]:
        return [each.name for each in self._handlers()]

    def _opened(self) -> Source:
        if self._source is None:
            source = source_of(self.group, url=self._url, conf=self._conf)
            bindings = Bindings(self._using, self.group, source.place)
            try:
                plan = bindings.plan(topics_of(self._handlers()), exists=source.connect())
                bindings.confirm(plan, source.open(plan.topics, gone=plan.gone))
            except BaseException:
                source.drop()
                raise
            self._source, self._bound = source, (bindings, plan)
            self._next_seen = time.monotonic() + SEEN_EVERY
        return self._source

    def _close_source(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.close()

    def _drop(self) -> None:
        """Drop the connection; what was not settled is delivered again."""
        source, self._source = self._source, None
        if source is not None:
            source.drop()

    def _spare(self) -> bool:
        """Let go of what is in hand, and hold less from now on; return whether that is possible."""
        self._drop()
        connections[self._using].close()
        gc.collect()  # errors and their frames hold messages in cycles
        held = self._conf.PREFETCH_BYTES
        if held < LEAST_BYTES:
            return False
        self._conf = replace(self._conf, PREFETCH_BYTES=held // 4)
        self._logger.error(
            "Out of memory with up to %d bytes of messages in hand; going on with a quarter of it. "
            "Lower INBOX['PREFETCH_BYTES'] and ['MAX_BYTES'], or give the process more memory.",
            held,
        )
        return True

    def _step(self, source: Source, until_empty: bool) -> bool:
        """Read what is there, process it; return whether nothing is left and that was asked."""
        if not source.arrived:
            source.read(0.05 if until_empty else self._read_seconds())
            self._outages.passed(BROKER)
        if source.arrived:
            self._process(source)
            return False
        if not until_empty or not source.is_empty():
            return False
        # Nothing was there to read, and nothing is due either.
        if self._take_turn(now=True) or self._retries.put_off:
            return False
        return not Ledger(self._using).resting(self._names())

    def _read_seconds(self) -> float:
        turn = max(0.0, self._next_turn - time.monotonic())
        return min(READ_SECONDS, turn, self._housekeeping.until_turn())

    def _take_turn(self, *, now: bool = False) -> bool:
        """Handle what is due, if it is time to look; return whether anything was."""
        if not now and time.monotonic() < self._next_turn:
            return False
        refresh(self._using)
        with self._idle():
            if not self._has_looked:
                demand_tables(self._using)
            turn = self._retries.turn()
        self._has_looked = True
        self._outages.passed(DATABASE)
        self._next_turn = 0.0 if turn.more else time.monotonic() + TURN_EVERY
        self.progress.add(turn)
        return bool(turn.settled)

    def _tidy(self) -> None:
        """Delete some of what is kept no longer, and note that we are there, if it is time to."""
        if self._housekeeping.due:
            with self._idle():
                self._housekeeping.turn()
        if self._rounds is not None and self._source and self._rounds.due:
            with self._idle():
                self._rounds.turn()
        if self._source and self._bound and time.monotonic() >= self._next_seen:
            self._next_seen = time.monotonic() + SEEN_EVERY
            bindings, plan = self._bound
            with self._idle():
                right = bindings.seen(plan, self._source.contact)
            if not right:
                self._close_source()  # what is to be bound or unbound is when it is opened

    def _note_seen(self) -> None:
        """Note when a source was there last, if it was; it does not matter much if that fails.

        A database that is away is not asked: that could take as long as a connection may.
        """
        away = self._outages.breakers[DATABASE].failures
        if self._source and self._bound and not away:
            bindings, plan = self._bound
            with suppress(Error):
                bindings.seen(plan, self._source.contact)

    def _idle(self) -> AbstractContextManager[None]:
        return self._source.idle() if self._source else nullcontext()

    def _broker_rests(self) -> bool:
        """Wait a little, if it is too early to look for a broker that is away."""
        rest = self._outages.breakers[BROKER].remaining
        if rest <= 0:
            return False
        self._shutdown.wait(min(rest, READ_SECONDS))
        return True

    def _process(self, source: Source) -> None:
        batch = _next_batch(source.arrived, self._pace.size)
        refresh(self._using)
        receiver = Batch(
            [incoming.delivery for incoming in batch],
            using=self._using,
            group=self.group,
            seconds=self._conf.BATCH_SECONDS,
            system=source.system,
        )
        started = time.monotonic()
        with source.idle():
            try:
                results = receiver.receive()
            except LostInHandler:
                self._pace.failed()
                for incoming in batch:
                    # With care from now on: it may be one of them that the database died of.
                    incoming.delivery = replace(incoming.delivery, redelivered=True)
                raise
            except Error:
                self._pace.failed()
                raise
        self._pace.passed(len(results), time.monotonic() - started)
        self._outages.passed(DATABASE)
        self.progress.batches += 1
        self.progress.received += len(results)
        for result in results:
            self.progress.add(result)
        if receiver.woke:
            self._next_turn = 0.0
        # Only now: had the transaction failed, the batch would still be waiting there.
        source.settle(len(results))
        hit("inbox.acked")


def _sentence(exc: SourceAway) -> Sentence:
    """Return what is said of a source that gives nothing."""
    if isinstance(exc, SourceEnded):
        return ENDED_BY_BROKER
    return DENIED if isinstance(exc, SourceDenied) else AWAY


def _next_batch(arrived: Sequence[Incoming], most: int) -> list[Incoming]:
    """Return what comes first; what was delivered before apart, as it is handled a little later."""
    first = arrived[0].delivery.redelivered
    alike = takewhile(lambda each: each.delivery.redelivered is first, arrived)
    return list(islice(alike, most))
