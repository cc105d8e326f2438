"""The log on PostgreSQL, read by snapshot windows.

A window is the difference of two snapshots: the rows visible in its ceiling and not in its
floor. The next window's floor is this one's ceiling, so every committed row falls into exactly
one window, however long its transaction stayed open. The idea is PgQ's (Marko Kreen, Skype,
2007); positions and pages within a window are ours.

Where to start scanning a window by position: a checkpoint reads the sequence's last value and
only then, by inserting its row, gets a transaction id x. Every id above x was given out after
that, and a row's position is drawn after its transaction's id, so ids above x have only
positions above the value read. A snapshot taken after that checkpoint committed has xmax > x.
So the new transactions of the window above such a snapshot stand above `sequence`. (It is not
enough to read the sequence before the snapshot: xmax is one above the highest *finished* id, so
ids from xmax on may have been at work for long.)

That value was read before the window below, whose rows are then walked over once more. After a
large window there is a better one, from the checkpoint that opened it: new transactions with ids
above its x stand above its `sequence`. Those from the floor's xmax to x were given out before the
first page was checkpointed, so they are few, and where they stand is looked up. (No checkpoint
would be wrong for this, only farther off.)

What is visible may not be on disk yet: with synchronous_commit off, a crash of the server undoes
it. So a ceiling counts only when the server's log is flushed up to where its end was after the
snapshot was taken: commits are written there before they become visible. Mostly something is not
flushed, and be it the commit of the NOTIFY that has woken us. Then an earlier snapshot serves, a
witness, if its end of the log is flushed: NOTIFY brings one from right after the commit that it
tells of, which is on disk where commits are synchronous. It has to see the newest checkpoint, for
what is said above of sequences, and our own snapshot all that it sees: else it is from before a
crash, or made up. If it shows nothing to publish, or there is none, the relay ends its transaction,
has the log flushed, and reads again, with the snapshot that it had for a witness.
All this holds as long as nobody sets the sequence back. Where it was restarted since the cursor was
taken, stands below what was read of it, or where a row was seen below its bound, the whole window
is looked through for its start.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, ClassVar, NamedTuple

from django.db import OperationalError, connections
from django.db.backends.utils import CursorWrapper
from psycopg.types.numeric import Int8

from outbox.database.prepared import bound_cursor, prepared_cursor
from outbox.database.transactions import send
from outbox.message.envelope import Envelope
from outbox.message.kinds import kind_of
from outbox.producer.sql import NOTIFY_BYTES
from relay.exceptions import MovedDatabase
from relay.locks import REBASE_KEY, lock_key
from relay.log.base import Fetched, Log
from relay.log.rebase import is_moved, rebase
from relay.log.soundness import demand_soundness, lanes_astray
from relay.log.window import Page, Window
from relay.snapshots import EMPTY, parse, stragglers
from relay.sql import log as sql

LOOK_EVERY = 60.0
"""Seconds between two looks whether the log is sound; the first is before anything is read."""


class Witness(NamedTuple):
    """A snapshot, and up to where the server's log holds everything that it sees."""

    snapshot: str
    end: int


class Cursor(NamedTuple):
    """How far a relay has come in a lane, and the server in writing: a row of sql.PG_CURSOR.

    `floor` is None if the relay has not started; what follows it is of the newest checkpoint.
    """

    now: str
    system_identifier: int
    moved: bool
    parked: bool
    retries: bool
    end: int
    flushed: int
    checkpoint: int | None
    previous: int | None
    floor: str | None
    ceiling: str
    position: int
    complete: bool
    sequence: int
    window_start: int
    next_start: int
    window_previous: int
    window_count: int
    written_in: int
    bound: int | None
    restarted: bool | None
    planner: str


class Ceiling(NamedTuple):
    """Up to what is read. `taken` is the snapshot at hand, if that is not on disk; then the ceiling
    is an earlier one if it is `witnessed`, else that very snapshot, and what it shows must wait."""

    snapshot: str
    taken: Witness | None = None
    witnessed: bool = False


