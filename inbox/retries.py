"""Handle what is due: failed messages whose pause is over, and what waited for others.

Any process may do it at any time. Receipts without an order are taken with SKIP LOCKED, lines of
ordered handlers by an advisory lock; neither waits for another process.
"""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from inbox import outcomes
from inbox.begun import Begun, begin
from inbox.calls import Calls, LostInHandler
from inbox.conf import inbox_settings
from inbox.ledger import Ledger, Settled, Stored
from inbox.order import HANDLE, STALE, Line, LineKey, follow
from inbox.outcomes import Outcome
from inbox.registry import Handler, handlers
from inbox.states import State
from outbox.envelope import Envelope
from outbox.exceptions import UndecodableMessage
from outbox.failpoints import hit

logger = logging.getLogger("inbox")

TURN = 100
"""Handler calls of one turn."""
TURN_SECONDS = 1.0
"""How long a turn begins new calls, so that fresh messages are not held up."""


@dataclass(slots=True)
class Turn:
    """What became of what was due, in handler calls; `more` if something is due still."""

    handled: int = 0
    retrying: int = 0
    skipped: int = 0
    dead: int = 0
    more: bool = False

    @property
    def settled(self) -> int:
        return self.handled + self.retrying + self.skipped + self.dead


class Retries:
    """Takes turns at what is due for a group of handlers, or for all, on a database."""

    def __init__(self, using: str, group: str | None = None) -> None:
        self._group = group
        self._ledger = Ledger(using)
        self._noted: set[int] = set()  # as begun, by a turn that failed

    def turn(self, *, limit: int = TURN, seconds: float = TURN_SECONDS) -> Turn:
        """Handle some of what is due: note what, then handle it in one transaction.

        One statement if nothing is. Raises a database error that is an outage when the database
        is away; nothing has happened then.
        """
        names = [each.name for each in handlers if self._group in (None, each.group)]
        begun = begin(self._ledger, names, limit, sorted(self._noted))
        self._noted = set(begun.calls)
        if not begun.calls and not begun.lines:
            return Turn()
        work = _Work(self._ledger, Calls(self._ledger), begun, seconds)
        try:
            turn = work.calls.run(work, work.keep)
        except LostInHandler:
            # Perhaps by what it did; then it must not take the others along again.
            self._noted = set()
            raise
        self._noted = set()
        if turn.settled:
            hit("inbox.retried")
        for outcome in work.told:
            outcome.tell()
        return turn


