"""The relay: look at the log, move what is there, wait; go on by itself when things return."""

import logging
import random
import time
from dataclasses import dataclass, field

from django.db import InterfaceError, OperationalError, connections

from outbox.conf import outbox_settings
from outbox.retry import Backoff
from outbox.shutdown import Shutdown
from relay.brokers.base import Broker
from relay.conf import RelaySettings
from relay.doorbell import Doorbell
from relay.exceptions import StaleCursor
from relay.log import Log
from relay.policy import Verdict
from relay.transfer import Transferred, transfer

logger = logging.getLogger("relay")

FIRST_PAUSE = 0.002
KEEP_ALIVE_EVERY = 1.0
"""Seconds, under load; an idle relay calls its broker more often."""
PAGES_PER_TURN = 16
"""Pages of one lane before the others get their turn."""


@dataclass(slots=True)
class Trouble:
    """Something that is away, told once, and when to try it again."""

    what: str
    reason: str
    since: float
    attempts: int = 0
    resume_at: float = 0.0


@dataclass(slots=True)
class Progress:
    """What a relay has done so far; the terminal shows it."""

    published: int = 0
    pages: int = 0
    started: float = field(default_factory=time.monotonic)
    trouble: Trouble | None = None
    stopped_lanes: dict[int, Trouble] = field(default_factory=dict)


