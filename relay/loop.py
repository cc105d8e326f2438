"""The relay: look at the log, move what is there, wait; go on by itself when things return."""

import logging
import random
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from django.db import Error, connections

from outbox.conf import outbox_settings
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
from outbox.error_text import describe, text_of
from outbox.exceptions import OutboxError
from outbox.extensions.pruning import pruners_of
from outbox.guards import guard
from outbox.interrupts import is_interrupt
from outbox.nouns import counted
from outbox.replies.overdue import sweep as sweep_overdue
from outbox.runtime.arguments import check_access
from outbox.runtime.breaker import Breaker
from outbox.runtime.housekeeping import Housekeeping
from outbox.runtime.outages import BROKER, DATABASE, Outages
from outbox.runtime.pace import Pace
from outbox.runtime.shutdown import Shutdown
from outbox.signals import messages_parked, send
from relay.brokers.base import Broker, address_of, close
from relay.conf import RelaySettings
from relay.doorbell import Doorbell
from relay.exceptions import BrokerFailed, MovedDatabase, StaleCursor, UnsoundLog
from relay.isolation import Isolation, tell_failed
from relay.log import Log
from relay.parking.store import Parking
from relay.resending.turns import Resending
from relay.schedule import Schedule
from relay.transfer import Transferred, transfer

logger = logging.getLogger("relay")

FIRST_PAUSE = 0.002
KEEP_ALIVE_EVERY = 1.0
"""Seconds, under load; an idle relay calls its broker more often."""
TURN_SECONDS = 0.5
"""How long pages of one lane are begun before the others get their turn."""
PAGE_SECONDS = 0.5
"""How long a page is sent before what is confirmed of it is checkpointed."""
NACKED_PAGES = 3
"""How often a page that is nacked as a whole is left as it is, before its messages are parked."""


@dataclass(slots=True)
class Progress:
    """What a relay has done so far; the terminal shows it."""

    outages: Outages
    published: int = 0
    parked: int = 0
    pages: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def breakers(self) -> dict[str, Breaker]:
        return self.outages.breakers

    @property
    def broker(self) -> Breaker:
        return self.breakers[BROKER]

    @property
    def database(self) -> Breaker:
        return self.breakers[DATABASE]


