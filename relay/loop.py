"""The relay: look at the log, move what is there, wait; go on by itself when things return."""

import logging
import random
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace

from django.db import Error, connections

from outbox.commands import check_access
from outbox.conf import outbox_settings
from outbox.outages import AWAY, DENIED, is_outage, refusal
from outbox.shutdown import Shutdown
from relay.breaker import Breaker
from relay.brokers.base import Broker
from relay.conf import RelaySettings
from relay.doorbell import Doorbell
from relay.exceptions import MovedDatabase, StaleCursor
from relay.housekeeping import housekeeping
from relay.log import Log
from relay.parking import Parking
from relay.schedule import Schedule
from relay.transfer import Transferred, transfer

logger = logging.getLogger("relay")

FIRST_PAUSE = 0.002
KEEP_ALIVE_EVERY = 1.0
"""Seconds, under load; an idle relay calls its broker more often."""
PAGES_PER_TURN = 16
"""Pages of one lane before the others get their turn."""
NACKED_PAGES = 3
"""How often a page that is nacked as a whole is left as it is, before its messages are parked."""


@dataclass(slots=True)
class Progress:
    """What a relay has done so far; the terminal shows it."""

    broker: Breaker
    database: Breaker
    published: int = 0
    parked: int = 0
    pages: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def breakers(self) -> dict[str, Breaker]:
        return {BROKER: self.broker, DATABASE: self.database}


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
    ) -> None:
        self.log = log
        self.broker = broker
        self.progress = Progress(Breaker(conf.backoff), Breaker(conf.backoff))
        self._parking = Parking(log, conf.patience, conf.HOLD_KEYS)
        self._denied: set[str] = set()
        self._lanes: dict[int, Breaker] = defaultdict(lambda: Breaker(conf.backoff))
        self._page_size = page_size or conf.PAGE_SIZE or broker.page_size
        self._poll_interval = conf.POLL_INTERVAL
        self._shutdown = shutdown
        self._alive_until = 0.0
        self._schedule = Schedule(log.using)
        self._housekeeping = housekeeping(log.using, conf.PRUNE_INTERVAL)
        self._doorbell = Doorbell(log.using, shutdown, listen=conf.LISTEN)

    def open(self) -> None:
        """Connect to what is there; raise AccessDenied if database or broker do not let us in.

        For the start, when that is a mistake of a setting; later credentials may be rotated.
        """
        check_access(self.log.using)
        self.broker.open()

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
        while not self._shutdown.requested:
            moved = self.sweep()
            if self.troubled:
                return False
            if not moved:
                if not self._busy_lanes():
                    return self._clean()
                self._shutdown.wait(0.01)  # another process holds what is left
        return True

    def run_once(self) -> bool:
        """Look at every lane once and move what is there; False if something stands in the way."""
        self.sweep()
        return self._clean()

    def close(self) -> None:
        self._doorbell.close()
        self.broker.close()

    @property
    def troubled(self) -> bool:
        """Whether the broker or the database is away."""
        return any(breaker.failures for breaker in self.progress.breakers.values())

    def _clean(self) -> bool:
        return not self.troubled and not self._parking.open.exists()

    def sweep(self) -> int:
        """Give every lane with work one turn; return how many messages were published."""
        if self._paused():
            return 0
        moved = 0
        lanes = [lane for lane in self._busy_lanes() if self._lanes[lane].remaining <= 0]
        # At random, so that several processes seldom reach for the same lane.
        random.shuffle(lanes)
        for lane in lanes:
            for turn in range(PAGES_PER_TURN):
                if self._shutdown.requested or self._paused():
                    return moved
                result = self._transfer(lane, fresh_first=bool(turn % 2))
                if time.monotonic() >= self._alive_until:
                    self._keep_alive()
                moved += result.published + result.parked + result.skipped if result else 0
                if result is None or not result.more:
                    break
        return moved

    def _keep_alive(self) -> None:
        """Let the broker do what it has to do now and then, also under load."""
        self._alive_until = time.monotonic() + KEEP_ALIVE_EVERY
        try:
            self.broker.keep_alive()
        except Error as exc:
            self._database_away(exc)

    def _busy_lanes(self) -> list[int]:
        try:
            self._schedule.deliver()
            lanes = self.log.lanes_with_work(outbox_settings().LANES)
        except Error as exc:
            self._database_away(exc)
            return []
        if not lanes:
            self._back(DATABASE)  # with work to do, only a page that commits tells
        return lanes

    def _transfer(self, lane: int, *, fresh_first: bool) -> Transferred | None:
        """Move a page of a lane; None if there is nothing more to do in it now."""
        try:
            result = transfer(
                self.log,
                self.broker,
                lane,
                self._page_size,
                self._parking,
                fresh_first=fresh_first,
                patient=self._lanes[lane].failures < NACKED_PAGES,
            )
        except Error as exc:
            self._database_away(exc)
            return None
        except (StaleCursor, MovedDatabase) as exc:
            logger.warning("%s", exc)
            return None
        if result is None:
            return None
        self._back(DATABASE)
        self._count(result)
        if result.outage:
            where = self.broker.address
            progress = result.published > 0
            denied = self.broker.denied
            self._away(BROKER, result.outage, where, progress=progress, denied=denied)
            return replace(result, more=False)
        self._back(BROKER)
        if result.nacked:
            # It may be a queue, and other lanes may not know it.
            self._lanes[lane].failed(result.nacked)
            return replace(result, more=False)
        self._lanes[lane].passed()
        return result

    def _count(self, result: Transferred) -> None:
        progress = self.progress
        progress.published += result.published
        progress.parked += result.parked
        progress.pages += bool(result.published)
        if result.refusal:
            logger.error(
                "Relay %r parked %d messages; it tries them again, their keys wait, others go on. "
                "The first: %s",
                self.log.relay,
                result.parked,
                result.refusal,
            )

    # --- Outages: told once, backed off with jitter, told again when they are over -----------

    def _database_away(self, exc: Error) -> None:
        if not is_outage(exc):
            raise exc
        connections[self.log.using].close()
        refused = refusal(exc)
        reason = refused or str(exc).strip()
        self._away(DATABASE, reason, f"database {self.log.using!r}", denied=bool(refused))

    def _away(
        self, what: str, reason: str, where: str, *, progress: bool = False, denied: bool = False
    ) -> None:
        first = self.progress.breakers[what].failed(reason, progress=progress)
        # Told again when it is there again and does not let us in: that may need a person.
        if first or (what in self._denied) is not denied:
            logger.error(DENIED if denied else AWAY, what, where, reason)
        (self._denied.add if denied else self._denied.discard)(what)

    def _back(self, what: str) -> None:
        breaker = self.progress.breakers[what]
        if breaker.failures:
            logger.info(
                "The %s is back after %.1f s and %d attempts.",
                what,
                breaker.lasted,
                breaker.failures,
            )
            breaker.passed()
            self._denied.discard(what)

    def _paused(self) -> bool:
        return any(each.remaining > 0 for each in self.progress.breakers.values())

    def _until_resume(self) -> float:
        """Return how long to wait at most: until the last pause is over."""
        longest = max(each.remaining for each in self.progress.breakers.values())
        return max(0.001, longest) if longest > 0 else self._poll_interval


BROKER = "broker"
DATABASE = "database"
