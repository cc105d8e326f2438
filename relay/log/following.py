"""Follow the log from a bookmark, exactly, without writing anything: for whoever only listens.

The windows are those of the relay (relay.log.postgresql): what one snapshot sees and an earlier one
does not, in the order of positions, so that a transaction that commits late is in a later window,
whatever positions it has. All lanes are read at once. A bookmark is a window with the last position
that was seen of it: nothing is kept here, and any process can go on from it.

Where a window starts is looked up when it is opened, by the index of transaction ids; of a large
one it is the bound that the newest checkpoint of any relay gave when the window before it was
opened, which is as good as the relay's own. A ceiling counts only when the server's log is flushed
up to where it was taken: what a crash undoes must not have been seen, as ids are given out again
after it.
"""

import json
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

from django.db import connections

from relay.exceptions import MovedDatabase
from relay.log.postgresql import PostgreSQLLog
from relay.snapshots import EMPTY, parse, stragglers
from relay.sql import following as sql

MOST_TEXT = 16 * 1024
"""Characters of a bookmark."""
MOST_SIZE = 1024 * 1024
"""Bytes of a bookmark that is unpacked."""
LARGE = 10_000
"""Rows of a window among which its start is looked up."""
NOWHERE = 2**63 - 1
"""Where a window starts that has no rows of new transactions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bookmark:
    """How far somebody has come: in the window of two snapshots, up to the position `last`.

    Without a `ceiling` all is seen that `floor` sees, and the next window is yet to be opened. The
    rows of its new transactions stand above `start`, those of the window after it above `bound`. On
    SQLite there is only `last`. The snapshots are those of the database `cluster`.
    """

    cluster: int
    floor: str
    ceiling: str = ""
    start: int = 0
    last: int = 0
    bound: int = 0

    def __str__(self) -> str:
        values = [self.cluster, self.floor, self.ceiling, self.start, self.last, self.bound]
        packed = zlib.compress(json.dumps(values, separators=(",", ":")).encode())
        return urlsafe_b64encode(packed).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> Self:
        """Return the bookmark that a text stands for; raise ValueError if it stands for none."""
        if len(text) > MOST_TEXT or not text.isascii():
            raise ValueError("too long, or no ASCII")
        packed = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        try:
            values = json.loads(zlib.decompressobj().decompress(packed, MOST_SIZE))
        except (zlib.error, RecursionError) as exc:
            raise ValueError(str(exc)) from exc
        if not isinstance(values, list) or [type(each) for each in values] != [
            *(int, str, str, int, int, int)
        ]:
            raise ValueError("not six values")
        cluster, floor, ceiling, start, last, bound = values
        if not all(0 <= each <= NOWHERE for each in (cluster, start, last, bound)):
            raise ValueError("a number is out of range")
        if bool(cluster) != bool(floor) or (ceiling and not floor):
            raise ValueError("a window without a beginning")
        for each in filter(None, (floor, ceiling)):
            _check(each)
        if ceiling and not parse(ceiling).covers(parse(floor)):
            raise ValueError("a window that ends before it begins")
        return cls(
            cluster=cluster, floor=floor, ceiling=ceiling, start=start, last=last, bound=bound
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """Positions in their order, with the window that they are of, and where to go on."""

    positions: Sequence[int]
    window: Bookmark
    after: Bookmark

    def bookmark(self, position: int) -> Bookmark:
        """Return how far one is who has seen everything up to a position of these."""
        return replace(self.window, last=position)


class Now(NamedTuple):
    """A snapshot with its `bound`, and up to where the server's log is written and flushed."""

    cluster: int
    snapshot: str
    end: int
    flushed: int
    bound: int


