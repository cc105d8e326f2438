"""Handle what is due: failed messages whose pause is over, and what waited for others.

Any process may do it at any time, turn by turn. What a process may have died of has a turn for
itself, alone in its process; while that cannot be, the others have theirs.
"""

import time
from collections.abc import Callable
from contextlib import suppress

from django.db import Error

from inbox.calling.calls import LostInHandler
from inbox.conf import inbox_settings
from inbox.handlers.ordering import LineKey
from inbox.handlers.registry import handlers
from inbox.ledger.ledger import Ledger
from inbox.ledger.rows import Settlement
from inbox.receiving import instruments, settlement
from inbox.receiving.crash_notes import Begun, Suspects, begin
from inbox.receiving.isolation import isolation
from inbox.receiving.turn import Turn, Work
from outbox.database.failures import is_outage, is_unready
from outbox.database.transactions import own_transaction
from outbox.failpoints import hit
from outbox.runtime.pace import Pace

TURN = 100
"""Handler calls of one turn."""
STUCK_SECONDS = 1.0
"""How long others have their turn when a suspect cannot be called: its line waits for a number."""
CROWDED_SECONDS = 15.0
"""How long others have theirs when it is not alone: another group's handler takes its time."""


class Retries:
    """Takes turns at what is due for a group of handlers, or for all, on a database."""

    def __init__(
        self,
        using: str,
        group: str | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._group = group
        self._ledger = Ledger(using)
        self._noted: set[int] = set()  # as begun, by a turn that failed
        self._pace = Pace(TURN, inbox_settings().BATCH_SECONDS)
        self._stuck: frozenset[LineKey] = frozenset()
        """Lines of suspects that could not be called; others have their turn meanwhile."""
        self._stuck_until = 0.0
        self._crowded_until = 0.0
        self.settlements: list[Settlement] = []
        """What became of the calls of the last turn."""

    @property
    def put_off(self) -> bool:
        """Whether a suspect waits for other groups of this process to come to an end."""
        return self._clock() < self._crowded_until

    def turn(self, *, limit: int = TURN, seconds: float | None = None) -> Turn:
        """Handle some of what is due: note what, then handle it in one transaction.

        It begins no other call after `seconds`, by default INBOX["BATCH_SECONDS"]. One statement
        if nothing is due. Raises a database error that is an outage when the database is away;
        nothing has happened then.
        """
        self.settlements = []
        if seconds is None:
            seconds = inbox_settings().BATCH_SECONDS
        size = min(limit, self._pace.size)
        try:
            return self._turn(size, seconds)
        except LostInHandler:
            # Perhaps by what it did; then it must not take the others along again.
            self._noted = set()
            self._pace.failed()
            raise
        except Error:
            self._pace.failed()
            raise

    def _turn(self, size: int, seconds: float) -> Turn:
        with isolation.shared():
            begun = self._begin(size, Suspects.LEAVE if self.put_off else Suspects.FIND)
            if begun.calls or not begun.suspected:
                return self._handle(begun, seconds)
        with isolation.alone() as alone:
            if alone:
                self._crowded_until = 0.0
                return self._handle(self._begin(size, Suspects.CHOOSE), seconds)
        self._crowded_until = self._clock() + CROWDED_SECONDS
        with isolation.shared():
            return self._handle(self._begin(size, Suspects.LEAVE), seconds)

    def _begin(self, size: int, suspects: Suspects) -> Begun:
        names = [each.name for each in handlers if each.serves(self._group)]
        stuck = self._stuck if self._clock() < self._stuck_until else frozenset()
        take_back = sorted(self._noted)
        begun = begin(self._ledger, names, size, take_back, without=stuck, suspects=suspects)
        self._noted = set(begun.calls)
        return begun

    def _handle(self, begun: Begun, seconds: float) -> Turn:
        if not begun.calls and not begun.lines:
            return Turn()
        started = self._clock()
        work = Work(self._ledger, begun, seconds, self._clock)
        try:
            turn = work.calls.run(work, work.keep)
        except Error as exc:
            # What fails behind a call may come of it: if the process ends now, the note stands.
            if not is_outage(exc) and (is_unready(exc) or not work.calls.tried):
                self._take_back()
            raise
        self._noted = set()
        if begun.suspected and not turn.settled:
            self._stuck = frozenset(begun.lines)
            self._stuck_until = self._clock() + STUCK_SECONDS
            turn.more = begun.more
        self._pace.passed(turn.settled, self._clock() - started)
        if turn.settled:
            hit("inbox.retried")
        self.settlements = work.settlements
        instruments.handled("outbox", work.settlements)
        for settled in work.settlements:
            settlement.tell(settled)
        return turn

    def _take_back(self) -> None:
        """Take back what is noted, as far as possible; the next turn does so as well."""
        with suppress(Error):
            with own_transaction(self._ledger.using, durable=False):
                self._ledger.unbegin(sorted(self._noted))
            self._noted = set()