class Relay:
    """One reader of the log: all its lanes, side by side with other processes of its name.

    A lane is worked on by one process at a time. The broker or the database away: backs off,
    says so once, tries on for as long as it takes. A refused message is parked, with its key.
    """

    def __init__(
        self,
        log: Log,
        broker: Broker,
        conf: RelaySettings,
        shutdown: Shutdown,
        *,
        page_size: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.log = log
        self.broker = broker
        self.broker.page_seconds = PAGE_SECONDS
        self._clock = clock
        self._outages = Outages(conf.backoff, logger, of=("relay", log.relay))
        self.progress = Progress(self._outages)
        self._parking = Parking(log, conf.patience, conf.HOLD_KEYS)
        self._isolation = Isolation(log.using, log.relay)
        self._has_looked = False  # at the log, without an error
        self._looked_at = 0.0  # for the first time
        self._lanes: dict[int, Breaker] = defaultdict(lambda: Breaker(conf.backoff))
        most = page_size or conf.PAGE_SIZE or broker.page_size
        self._paces: dict[int, Pace] = defaultdict(lambda: Pace(most, PAGE_SECONDS))
        self._fresh_first: dict[int, bool] = defaultdict(lambda: True)
        self._poll_interval = conf.POLL_INTERVAL
        self._shutdown = shutdown
        self._alive_until = 0.0
        self._schedule = Schedule(log.using)
        self._resending = Resending(log.using, log.relay, broker)
        overdue = sweep_overdue()
        self._housekeeping = Housekeeping(
            log.using,
            conf.PRUNE_INTERVAL,
            lambda: [*pruners_of(log.using), overdue],
            logger,
            process="relay",
        )
        self._doorbell = Doorbell(log.using, shutdown, listen=conf.LISTEN)

    def open(self) -> None:
        """Connect to what is there; raise AccessDenied if database or broker do not let us in.

        For the start, when that is a mistake of a setting; later credentials may be rotated.
        """
        guard().relays(self.log.using)
        check_access(self.log.using, "relay")
        try:
            self.broker.open()
        except OutboxError:
            raise
        except BaseException as exc:
            if is_interrupt(exc):
                raise
            self._broker_away(describe(exc))

    def run(self) -> None:
        """Relay until a stop is requested."""
        pause = FIRST_PAUSE
        # Listening starts before the first look, so nothing can commit between the two.
        self._doorbell.connect()
        while not self._shutdown.requested:
            moved = self.sweep()
            self._housekeeping.turn()
            if moved:
                pause = FIRST_PAUSE
                continue
            self._keep_alive()
            own = min(self._schedule.until_due(), self._housekeeping.until_turn())
            rung = self._doorbell.wait(min(pause, self._until_resume(), own))
            pause = FIRST_PAUSE if rung else min(pause * 2, self._poll_interval)

    def run_until_empty(self) -> bool:
        """Relay until nothing is left to publish; False if something stands in the way."""
        self._outages.persistent = False
        while not self._shutdown.requested:
            moved = self.sweep()
            if self.troubled:
                return False
            if not moved:
                self._keep_alive()  # what a broker that runs handlers has to try again
                if not self._busy_lanes():
                    return self._clean()
                self._shutdown.wait(0.01)  # another process holds what is left
        return True

    def run_once(self) -> bool:
        """Look at every lane once and move what is there; False if something stands in the way."""
        self._outages.persistent = False
        self.sweep()
        return self._clean()

    def close(self) -> None:
        self._doorbell.close()
        close(self.broker)

    @property
    def troubled(self) -> bool:
        """Whether the broker or the database is away."""
        return bool(self._outages.away)

    @property
    def turned(self) -> float:
        """When the loop has turned last, by time.monotonic(), to about a second.

        Before it has looked at the log for the first time that is now: after a move to another
        database that look may take many minutes, and must not be begun anew.
        """
        if not self._has_looked:
            return time.monotonic()
        return max(self._looked_at, self._alive_until - KEEP_ALIVE_EVERY)

    @property
    def missing(self) -> str:
        """What it waits for, in a word or two, before it can publish; "" if for nothing."""
        return self._outages.away or ("" if self._has_looked else "starting")

    def _clean(self) -> bool:
        return not self.troubled and not self._parking.open.exists()

    def sweep(self) -> int:
        """Give every lane with work one turn; return how many messages were published."""
        if self._paused():
            return 0
        moved = self._send_again()
        lanes = [lane for lane in self._busy_lanes() if self._lanes[lane].remaining <= 0]
        # At random, so that several processes seldom reach for the same lane.
        random.shuffle(lanes)
        for lane in lanes:
            ends = self._clock() + TURN_SECONDS
            more = True
            while more and self._clock() < ends:
                if self._shutdown.requested or self._paused():
                    return moved
                result = self._transfer(lane)
                if time.monotonic() >= self._alive_until:
                    self._keep_alive()
                moved += result.published + result.parked + result.skipped if result else 0
                more = result is not None and result.more
        return moved

    def _keep_alive(self) -> None:
        """Let the broker do what it has to do now and then, also under load."""
        self._alive_until = time.monotonic() + KEEP_ALIVE_EVERY
        refresh(self.log.using)
        try:
            self.broker.keep_alive()
        except BaseException as exc:
            if is_interrupt(exc):
                raise
            if is_outage(exc):
                self._database_away(exc)
            else:
                self._broker_away(describe(exc))

    def _busy_lanes(self) -> list[int]:
        self.log.hear(self._doorbell.heard())
        try:
            self.log.look()
            self._schedule.deliver()
            lanes = self.log.lanes_with_work(outbox_settings().LANES)
        except (Error, MemoryError) as exc:
            self._database_away(exc)
            return []
        except UnsoundLog as exc:
            self._unsound(exc)
            return []
        if not self._has_looked:
            self._looked_at = time.monotonic()
            self._has_looked = True
        if not lanes:
            self._outages.passed(DATABASE)  # with work to do, only a page that commits tells
        return lanes

    def _transfer(self, lane: int) -> Transferred | None:
        """Move a page of a lane; None if there is nothing more to do in it now."""
        pace, started = self._paces[lane], self._clock()
        self.broker.waited = 0.0
        refresh(self.log.using)
        try:
            result = self._try_transfer(lane, pace.size)
        except (Error, MemoryError) as exc:
            pace.failed()
            self._database_away(exc)
            return None
        except (StaleCursor, MovedDatabase) as exc:
            logger.warning("%s", exc)
            return None
        except BrokerFailed as exc:
            pace.failed()
            self._broker_away(text_of(exc))
            return None
        except UnsoundLog as exc:
            self._unsound(exc)
            return None
        if result is None:
            return None
        self._outages.passed(DATABASE)
        self._count(result)
        if result.outage:
            progress = result.published + result.parked > 0
            if not progress:
                # Never less than before: a page of one message that cannot be sent shows no other.
                pace.held()
            sentence = DENIED if self.broker.denied else AWAY
            self._broker_away(result.outage, sentence, progress=progress)
            return replace(result, more=False)
        self._outages.passed(BROKER)
        if result.nacked:
            # It may be a queue, and other lanes may not know it.
            self._lanes[lane].failed(result.nacked)
            return replace(result, more=False)
        self._lanes[lane].passed()
        pace.passed(result.tried, self._clock() - started - self.broker.waited)
        return result

    def _send_again(self) -> int:
        """Send again what was not acknowledged in time; return how many messages that were."""
        try:
            sent = self._resending.turn()
        except (Error, MemoryError) as exc:
            self._database_away(exc)
            return 0
        except BrokerFailed as exc:
            self._broker_away(text_of(exc))
            return 0
        if self._resending.outage:
            self._broker_away(self._resending.outage)
        return sent

    def _try_transfer(self, lane: int, page_size: int) -> Transferred | None:
        # What is parked and what is fresh take turns, for ever: neither is stuck behind the other.
        fresh_first = self._fresh_first[lane] = not self._fresh_first[lane]

        def attempt() -> Transferred | None:
            return transfer(
                self.log,
                self.broker,
                lane,
                page_size,
                self._parking,
                self._isolation,
                fresh_first=fresh_first,
                patient=self._lanes[lane].failures < NACKED_PAGES,
            )

        try:
            return attempt()
        except BrokerFailed as exc:
            tell_failed(self.broker, exc)
            return attempt()

    def _count(self, result: Transferred) -> None:
        progress = self.progress
        progress.published += result.published
        progress.parked += result.parked
        progress.pages += bool(result.published)
        if result.refusal:
            logger.error(
                "Relay %r parked %s: tried again by itself, while the key waits and all others go "
                "on. The first: %s",
                self.log.relay,
                counted(result.parked, "message"),
                result.refusal,
            )
            about = {"relay": self.log.relay, "count": result.parked, "reason": result.refusal}
            send(messages_parked, type(self), **about)

    def _database_away(self, exc: BaseException) -> None:
        passes = is_outage(exc) or is_out_of_memory(exc)
        if not passes and not (self._has_looked and is_unready(exc)):
            raise exc
        connections[self.log.using].close()
        sentence, reason = told(exc)
        self._outages.failed(DATABASE, reason, f"database {self.log.using!r}", sentence)

    def _broker_away(
        self, reason: str, sentence: Sentence = AWAY, *, progress: bool = False
    ) -> None:
        where = address_of(self.broker)
        self._outages.failed(BROKER, reason, where, sentence, progress=progress)

    def _unsound(self, exc: UnsoundLog) -> None:
        text = f"Relay {self.log.relay!r} publishes nothing. {exc}"
        self._outages.unusable(DATABASE, text)

    def _paused(self) -> bool:
        return self._outages.remaining > 0

    def _until_resume(self) -> float:
        """Return how long to wait at most: until the last pause is over."""
        longest = self._outages.remaining
        return max(0.001, longest) if longest > 0 else self._poll_interval