class PostgreSQLLog(Log):
    """Needs READ COMMITTED: each statement of a page must have a snapshot of its own."""

    large_window: ClassVar[int] = sql.LARGE_WINDOW
    _witness: Witness | None = None
    _witnessed_in: object = None
    """The session in which that came."""
    _positions: int | None = None
    """The oid of the sequence of positions, from acquire() on."""
    _astray: frozenset[int] = frozenset()
    """Lanes in which positions below what was read of them were seen at the last look."""
    _look_at = 0.0

    def hear(self, text: str) -> None:
        end, _, snapshot = text.partition(" ")
        try:
            parse(snapshot)
            high, low = end.split("/")
            witness = Witness(snapshot, (int(high, 16) << 32) + int(low, 16))
        except ValueError:
            return  # from somebody else
        if len(text) < NOTIFY_BYTES:  # else its end may be missing
            self._remember(witness)

    def flush(self) -> None:
        connection = connections[self.using]
        if connection.in_atomic_block:
            return  # it is the caller's, and not for us to commit
        connection.ensure_connection()
        send(connection, sql.PG_FLUSH)

    def lanes_with_work(self, lanes: int) -> list[int]:
        parameters = {
            "relay": self.relay,
            "lanes": lanes,
            "from_beginning": self.start == "beginning",
        }
        self.look()
        busy = self._query(sql.PG_LANES, parameters)
        # Not within a transaction of the caller's, as in a TestCase: a rebase needs its own.
        alone = not connections[self.using].in_atomic_block
        if alone and any(is_moved for _lane, is_moved, _begins in busy):
            if rebase(self.using):
                busy = self._query(sql.PG_LANES, parameters)
        elif alone and any(begins for _lane, _is_moved, begins in busy):
            demand_soundness(self.using)
        return [lane for lane, *_ in busy]

    def look(self) -> None:
        if time.monotonic() >= self._look_at and not connections[self.using].in_atomic_block:
            demand_soundness(self.using)
            self._astray = lanes_astray(self.using, self.relay)
            self._look_at = time.monotonic() + LOOK_EVERY

    def is_moved(self) -> bool:
        return is_moved(self.using)

    def acquire(self, lane: int) -> int | None:
        parameters = {
            "rebase_key": REBASE_KEY,
            "relay_key": lock_key(self.relay),
            "lane": lane,
        }
        [(locked, sequence, self._positions, read_only, *_)] = self._query(
            sql.PG_ACQUIRE, parameters
        )
        if read_only:
            raise OperationalError("the server is read-only: a standby, or set to be so")
        return sequence if locked else None

    def read(self, lane: int, size: int, sequence: int) -> Page:
        cursor = self._look_up(lane)
        ceiling = self._ceiling(cursor)
        window = self._window(lane, sequence, cursor, ceiling.snapshot)
        taken, witnessed = ceiling.taken, ceiling.witnessed
        parameters = {
            "lane": lane,
            "floor": window.floor,
            "ceiling": window.ceiling,
            "window_start": window.start,
            "after": max(window.last, window.start),
            "last": window.last,
            # What is visible and not on disk is not published: one row tells that there is any.
            "size": size if taken is None or witnessed else 1,
            "bytes": self.page_bytes,
        }
        landed = stragglers(window.floor, window.ceiling)
        if landed and window.last < window.start:
            parameters["stragglers"] = f"{{{','.join(map(str, landed))}}}"
            rows = self._query(sql.PG_PAGE_WITH_STRAGGLERS, parameters)
        else:
            rows = self._query(sql.PG_PAGE, parameters)
        # An earlier snapshot that shows nothing says nothing: there may be something since.
        durable = taken is None or bool(rows) is witnessed
        if taken is not None and not durable:
            self._remember(taken)
        return Page(
            window=window,
            messages=[_envelope(row) for row in rows],
            positions=[row[0] for row in rows],
            complete=not (rows and rows[-1][-1]),
            parked=cursor.parked,
            retries=cursor.retries,
            durable=durable,
        )

    def fetch(self, positions: Sequence[int]) -> Fetched:
        parameters: dict[str, Any] = {
            "positions": list(positions),
            "size": len(positions),
            "bytes": self.page_bytes,
        }
        # By Django itself: planned for this many, each time.
        with connections[self.using].cursor() as cursor:
            cursor.execute(sql.PG_FETCH, parameters)
            rows = cursor.fetchall()
        return Fetched({row[0]: _envelope(row) for row in rows}, bool(rows and rows[-1][-1]))

    def _look_up(self, lane: int) -> Cursor:
        """Return how far the relay has come in a lane."""
        parameters = {
            "relay": self.relay,
            "lane": lane,
            "large": self.large_window,
            "positions": self._positions,
        }
        [row] = self._query(sql.PG_CURSOR, parameters)
        return Cursor(*row)

    def _ceiling(self, cursor: Cursor) -> Ceiling:
        """Return up to what a window is read, by what is on disk."""
        if not cursor.complete and cursor.floor is not None:
            return Ceiling(cursor.ceiling)  # the window's own
        if cursor.flushed >= cursor.end or (cursor.floor is None and self.start == "now"):
            return Ceiling(cursor.now)
        taken = Witness(cursor.now, cursor.end)
        witness = self._usable(taken, cursor.flushed, cursor.checkpoint)
        return Ceiling(witness.snapshot if witness else cursor.now, taken, witness is not None)

    def _window(self, lane: int, sequence: int, cursor: Cursor, ceiling: str) -> Window:
        """Return the window to read: the cursor's own while it is incomplete, else the next."""
        window = Window(
            lane=lane,
            previous=cursor.previous or 0,
            before=cursor.previous or 0,
            floor=EMPTY,
            ceiling=ceiling,
            start=0,
            next_start=0,
            sequence=sequence,
            system_identifier=cursor.system_identifier,
        )
        if cursor.floor is None:
            return self._first(window)
        if cursor.moved:
            raise MovedDatabase(
                f"Relay {self.relay!r}, lane {lane}: checkpoint "
                f"{cursor.previous or 'of its start'} was written in database cluster "
                f"{cursor.written_in}, this is cluster {cursor.system_identifier}. The log was "
                "restored or moved, and its transaction ids mean nothing here. Nothing is "
                "published until the cursor is rebased, which the next look at the log does."
            )
        if not cursor.complete:
            return replace(
                window,
                before=cursor.window_previous,
                floor=cursor.floor,
                start=cursor.window_start,
                next_start=cursor.next_start,
                last=cursor.position,
                count=cursor.window_count,
                due=True,
            )
        window = replace(
            window,
            floor=cursor.ceiling,
            start=max(cursor.next_start, cursor.bound or 0),
            next_start=cursor.sequence,
        )
        if cursor.restarted:
            demand_soundness(self.using)
        set_back = sequence < max(cursor.sequence, cursor.next_start)
        if cursor.restarted or set_back or lane in self._astray:
            return self._without_bounds(window)
        return window

    def _first(self, window: Window) -> Window:
        """Return the window of a relay without a checkpoint."""
        if self.start == "beginning":
            return window
        # Empty, and looked behind by the next.
        empty = replace(window, floor=window.ceiling, due=True)
        return empty.counted_as_large(self.large_window)

    def _without_bounds(self, window: Window) -> Window:
        """Return a window that starts right if positions may stand below all that was read."""
        with connections[self.using].cursor() as cursor:
            cursor.execute(sql.PG_DETACH, {"relay": self.relay, "lane": window.lane})
        where = {"lane": window.lane, "floor": window.floor}
        [(lowest,)] = self._query(sql.PG_LOWEST, where)
        bounded = replace(window, start=(lowest or 1) - 1, next_start=0)
        return bounded.counted_as_large(self.large_window)

    def _remember(self, witness: Witness) -> None:
        self._witness, self._witnessed_in = witness, connections[self.using].connection

    def _usable(self, taken: Witness, flushed: int, checkpoint: int | None) -> Witness | None:
        """Return the earlier snapshot, if it may take the place of one that is not on disk."""
        witness = self._witness
        if witness is None or witness.end > flushed:
            return None
        if self._witnessed_in is not connections[self.using].connection:
            return None  # from before a crash, perhaps: ids may have been given out again since
        seen = parse(witness.snapshot)
        if checkpoint is not None and not seen.sees(checkpoint):
            return None
        return witness if parse(taken.snapshot).covers(seen) else None

    def _cursor(self) -> CursorWrapper:
        return prepared_cursor(connections[self.using])

    def _stored(self, value: Any) -> Any:
        # psycopg sends numbers in as few bytes as they need; each size makes another statement.
        return Int8(value) if type(value) is int else value

    def _query(self, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        cursor = prepared_cursor
        if statement in sql.PG_PAGES:
            cursor = bound_cursor
            parameters = {name: self._stored(value) for name, value in parameters.items()}
        with cursor(connections[self.using]) as found:
            found.execute(statement, parameters)
            rows: list[tuple[Any, ...]] = found.fetchall()
            return rows


_CONTENT_TYPE = 1 + Envelope.__struct_fields__.index("content_type")
_KEY = 1 + Envelope.__struct_fields__.index("key")
_SUBJECT = 1 + Envelope.__struct_fields__.index("subject")
_TIME = 1 + Envelope.__struct_fields__.index("time")
assert _TIME == _KEY + 1


def _envelope(row: tuple[Any, ...]) -> Envelope:
    """Return the envelope of a row: position, Envelope's fields in order, whether there is more."""
    key = kind_of(row[_CONTENT_TYPE]).key(row[_KEY], row[_SUBJECT])
    time = row[_TIME]
    time = datetime.combine(time, time.time(), UTC)  # four times as fast as replace()
    attributes = {} if row[-2] == "{}" else json.loads(row[-2])
    return Envelope(*(*row[1:_KEY], key, time, *row[_TIME + 1 : -2], attributes))
