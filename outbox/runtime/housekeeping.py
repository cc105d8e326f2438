"""Housekeeping of a process that runs: delete what is kept no longer, and hardly be noticed."""

import logging
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime

from django.db.utils import Error as DatabaseError

from outbox.database.privileges import concerns, is_denied
from outbox.error_text import text_of
from outbox.extensions.pruning import BATCH, Pruner, cutoff, prune_batch
from outbox.runtime.outages import Logger

SHARE = 0.1
"""How much of a process's time housekeeping may take, at most."""


class Housekeeping:
    """Prunes a batch a turn, in rounds `interval` seconds apart; 0 is never.

    `process` is the kind of process, as rights go: what such a one need not be able to delete, it
    leaves to others without a warning.

    `pruners` says at the beginning of a round whose rows; those whose window is None are left
    out. Call turn() between other work. While a round has more to do, turns follow each other
    as SHARE allows. Of several processes one does it at a time.
    """

    def __init__(
        self,
        using: str,
        interval: float,
        pruners: Callable[[], Iterable[Pruner]],
        logger: Logger,
        process: str = "",
    ) -> None:
        self._using = using
        self._process = process
        self._pruners = pruners
        self._logger = logger
        self._interval = interval or math.inf
        # Not all processes at the same moment, nor while they are starting.
        first = random.uniform(0.5, 1) * self._interval  # noqa: S311
        self._next = time.monotonic() + first
        self._left: deque[tuple[Pruner, datetime]] = deque()
        self._denied: set[str] = set()

    @property
    def due(self) -> bool:
        """Whether it is time for a turn."""
        return time.monotonic() >= self._next

    def turn(self) -> int:
        """Prune one batch, if it is time for one; return how many rows are gone."""
        started = time.monotonic()
        if started < self._next:
            return 0
        try:
            gone = self._batch()
        except DatabaseError as exc:
            gone = 0
            if self._left and is_denied(exc):
                self._leave_to_others(self._left.popleft()[0], exc)
            else:
                self._logger.warning("Housekeeping is put off: %s", text_of(exc).strip())
                self._left.clear()
        ended = time.monotonic()
        pause = (ended - started) * (1 / SHARE - 1) if self._left else self._interval
        self._next = ended + pause
        return gone

    def _leave_to_others(self, pruner: Pruner, exc: DatabaseError) -> None:
        """Say once that we may not delete some kind of row; the others are deleted all the same."""
        if pruner.name not in self._denied:
            self._denied.add(pruner.name)
            ours = not self._process or concerns(exc, self._process)
            self._logger.log(
                logging.WARNING if ours else logging.INFO,
                "We may not delete old %s, and leave that to others: %s",
                pruner.name,
                text_of(exc).strip(),
            )

    def until_turn(self) -> float:
        """Return the seconds until the round goes on; infinite between rounds."""
        return max(0.001, self._next - time.monotonic()) if self._left else math.inf

    def _batch(self) -> int:
        if not self._left:
            self._left.extend(self._round())
        if not self._left:
            return 0
        pruner, before = self._left[0]
        gone = prune_batch(pruner.prune, self._using, before=before, limit=BATCH, wait=False)
        if gone is None:  # another process is at it
            self._left.clear()
        elif gone < BATCH:
            self._left.popleft()
        return gone or 0

    def _round(self) -> list[tuple[Pruner, datetime]]:
        kept = [(each, each.window()) for each in self._pruners()]
        return [(each, cutoff(self._using, window)) for each, window in kept if window is not None]