class Follower:
    """Reads the log of a database for one listener, page by page. Belongs to one listener."""

    def __init__(self, using: str) -> None:
        self.using = using
        self._taken: Now | None = None
        """What counts as soon as the server's log is flushed up to its end."""

    @property
    def _is_postgresql(self) -> bool:
        return connections[self.using].vendor == "postgresql"

    def beginning(self) -> Bookmark:
        """Return the bookmark of somebody who has seen nothing."""
        if not self._is_postgresql:
            return Bookmark(cluster=0, floor="")
        return Bookmark(cluster=self._now().cluster, floor=EMPTY)

    def now(self) -> Bookmark:
        """Return the bookmark of somebody who wants to see what commits from now on.

        Waits for the disk to have what has committed; within a transaction of the caller's it
        cannot.
        """
        if not self._is_postgresql:
            [(last,)] = self._query(sql.SQLITE_LAST, {})
            return Bookmark(cluster=0, floor="", last=last)
        now = self._now()
        if now.flushed < now.end:
            PostgreSQLLog("", using=self.using).flush()
        return Bookmark(cluster=now.cluster, floor=now.snapshot, bound=now.bound)

    def read(self, mark: Bookmark, size: int) -> Glance:
        """Return what is next for a bookmark, at most `size` positions; raise MovedDatabase."""
        if not self._is_postgresql:
            return self._page(mark, size, sql.SQLITE_PAGE, {"last": mark.last}, mark)
        if mark.ceiling:
            found = self._window(mark, size)
            if found.positions:
                return found
            mark = found.after
        opened = self._open(mark)
        return (
            Glance(positions=(), window=mark, after=mark)
            if opened is None
            else (self._window(opened, size))
        )

    @property
    def hurried(self) -> bool:
        """Whether there may be something that only waits for the disk: look again soon."""
        return self._taken is not None

    def _open(self, mark: Bookmark) -> Bookmark | None:
        """Return the next window; None if there is nothing yet that is certain to stay."""
        now = self._now()
        if now.cluster != mark.cluster:
            raise MovedDatabase(
                f"The bookmark is of database cluster {mark.cluster}, and this is {now.cluster}: "
                "its transaction ids mean nothing here. Begin again."
            )
        flushed = now.flushed
        if flushed < now.end:
            # An earlier one will do, as soon as the disk has what it has seen.
            if self._taken is None:
                self._taken = now
                return None
            now = self._taken
            if flushed < now.end:
                return None
        self._taken = None
        if not parse(now.snapshot).covers(parse(mark.floor)):
            return None  # of a listener that was ahead of this snapshot
        start = self._start(mark)
        return replace(mark, ceiling=now.snapshot, start=start, last=0, bound=now.bound)

    def _start(self, mark: Bookmark) -> int:
        """Return a position at and below which the window of a mark has no new transactions."""
        if mark.floor == EMPTY:
            return 0  # all of the log
        where = {"floor": mark.floor, "large": LARGE}
        [(lowest, count)] = self._query(sql.PG_LOWEST, where)
        if count > LARGE:
            return mark.bound
        return NOWHERE if lowest is None else lowest - 1

    def _window(self, mark: Bookmark, size: int) -> Glance:
        landed = stragglers(mark.floor, mark.ceiling)
        parameters = {
            "floor": mark.floor,
            "ceiling": mark.ceiling,
            "start": mark.start,
            "last": mark.last,
            "after": max(mark.start, mark.last),
            "stragglers": f"{{{','.join(map(str, landed))}}}",
        }
        done = Bookmark(cluster=mark.cluster, floor=mark.ceiling, bound=mark.bound)
        return self._page(mark, size, sql.PG_PAGE, parameters, done)

    def _page(
        self, mark: Bookmark, size: int, statement: str, parameters: dict[str, Any], done: Bookmark
    ) -> Glance:
        found = [row[0] for row in self._query(statement, parameters | {"size": size})]
        positions = found[:size]
        last = replace(mark, last=positions[-1]) if positions else mark
        complete = len(found) <= size and self._is_postgresql
        return Glance(positions=positions, window=mark, after=done if complete else last)

    def _now(self) -> "Now":
        [(cluster, *others)] = self._query(sql.PG_NOW, {})
        # The identifier may come as a number with a sign.
        return Now(int(cluster) % 2**63, *others)

    def _query(self, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        with connections[self.using].cursor() as cursor:
            cursor.execute(statement, parameters)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            return rows


def _check(snapshot: str) -> None:
    """Raise ValueError for what is no snapshot, or has ids that are none."""
    if parse(snapshot).xmax > NOWHERE:
        raise ValueError("an id is out of range")
