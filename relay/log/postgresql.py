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
"""

import json
from typing import Any

from django.db import OperationalError, connections

from outbox.envelope import Envelope
from relay import sql
from relay.exceptions import MovedDatabase
from relay.locks import REBASE_KEY, lock_key
from relay.log.base import Log, Page
from relay.log.rebase import is_moved, rebase
from relay.snapshots import EMPTY, stragglers

MAX_POSITION = 2**63 - 1


class PostgreSQLLog(Log):
    """Needs READ COMMITTED: each statement of a page must have a snapshot of its own."""

    def lanes_with_work(self, lanes: int) -> list[int]:
        parameters = {
            "relay": self.relay,
            "lanes": lanes,
            "from_beginning": self.start == "beginning",
        }
        busy = self._query(sql.PG_LANES, parameters)
        moved = any(is_moved for _lane, is_moved in busy)
        # Within a transaction of the caller's, as in a TestCase, its own rows look moved.
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
            "limit": size + 1,  # one more, to know whether the window ends here
        }
        landed = stragglers(window["floor"], window["ceiling"])
        if landed and window["last_position"] < window["window_start"]:
            parameters["stragglers"] = f"{{{','.join(map(str, landed))}}}"
            rows = self._query(sql.PG_PAGE_WITH_STRAGGLERS, parameters)
        else:
            rows = self._query(sql.PG_PAGE, parameters)
        kept = rows[:size]
        return Page(
            **window,
            messages=[_envelope(row) for row in kept],
            positions=[row[0] for row in kept],
            complete=len(rows) <= size,
        )

    def _window(self, lane: int, sequence: int) -> dict[str, Any]:
        """Return the window to read: the cursor's own while it is incomplete, else the next."""
        [row] = self._query(sql.PG_CURSOR, {"relay": self.relay, "lane": lane})
        now, system_identifier, moved, previous, *cursor = row
        window: dict[str, Any] = {
            "lane": lane,
            "previous": previous or 0,
            "sequence": sequence,
            "system_identifier": system_identifier,
        }
        if previous is None:
            return window | self._first_window(now)
        (floor, ceiling, position, complete, newest_sequence) = cursor[:5]
        (window_start, next_start, window_count, written_in, lowest) = cursor[5:]
        if moved:
            raise MovedDatabase(
                f"Relay {self.relay!r}, lane {lane}: checkpoint {previous} was written in database "
                f"cluster {written_in}, this is cluster {system_identifier}. The log was restored "
                "or moved, and its transaction ids mean nothing here. Nothing is published until "
                "the cursor is rebased, which the next look at the log does."
            )
        if not complete:
            return window | {
                "floor": floor,
                "ceiling": ceiling,
                "window_start": window_start,
                "next_start": next_start,
                "window_count": window_count,
                "last_position": position,
                "due": True,
            }
        if window_count > sql.LARGE_WINDOW:
            next_start = MAX_POSITION if lowest is None else lowest - 1
        return window | {
            "floor": ceiling,
            "ceiling": now,
            "window_start": next_start,
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
            window |= {"floor": now, "window_count": sql.LARGE_WINDOW + 1, "due": True}
        return window

    def _query(self, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        with connections[self.using].cursor() as cursor:
            cursor.execute(statement, parameters)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            return rows


def _envelope(row: tuple[Any, ...]) -> Envelope:
    attributes = {} if row[-1] == "{}" else json.loads(row[-1])
    return Envelope(*(*row[1:-1], attributes))