class Relay:
    """One reader of the log: all its lanes, side by side with other processes of its name.

    A lane is worked on by one process at a time. The broker or the database away: backs off,
    says so once, tries on for as long as it takes. A refused message stops its lane.
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
        self.progress = Progress()
        self._page_size = page_size or conf.PAGE_SIZE or broker.page_size
        self._poll_interval = conf.POLL_INTERVAL
        self._backoff: Backoff = conf.backoff
        self._shutdown = shutdown
        self._alive_until = 0.0
        self._doorbell = Doorbell(log.using, shutdown, listen=conf.LISTEN)

    def run(self) -> None:
        """Relay until a stop is requested."""
        pause = FIRST_PAUSE
        # Listening starts before the first look, so nothing can commit between the two.
        self._doorbell.connect()
        while not self._shutdown.requested:
            moved = self.sweep()
            if moved:
                pause = FIRST_PAUSE
                continue
            self._keep_alive()
            rung = self._doorbell.wait(min(pause, self._until_resume()))
            pause = FIRST_PAUSE if rung else min(pause * 2, self._poll_interval)

    def run_until_empty(self) -> bool:
        """Relay until nothing is left to publish; False if something stands in the way."""
        while not self._shutdown.requested:
            moved = self.sweep()
            if self.troubled:
                return False
            if not moved:
                if not self._busy_lanes():
                    return not self.troubled
                self._shutdown.wait(0.01)  # another process holds what is left
        return True

    def run_once(self) -> bool:
        """Look at every lane once and move what is there; False if something stands in the way."""
        self.sweep()
        return not self.troubled

    def close(self) -> None:
        self._doorbell.close()
        self.broker.close()

    @property
    def troubled(self) -> bool:
        return self.progress.trouble is not None or bool(self.progress.stopped_lanes)

    def sweep(self) -> int:
        """Give every lane with work one turn; return how many messages were published."""
        if self._waiting(self.progress.trouble):
            return 0
        moved = 0
        lanes = [lane for lane in self._busy_lanes() if not self._waiting(self._stopped(lane))]
        # At random, so that several processes seldom reach for the same lane.
        random.shuffle(lanes)
        for lane in lanes:
            for _ in range(PAGES_PER_TURN):
                if self._shutdown.requested or self._waiting(self.progress.trouble):
                    return moved
                result = self._transfer(lane)
                if time.monotonic() >= self._alive_until:
                    self._keep_alive()
                moved += result.published if result else 0
                if result is None or not result.more:
                    break
        return moved

    def _keep_alive(self) -> None:
        """Let the broker do what it has to do now and then, also under load."""
        self._alive_until = time.monotonic() + KEEP_ALIVE_EVERY
        try:
            self.broker.keep_alive()
        except (OperationalError, InterfaceError) as exc:
            self._database_away(exc)

    def _busy_lanes(self) -> list[int]:
        try:
            lanes = self.log.lanes_with_work(outbox_settings().LANES)
        except (OperationalError, InterfaceError) as exc:
            self._database_away(exc)
            return []
        if not lanes:
            self._back(DATABASE)  # with work to do, only a page that commits tells
        return lanes

    def _transfer(self, lane: int) -> Transferred | None:
        """Move a page of a lane; None if there is nothing more to do in it now."""
        try:
            # Behind a refused message one by one, so that its neighbours are not sent each time.
            size = self._page_size if self._stopped(lane) is None else 1
            result = transfer(self.log, self.broker, lane, size)
        except (OperationalError, InterfaceError) as exc:
            self._database_away(exc)
            return None
        except StaleCursor as exc:
            logger.warning("%s", exc)
            return None
        if result is None:
            return None
        self._back(DATABASE)
        self.progress.published += result.published
        self.progress.pages += bool(result.published)
        judgement = result.judgement
        if judgement.verdict is Verdict.OUTAGE:
            self._away(BROKER, judgement.reason)
            return None
        self._back(BROKER)
        if judgement.verdict is Verdict.REFUSED:
            self._stop_lane(lane, result)
            return None if not result.published else Transferred(result.published, False, judgement)
        if result.published:
            self._resume_lane(lane)
        return result

    # --- Trouble: told once, backed off with jitter, told again when it is over --------------

    def _database_away(self, exc: Exception) -> None:
        connection = connections[self.log.using]
        if connection.vendor == "sqlite" and "locked" not in str(exc):
            raise exc  # a file is never away: this is a missing table, a full disk
        connection.close()
        self._away(DATABASE, str(exc).strip())

    def _away(self, what: str, reason: str) -> None:
        trouble = self.progress.trouble
        if trouble is None or trouble.what != what:
            trouble = self.progress.trouble = Trouble(what, reason, time.monotonic())
            where = self.broker.address if what == BROKER else f"database {self.log.using!r}"
            logger.error(
                "The %s is away (%s): %s. Nothing is lost; trying again until it is back.",
                what,
                where,
                reason,
            )
        trouble.reason = reason
        self._postpone(trouble)

    def _back(self, what: str) -> None:
        trouble = self.progress.trouble
        if trouble is not None and trouble.what == what:
            self.progress.trouble = None
            logger.info(
                "The %s is back after %.1f s and %d attempts.",
                what,
                time.monotonic() - trouble.since,
                trouble.attempts,
            )

    def _stop_lane(self, lane: int, result: Transferred) -> None:
        reason = f"message {result.refused_id}: {result.judgement.reason}"
        trouble = self._stopped(lane)
        if trouble is None or trouble.reason != reason:
            trouble = Trouble("lane", reason, time.monotonic())
            self.progress.stopped_lanes[lane] = trouble
            logger.error(
                "Lane %d of relay %r is stopped by a refused message: %s. It is tried again, and "
                "what is behind it in the lane waits; other lanes go on.",
                lane,
                self.log.relay,
                reason,
            )
        self._postpone(trouble)

    def _resume_lane(self, lane: int) -> None:
        if self.progress.stopped_lanes.pop(lane, None) is not None:
            logger.info("Lane %d of relay %r goes on.", lane, self.log.relay)

    def _stopped(self, lane: int) -> Trouble | None:
        return self.progress.stopped_lanes.get(lane)

    def _postpone(self, trouble: Trouble) -> None:
        trouble.resume_at = time.monotonic() + self._backoff.delay(trouble.attempts)
        trouble.attempts += 1

    @staticmethod
    def _waiting(trouble: Trouble | None) -> bool:
        return trouble is not None and time.monotonic() < trouble.resume_at

    def _until_resume(self) -> float:
        troubles = [self.progress.trouble, *self.progress.stopped_lanes.values()]
        now = time.monotonic()
        waits = [trouble.resume_at - now for trouble in troubles if trouble is not None]
        return max(0.001, min([wait for wait in waits if wait > 0], default=self._poll_interval))


BROKER = "broker"
DATABASE = "database"
