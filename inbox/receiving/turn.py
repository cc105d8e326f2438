"""Take one turn at what is due: call the handlers, in one transaction, and keep what follows.

Receipts without an order are taken with SKIP LOCKED, lines of ordered handlers by an advisory lock;
neither waits for another process.
"""

import logging
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from inbox.acknowledgements.telling import Acknowledgements
from inbox.calling.calls import Calls
from inbox.conf import inbox_settings
from inbox.delivery import LARGE
from inbox.handlers.ordering import HANDLE, STALE, Line, LineKey, follow, stored_place
from inbox.handlers.registry import Handler, handlers
from inbox.ledger.ledger import Ledger
from inbox.ledger.rows import MessageName, Settled, Settlement, Stored
from inbox.receiving import settlement, steps
from inbox.receiving.crash_notes import Begun
from inbox.receiving.tally import Tally
from inbox.replies import faults, withdrawals
from inbox.states import Reason, State
from outbox.exceptions import UndecodableMessage
from outbox.failpoints import hit
from outbox.message.acknowledgements import TO
from outbox.message.envelope import Envelope
from outbox.message.structured import is_structured

logger = logging.getLogger("inbox")

OVER = (State.PROCESSED, State.SKIPPED, State.DEAD)
"""States in which whoever sent a message may want to be told."""


@dataclass(slots=True)
class Turn(Tally):
    """What became of what was due; `more` if something is due still."""

    more: bool = False


