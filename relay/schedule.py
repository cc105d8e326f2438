"""When to look for scheduled messages that are due: often enough, and never at readers' cost."""

import math
import time

from outbox.producer import scheduling

LOOK_SECONDS = 0.01
"""Shortest time between two looks."""

SHARE = 0.1
"""How much of a relay's time looking in vain may take, at most."""


class Schedule:
    """Delivers what is due into the log of one database, beside other processes that do the same.

    Looking is cheap, by an index. Behind a transaction that keeps the dead entries of that index
    from being removed it gets slower, so the time spent decides when the next look may be.
    """

    def __init__(self, using: str) -> None:
        self._using = using
        self._look_at = 0.0
        self._due_at = math.inf

    def deliver(self) -> int:
        """Move a batch of what is due into the log, unless it is too early for another look."""
        started = time.monotonic()
        if started < self._look_at:
            return 0
        due, ahead = scheduling.next_due(self._using)
        moved = scheduling.deliver_due(self._using) if due else 0
        ended = time.monotonic()
        # A full batch may have left something, which is due already.
        more = moved >= scheduling.DELIVERED_AT_ONCE
        self._due_at = started if more else math.inf if ahead is None else started + ahead
        pause = LOOK_SECONDS if moved else (ended - started) * (1 / SHARE - 1)
        self._look_at = ended + max(LOOK_SECONDS, pause)
        return moved

    def until_due(self) -> float:
        """Return the seconds until the next message known is due; infinite if there is none."""
        return max(0.001, max(self._due_at, self._look_at) - time.monotonic())
