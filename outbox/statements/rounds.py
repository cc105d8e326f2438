"""Rounds: what a service that runs does by itself, each group in its time."""

import logging
import time

from django.db.utils import Error as DatabaseError

from outbox.database.clock import database_now
from outbox.database.transactions import own_transaction
from outbox.error_text import text_of
from outbox.exceptions import ConfigurationError
from outbox.failpoints import hit
from outbox.models import Reconciliation
from outbox.producer.writing import write_database
from outbox.statements.conf import peers
from outbox.statements.exchange import run_round
from outbox.statements.sender import locked

logger = logging.getLogger("outbox")

LOOK_EVERY = 1.0
"""Seconds after which a process looks again whether a round is due."""


class Rounds:
    """The rounds of all groups in RECONCILE; call turn() between other work.

    Of several processes one does each: the next is noted in the row of the group, which is locked.
    """

    def __init__(self) -> None:
        self._next = 0.0

    @property
    def due(self) -> bool:
        """Whether it is time to look."""
        return time.monotonic() >= self._next

    def turn(self) -> int:
        """Run the rounds that are due; return how many. What fails is logged, and tried later."""
        self._next = time.monotonic() + LOOK_EVERY
        try:
            wanted = peers()
            if not wanted:
                return 0
            using = write_database()
            return sum(run_if_due(group, using) for group in wanted)
        except (ConfigurationError, DatabaseError) as exc:
            logger.warning("Reconciliation is put off: %s", text_of(exc).strip())
            self._next = time.monotonic() + 60.0
            return 0


def run_if_due(group: str, using: str) -> bool:
    """Run the round of a group if it is time for it."""
    if not _is_due(group, using):
        return False
    with own_transaction(using):
        peer = peers()[group]
        row = locked(group, peer, using)
        if row.asked_at is not None and row.next_at > database_now(using):
            return False  # another process was quicker
        run_round(group, peer, using)
        hit("outbox.stated")
    return True


def _is_due(group: str, using: str) -> bool:
    rows = Reconciliation.objects.using(using).filter(group=group)
    next_at = rows.values_list("next_at", flat=True).first()
    return next_at is None or next_at <= database_now(using)