class _Work:
    """One turn. May be called again, when the transaction has to start anew."""

    def __init__(self, ledger: Ledger, calls: Calls, begun: Begun, seconds: float) -> None:
        self.calls = calls
        self._ledger = ledger
        self._begun = begun
        self._limit = begun.limit
        self._open = set(begun.calls)  # noted, and not taken back
        self._seconds = seconds
        # Of transactions that a handler has committed.
        self._noted: list[Outcome] = []
        self._earlier = Turn()

    def __call__(self) -> Turn:
        self.told = list(self._noted)
        self._turn = replace(self._earlier)
        self._settled: list[Settled] = []
        self._moved: list[Line] = []
        self._woken: dict[LineKey, float] = {}
        self._deadline = time.monotonic() + self._seconds
        self._take()
        self.calls.finish()
        if not self.calls.over:
            self._write()
            self._ledger.unbegin(sorted(self._open - {each.id for each in self._settled}))
            if self._settled:
                hit("inbox.retrying")
        return self._turn

    def _write(self) -> None:
        self._ledger.settle(sorted(self._settled))
        self._ledger.advance(self._moved)
        self._ledger.wake(self._woken)

    def keep(self) -> None:
        """Write what has become of this turn's calls until now; the others are to come."""
        self._write()
        self._noted = self.told
        self._earlier = replace(self._turn, more=False)
        self._open -= {each.id for each in self._settled}

    def _take(self) -> None:
        # What others have taken in the meantime is theirs.
        free = self._ledger.take(self._begun.noted)
        mine = self._ledger.try_lock(self._begun.lines)
        ends = self._ledger.lines(mine)
        work: list[Callable[[], None]] = [partial(self._line, ends[key]) for key in mine]
        rows = iter(self._ledger.stored(free))
        work += [lambda: self._free(next(rows))] * len(free)
        random.shuffle(work)  # neither kind holds up the other; without an order, the oldest first
        for piece in work:
            if self._spent():
                break
            piece()
        self._turn.more |= self._begun.more
        self._turn.more &= bool(self._settled)  # else others have it all in work

    def _spent(self) -> bool:
        """Tell whether this turn is over, though something is left to do."""
        if self.calls.over:
            return True
        if len(self._settled) < self._limit and time.monotonic() < self._deadline:
            return False
        self._turn.more = True
        return True

    def _free(self, row: Stored) -> None:
        """Handle a receipt whose handler keeps no order."""
        found = handlers.get(row.handler)
        assert found is not None  # or it would not have been asked for
        usable = _usable(found, row)
        outcome = usable if isinstance(usable, Outcome) else self._attempt(found, row, *usable)
        self._settle(row, outcome)
        if found.ordered and row.key and outcome.state is State.PROCESSED:
            # It kept no order when this one came in; what came since waits behind it.
            self._woken[LineKey(row.handler, row.source, row.key)] = 0.0

    def _line(self, line: Line) -> None:
        """Handle a line from its head on, as far as it goes."""
        found = handlers.get(line.key.handler)
        assert found is not None
        self._moved.append(line)
        limit = self._limit - len(self._settled) + 1
        rows = self._ledger.line(line.key, limit)
        for index, row in enumerate(rows):
            rest = rows[index:]
            if self._spent():
                self._resume(found, line, row)
                return
            if row.state is State.DEAD or (row.state is State.RETRYING and not row.is_due):
                self._block(line, rest, limit)
                return
            if row.id not in self._begun.calls:
                # It has come since, or was beyond what a turn can do: not before it is noted.
                self._turn.more = True
                self._resume(found, line, row)
                return
            outcome = self._next(found, line, row, rest)
            if outcome is None:
                return
            self._settle(row, outcome)
            if outcome.state is State.WAITING:
                return
            if outcome.state in (State.RETRYING, State.DEAD):
                self._block(line, rest, limit)
                return

    def _next(self, found: Handler, line: Line, row: Stored, rest: list[Stored]) -> Outcome | None:
        """Handle the head of a line; None if it is waiting for missing numbers, and goes on so."""
        usable = _usable(found, row)
        if isinstance(usable, Outcome):
            return usable
        event, envelope = usable
        message = outcomes.about(envelope)
        decision, sequence = HANDLE, None
        if found.sequence is not None:
            try:
                sequence = found.sequence_of(event)
            except UndecodableMessage as exc:
                return outcomes.unusable(found, message, exc, state=row.state)
            decision = follow(line.done, sequence, found.sequence_start)
            if decision is STALE:
                return outcomes.stale(found, message, sequence, state=row.state)
        # Once one has waited for long enough, nothing before it in the line waits any longer.
        over = any(each.is_due and each.state is State.WAITING for each in rest)
        if decision.missing and row.state is State.WAITING and not over:
            if row.has_time:
                return None
            return outcomes.held(found, message, state=row.state, missing=decision.missing)
        outcome = self._attempt(found, row, event, envelope)
        if outcome.state is State.PROCESSED:
            line.handled(sequence)
        return outcomes.went_on(outcome, decision.missing)

    def _attempt(self, found: Handler, row: Stored, event: Any, envelope: Envelope) -> Outcome:
        message = outcomes.about(envelope)
        if died := self._begun.calls.get(row.id, 0):
            most = inbox_settings().RETRY_CRASHES
            if died >= most:
                return outcomes.crashed(found, message, died, state=row.state, earlier=row.attempts)
            logger.warning(
                "Handler %s may have begun with %s when its process ended, or lost the database: "
                "that was in the same turn. It is called again, for this message alone (%d of %d "
                "such ends).",
                found.name,
                message,
                died,
                most,
            )
        return outcomes.attempt(
            self.calls, found, event, envelope, state=row.state, earlier=row.attempts
        )

    def _settle(self, row: Stored, outcome: Outcome) -> None:
        turn = self._turn
        turn.handled += outcome.state is State.PROCESSED
        turn.retrying += outcome.state is State.RETRYING
        turn.skipped += outcome.state is State.SKIPPED
        turn.dead += outcome.state is State.DEAD
        self._settled.append(
            Settled(
                row.id,
                outcome.state,
                max(row.attempts, outcome.attempts),
                outcome.delay,
                outcome.reason,
                outcome.error,
            )
        )
        self.told.append(outcome)

    def _resume(self, found: Handler, line: Line, row: Stored) -> None:
        """Let the head of a line be due, so that the next turn goes on with it."""
        missing = range(0)
        if found.sequence is not None:
            missing = follow(line.done, row.place, found.sequence_start).missing
        if row.state is State.WAITING and not (missing and row.has_time):
            self._woken[line.key] = found.gap_seconds if missing else 0.0

    def _block(self, line: Line, rest: list[Stored], limit: int) -> None:
        """Let what is behind a failure wait for that alone."""
        if any(each.has_time for each in rest[1:]) or len(rest) == limit:
            self._ledger.hush(line.key, rest[0].place)


def _usable(found: Handler, row: Stored) -> tuple[Any, Envelope] | Outcome:
    """Return event and envelope of a receipt, or what follows if they do not fit any more."""
    message = row.message_id
    try:
        envelope = row.delivery.decode()
        message = outcomes.about(envelope)
        if found.version not in (None, envelope.version) or not found.wants(envelope.type):
            raise UndecodableMessage(
                f"handler {found.name} is not for {envelope.type} v{envelope.version} any more"
            )
        return outcomes.read(found, envelope), envelope
    except UndecodableMessage as exc:
        return outcomes.unusable(found, message, exc, state=row.state, earlier=row.attempts)
