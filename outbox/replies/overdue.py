"""Settle requests as expired whose deadline has passed long ago, and of which nobody was told.

The deadline is a message to ourselves. It may be lost: its queue was deleted, say.
"""

import logging
from datetime import datetime, timedelta

from django.db.models import Q

from outbox.extensions.pruning import Pruner
from outbox.models import Request
from outbox.nouns import counted
from outbox.replies.recording import RequestBusy
from outbox.replies.settling import give_up

logger = logging.getLogger("outbox")

MARGIN = timedelta(hours=1)
"""How long after its deadline a request still waits for the message that says so.

Answers may wait in the same queue, before it.
"""
OVERLAP = timedelta(minutes=10)
"""How far before its last round another one begins: transactions commit late."""
AT_ONCE = 100
"""Requests that one transaction settles, at most."""
SWEEP = "housekeeping"
"""Who has settled such a request."""


class Overdue:
    """Settles requests that are long past their deadline: a pruning.Prune, which deletes nothing.

    Returns how many requests it has looked at. The first round goes through all of them, in pages
    by index, another one through those whose time has come since.
    """

    def __init__(self) -> None:
        self._before: datetime | None = None
        self._start: datetime | None = None
        self._place: tuple[datetime, int] | None = None
        self._busy: list[datetime] = []

    def __call__(self, using: str, *, before: datetime, limit: int) -> int:
        self._begin(before)
        settled = 0
        page = self._page(using, before, limit)
        for number, (key, name, deadline, outcome) in enumerate(page, start=1):
            self._place = (deadline, key)
            if outcome is not None:
                continue
            try:
                settled += give_up(str(name), before, using=using, by=SWEEP)
            except RequestBusy:
                self._busy.append(deadline)
            if settled == AT_ONCE and number < len(page):
                self._tell(settled)
                return limit
        self._tell(settled)
        return len(page)

    def _begin(self, before: datetime) -> None:
        """Begin a round, unless it is the one that is under way."""
        if before == self._before:
            return
        if self._before is not None:
            self._start = min([self._before - OVERLAP, *self._busy])
        self._before, self._place, self._busy = before, None, []

    def _page(
        self, using: str, before: datetime, limit: int
    ) -> list[tuple[int, object, datetime, str | None]]:
        rows = Request.objects.using(using).filter(deadline__lt=before)
        if self._place is not None:
            deadline, key = self._place
            later = Q(deadline__gt=deadline) | Q(pk__gt=key)
            rows = rows.filter(later, deadline__gte=deadline)
        elif self._start is not None:
            rows = rows.filter(deadline__gte=self._start)
        found = rows.order_by("deadline", "pk")
        return list(
            found.values_list("pk", "message_id", "deadline", "settlement__outcome")[:limit]
        )

    def _tell(self, settled: int) -> None:
        if settled:
            logger.warning(
                "%s expired by housekeeping: since the deadline %s have passed, and the message "
                "that says so was lost, or is not read. Is there a consumer of this service's own "
                "group?",
                counted(settled, "request is", "requests are"),
                MARGIN,
            )


def sweep() -> Pruner:
    """Return what a process that runs does about overdue requests, beside its pruning."""
    return Pruner(name="overdue requests", prune=Overdue(), window=lambda: MARGIN)
