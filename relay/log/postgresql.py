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
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from django.db import OperationalError, connections
from django.db.backends.utils import CursorWrapper
from psycopg.types.numeric import Int8

from outbox.celery.wire import CONTENT_TYPE
from outbox.envelope import Envelope
from outbox.prepared import bound_cursor, prepared_cursor
from relay import sql
from relay.exceptions import MovedDatabase
from relay.locks import REBASE_KEY, lock_key
from relay.log.base import Fetched, Log, Page
from relay.log.rebase import is_moved, rebase
from relay.snapshots import EMPTY, stragglers


class PostgreSQLLog(Log):
    """Needs READ COMMITTED: each statement of a page must have a snapshot of its own."""

    large_window: ClassVar[int] = sql.LARGE_WINDOW

    def lanes_with_work(self, lanes: int) -> list[int]:
        parameters = {
            "relay": self.relay,
            "lanes": lanes,
            "from_beginning": self.start == "beginning",
        }
        busy = self._query(sql.PG_LANES, parameters)
        moved = any(is_moved for _lane, is_moved in busy)
        # Not within a transaction of the caller's, as in a TestCase: a rebase needs its own.
        if moved and not connections[self.using].in_atomic_block and rebase(self.using):
            busy = self._query(sql.PG_LANES, parameters)
        return [lane for lane, _moved in busy]

    def is_moved(self) -> bool:
        return is_moved(self.using)

    def acquire(self, lane: int) -> int | None:
        parameters = {
            "rebase_key": REBASE_KEY,
            "relay_key": lock_key(self.relay),
            "lane": lane,
        }
        [(locked, sequence, read_only, *_)] = self._query(sql.PG_ACQUIRE, parameters)
        if read_only:
            raise OperationalError("the server is read-only: a standby, or set to be so")
        return sequence if locked else None

    def read(self, lane: int, size: int, sequence: int) -> Page:
        window = self._window(lane, sequence)
        parameters = window | {
            "after": max(window["last_position"], window["window_start"]),
            "last": window["last_position"],
            "size": size,
            "bytes": self.page_bytes,
        }
        landed = stragglers(window["floor"], window["ceiling"])
        if landed and window["last_position"] < window["window_start"]:
            parameters["stragglers"] = f"{{{','.join(map(str, landed))}}}"
            rows = self._query(sql.PG_PAGE_WITH_STRAGGLERS, parameters)
        else:
            rows = self._query(sql.PG_PAGE, parameters)
        return Page(
            **window,
            messages=[_envelope(row) for row in rows],
            positions=[row[0] for row in rows],
            complete=not (rows and rows[-1][-1]),
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

    def _window(self, lane: int, sequence: int) -> dict[str, Any]:
        """Return the window to read: the cursor's own while it is incomplete, else the next."""
        parameters = {"relay": self.relay, "lane": lane, "large": self.large_window}
        [row] = self._query(sql.PG_CURSOR, parameters)
        now, system_identifier, moved, parked, retries, previous, floor, *cursor = row
        window: dict[str, Any] = {
            "lane": lane,
            "previous": previous or 0,
            "window_previous": previous or 0,
            "sequence": sequence,
            "system_identifier": system_identifier,
            "parked": parked,
            "retries": retries,
        }
        if floor is None:
            return window | self._first_window(now)
        (ceiling, position, complete, newest_sequence) = cursor[:4]
        (window_start, next_start, window_previous, window_count, written_in, bound) = cursor[4:10]
        if moved:
            raise MovedDatabase(
                f"Relay {self.relay!r}, lane {lane}: checkpoint {previous or 'of its start'} was "
                f"written in database cluster {written_in}, this is cluster {system_identifier}. "
                "The log was restored or moved, and its transaction ids mean nothing here. "
                "Nothing is published until the cursor is rebased, which the next look at the log "
                "does."
            )
        if not complete:
            return window | {
                "floor": floor,
                "ceiling": ceiling,
                "window_start": window_start,
                "next_start": next_start,
                "window_previous": window_previous,
                "window_count": window_count,
                "last_position": position,
                "due": True,
            }
        return window | {
            "floor": ceiling,
            "ceiling": now,
            "window_start": max(next_start, bound or 0),
            "next_start": newest_sequence,
            "window_count": 0,
            "last_position": 0,
        }

    def _first_window(self, now: str) -> dict[str, Any]:
        """Return the window of a relay without a checkpoint."""
        window = {
            "floor": EMPTY,
            "ceiling": now,
            "window_start": 0,
            "next_start": 0,
            "window_count": 0,
            "last_position": 0,
        }
        if self.start == "now":
            # Empty, and counted as large, so that the next window looks for its own start.
            window |= {"floor": now, "window_count": self.large_window + 1, "due": True}
        return window

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
_TIME = 1 + Envelope.__struct_fields__.index("time")
assert _TIME == _KEY + 1


def _envelope(row: tuple[Any, ...]) -> Envelope:
    """Return the envelope of a row: position, Envelope's fields in order, whether there is more."""
    # That of a task is for people: no task waits for another.
    key = row[_KEY] if row[_CONTENT_TYPE] != CONTENT_TYPE else None
    time = row[_TIME]
    time = datetime.combine(time, time.time(), UTC)  # four times as fast as replace()
    attributes = {} if row[-2] == "{}" else json.loads(row[-2])
    return Envelope(*(*row[1:_KEY], key, time, *row[_TIME + 1 : -2], attributes))
