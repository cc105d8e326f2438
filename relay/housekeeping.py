"""Housekeeping in the relay: delete what retention no longer keeps, and hardly be noticed."""

import logging
import math
import random
import time
from collections import deque
from datetime import datetime

from django.db.utils import Error as DatabaseError

from outbox.conf import outbox_settings
from outbox.emitting import write_database
from outbox.retention import BATCH, Pruner, cutoff, prune_batch, pruners

logger = logging.getLogger("relay")

SHARE = 0.1
"""How much of a relay's time housekeeping may take, at most."""


class Housekeeping:
    """Prunes a batch a turn, in rounds `interval` seconds apart; 0 is never.

    Call turn() after every lane had its own. While a round has more to do, turns follow each
    other as SHARE allows. Of several processes one does it at a time.
    """

    def __init__(self, using: str, interval: float) -> None:
        self._using = using
        self._interval = interval or math.inf
        # Not all processes at the same moment, nor while the relay is starting.
        first = random.uniform(0.5, 1) * self._interval  # noqa: S311
        self._next = time.monotonic() + first
        self._before: datetime | None = None
        self._left: deque[Pruner] = deque()

    def turn(self) -> int:
        """Prune one batch, if it is time for one; return how many rows are gone."""
        started = time.monotonic()
        if started < self._next:
            return 0
        try:
            gone = self._batch()
        except DatabaseError as exc:
            logger.warning("Housekeeping is put off: %s", str(exc).strip())
            self._left.clear()
            gone = 0
        ended = time.monotonic()
        pause = (ended - started) * (1 / SHARE - 1) if self._left else self._interval
        self._next = ended + pause
        return gone

    def until_turn(self) -> float:
        """Return the seconds until the round goes on; infinite between rounds."""
        return max(0.001, self._next - time.monotonic()) if self._left else math.inf

    def _batch(self) -> int:
        keep = outbox_settings().retention
        if keep is None:
            self._left.clear()
            return 0
        if not self._left:
            self._left.extend(self._here())
            self._before = cutoff(self._using, keep)
        if not self._left or self._before is None:
            return 0
        gone = prune_batch(
            self._left[0].prune, self._using, before=self._before, limit=BATCH, wait=False
        )
        if gone is None:  # another process is at it
            self._left.clear()
        elif gone < BATCH:
            self._left.popleft()
        return gone or 0

    def _here(self) -> list[Pruner]:
        """Return the pruners of this database: those of the log, and others as the routers say."""
        return [
            each
            for each in pruners()
            if each.database is write_database or each.database() == self._using
        ]