class Work:
    """One turn. May be called again, when the transaction has to start anew."""

    def __init__(
        self, ledger: Ledger, begun: Begun, seconds: float, clock: Callable[[], float]
    ) -> None:
        self.calls = Calls(ledger)
        self._ledger = ledger
        self._begun = begun
        self._limit = begun.limit
        self._open = set(begun.calls)  # noted, and not taken back
        self._seconds = seconds
        self._clock = clock
        # Of transactions that a handler has committed.
        self._noted: list[Settlement] = []
        self._earlier = Turn()

    def __call__(self) -> Turn:
        self.settlements = list(self._noted)
        self._turn = Turn()
        self._turn.add(self._earlier)
        self._settled: list[Settled] = []
        self._faults: list[tuple[Settlement, Envelope]] = []
        self._withdrawn: list[Envelope] = []
        self._acknowledgements = Acknowledgements(self._ledger.using)
        self._advanced: list[Line] = []
        self._places: dict[int, int] = {}
        self._woken: dict[LineKey, float] = {}
        self._deadline = self._clock() + self._seconds
        self._take()
        self.calls.finish()
        if not self.calls.over:
            self._write()
            self._ledger.unbegin(sorted(self._open - {each.id for each in self._settled}))
            if self._settled:
                hit("inbox.retrying")
        return self._turn

    def _write(self) -> None:
        self._ledger.settle(self._settled)
        self._ledger.move(self._places)
        self._ledger.advance(self._advanced)
        self._ledger.wake(self._woken)
        faults.tell(self._faults, self._ledger.using)
        self._turn.more |= withdrawals.apply(self._ledger, self._withdrawn)
        self._acknowledgements.tell()

    def keep(self) -> None:
        """Write what has become of this turn's calls until now; the others are to come."""
        self._write()
        self._noted = self.settlements
        self._earlier = Turn()
        self._earlier.add(self._turn)
        self._open -= {each.id for each in self._settled}

    def _take(self) -> None:
        # What others have taken in the meantime is theirs.
        free = self._ledger.take(self._begun.noted)
        mine = self._ledger.try_lock(self._begun.lines)
        ends = self._ledger.lines(mine)
        work: list[Callable[[], None]] = [partial(self._line, ends[key]) for key in mine]
        # What is too much to read at once is left to the next turn.
        stored = [row for row in self._ledger.stored(free) if not row.beyond]
        self.calls.steps.load(_for_steps(stored))
        rows = iter(stored)
        work += [lambda: self._free(next(rows))] * len(stored)
        random.shuffle(work)  # neither kind holds up the other; without an order, the oldest first
        for piece in work:
            if self._spent():
                break
            piece()
        self._turn.more |= self._begun.more or len(stored) < len(free)
        self._turn.more &= bool(self._settled)  # else others have it all in work

    def _spent(self) -> bool:
        """Tell whether this turn is over, though something is left to do."""
        if self.calls.over:
            return True
        # One is handled in any case: else slow locks could keep a turn from ever doing anything.
        in_time = not self._settled or self._clock() < self._deadline
        if len(self._settled) < self._limit and in_time:
            return False
        self._turn.more = True
        return True

    def _free(self, row: Stored) -> None:
        """Handle a receipt whose handler keeps no order."""
        handler = handlers.get(row.handler)
        assert handler is not None  # or it would not have been asked for
        usable = self._usable(handler, row)
        settled = usable if isinstance(usable, Settlement) else self._attempt(handler, row, *usable)
        self._settle(row, settled)
        if handler.name == withdrawals.NAME and settled.state is State.PROCESSED:
            assert not isinstance(usable, Settlement)
            self._withdrawn.append(usable[1])
        if handler.ordered and row.key and settled.state is State.PROCESSED:
            # It kept no order when this one came in; what came since waits behind it.
            self._woken[LineKey(row.handler, row.source, row.key)] = 0.0

    def _line(self, line: Line) -> None:
        """Handle a line from its head on, as far as it goes."""
        handler = handlers.get(line.key.handler)
        assert handler is not None
        self._advanced.append(line)
        limit = self._limit - len(self._settled) + 1
        rows = self._ledger.line(line.key, limit)
        for index, row in enumerate(rows):
            rest = rows[index:]
            if self._spent():
                self._resume(handler, line, row)
                return
            if row.state is State.DEAD or (row.state is State.RETRYING and not row.is_due):
                self._block(line, rest, limit)
                return
            if row.id not in self._begun.calls or row.beyond:
                # It has come since, or was beyond what a turn can do: not before it is noted.
                self._turn.more = True
                self._resume(handler, line, row)
                return
            settled = self._next(handler, line, row, rest)
            if settled is None:
                return
            self._settle(row, settled)
            if row.id in self._places:
                self._turn.more = True
                self._resume_after_move(handler, line, self._places[row.id], rest[1:])
                return
            if settled.state is State.WAITING:
                return
            if settled.state in (State.RETRYING, State.DEAD):
                self._block(line, rest, limit)
                return

    def _next(
        self, handler: Handler, line: Line, row: Stored, rest: list[Stored]
    ) -> Settlement | None:
        """Handle the head of a line; None if it is waiting for missing numbers, and goes on so."""
        usable = self._usable(handler, row)
        if isinstance(usable, Settlement):
            return usable
        event, envelope = usable
        message = settlement.name_of(envelope)
        decision, sequence = HANDLE, None
        if handler.sequence is not None:
            try:
                sequence = handler.sequence_of(event)
            except UndecodableMessage as exc:
                return settlement.unusable(handler, message, exc, state=row.state)
            except MemoryError as exc:
                state, earlier = row.state, row.attempts
                return settlement.failed(handler, envelope, exc, state=state, earlier=earlier)
            decision = follow(line.done, sequence, handler.sequence_start)
            if decision is STALE:
                return settlement.stale(handler, message, sequence, state=row.state)
            if stored_place(sequence) != stored_place(row.place):
                # It was kept before its number could be read, or a person has changed that.
                self._places[row.id] = sequence
                return settlement.held(handler, message, state=row.state, missing=decision.missing)
        if decision.missing and row.state is State.WAITING and not self._is_over(line, rest):
            if row.has_time:
                return None
            return settlement.held(handler, message, state=row.state, missing=decision.missing)
        settled = self._attempt(handler, row, event, envelope)
        if settled.state is State.PROCESSED:
            line.handled(sequence)
        return settlement.went_on(settled, decision.missing)

    def _is_over(self, line: Line, rest: list[Stored]) -> bool:
        """Tell whether anything in a line has waited for long enough: then nothing before it waits.

        What is behind the rows that were read counts as well.
        """
        read = any(each.is_due and each.state is State.WAITING for each in rest)
        return read or self._ledger.overdue(line.key, rest[-1].place)

    def _usable(self, handler: Handler, row: Stored) -> tuple[Any, Envelope] | Settlement:
        """Return event and envelope of a receipt, or what follows if it cannot be read."""
        died, most = self._begun.calls.get(row.id, 0), inbox_settings().RETRY_CRASHES
        if died >= most and len(row.body or b"") > LARGE:  # it may have been the reading
            state, earlier = row.state, row.attempts
            return settlement.crashed(
                handler, MessageName(row.message_id), died, state=state, earlier=earlier
            )
        return _usable(handler, row)

    def _attempt(self, handler: Handler, row: Stored, event: Any, envelope: Envelope) -> Settlement:
        message = settlement.name_of(envelope)
        if died := self._begun.calls.get(row.id, 0):
            most = inbox_settings().RETRY_CRASHES
            if died >= most:
                return settlement.crashed(
                    handler, message, died, state=row.state, earlier=row.attempts
                )
            logger.warning(
                "Handler %s may have begun with %s when its process ended, or lost the database: "
                "that was in the same turn. It is called again, for this message alone (%d of %d "
                "such ends).",
                handler.name,
                message,
                died,
                most,
            )
        return steps.handle(
            self.calls,
            handler,
            event,
            envelope,
            state=row.state,
            earlier=row.attempts,
            waited=row.waited,
        )

    def _settle(self, row: Stored, settled: Settlement) -> None:
        self._turn.count(settled)
        followed = settled.following(row.attempts, row.last_attempts)
        self._settled.append(Settled(row.id, followed))
        if settled.state in OVER:
            self._note_end(row, settled)
        self.settlements.append(settled)

    def _note_end(self, row: Stored, settled: Settlement) -> None:
        """Keep in mind to tell whoever asked, if it can be told from the message."""
        dead = settled.state is State.DEAD
        if (
            not dead
            and TO not in (row.headers or "").lower()
            and not is_structured(row.content_type)
        ):
            return  # most messages are not read a second time
        if settled.reason is Reason.CRASHED and len(row.body or b"") > LARGE:
            return  # it may have been the reading
        with suppress(UndecodableMessage, MemoryError):
            envelope = row.delivery.decode()
            if dead:
                self._faults.append((settled, envelope))
            self._acknowledgements.add_alone(envelope, settled.handler, settled.state)

    def _resume(self, handler: Handler, line: Line, row: Stored) -> None:
        """Let the head of a line be due, so that the next turn goes on with it."""
        missing = range(0)
        if handler.sequence is not None:
            missing = follow(line.done, row.place, handler.sequence_start).missing
        if row.state is State.WAITING and not (missing and row.has_time):
            self._woken[line.key] = handler.gap_seconds if missing else 0.0

    def _resume_after_move(
        self, handler: Handler, line: Line, place: int, rest: list[Stored]
    ) -> None:
        """Let the head of a line be due, when what was its head has gone to its own place."""
        if rest and rest[0].place < place:
            self._resume(handler, line, rest[0])
        elif not follow(line.done, place, handler.sequence_start).missing:
            self._woken[line.key] = 0.0

    def _block(self, line: Line, rest: list[Stored], limit: int) -> None:
        """Let what is behind a failure wait for that alone."""
        if any(each.has_time for each in rest[1:]) or len(rest) == limit:
            self._ledger.hush(line.key, rest[0].place)


def _for_steps(rows: Iterable[Stored]) -> Iterator[tuple[Handler, Any, Envelope]]:
    """Return what may lead to steps of processes, with its event."""
    for row in rows:
        handler = handlers.get(row.handler)
        if handler is not None and handler.process:
            usable = _usable(handler, row)
            if not isinstance(usable, Settlement):
                yield handler, *usable


def _usable(handler: Handler, row: Stored) -> tuple[Any, Envelope] | Settlement:
    """Return event and envelope of a receipt, or what follows if they do not fit any more."""
    message = MessageName(row.message_id)
    try:
        envelope = row.delivery.decode()
        message = settlement.name_of(envelope)
        if handler.version not in (None, envelope.version) or not handler.takes(envelope):
            raise UndecodableMessage(
                f"handler {handler.name} is not for {envelope.type} v{envelope.version} any more"
            )
    except UndecodableMessage as exc:
        return settlement.unusable(handler, message, exc, state=row.state, earlier=row.attempts)
    try:
        return settlement.read(handler, envelope), envelope
    except UndecodableMessage as exc:
        return settlement.unusable(handler, message, exc, state=row.state, earlier=row.attempts)
    except MemoryError as exc:
        return settlement.failed(handler, envelope, exc, state=row.state, earlier=row.attempts)
