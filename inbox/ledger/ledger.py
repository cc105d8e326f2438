"""The inbox's tables on one database: runs the statements of sql, many rows at a time."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, TypeVar

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from inbox.handlers.ordering import Line, LineKey, place_stored, stored_place
from inbox.ledger.rows import Claim, Due, Kept, Noted, Row, Settled, Stored
from inbox.ledger.sql import letters, lines, receipts, stored, turns
from inbox.states import State
from outbox.database.instants import parameter, read
from outbox.database.prepared import large_cursor

LARGE = 256 * 1024
"""Bytes of messages from which on their values travel apart from the statement."""

DEFAULT_SLICE = 5_000
"""Rows of one statement, where the database does not limit parameters."""

Written = TypeVar("Written", Kept, Settled)


class Ledger:
    """Reads and writes receipts within the caller's transaction on the database `using`."""

    def __init__(self, using: str) -> None:
        self.using = using
        self._transaction: str | None = None

    @property
    def _connection(self) -> BaseDatabaseWrapper:
        return connections[self.using]  # the running thread's own

    @property
    def vendor(self) -> str:
        return self._connection.vendor

    def now(self) -> datetime | str:
        """Return the database's time, to compare with."""
        [(now,)] = self.run(receipts.now(self.vendor), [])
        return parameter(read(now), self._connection)

    def claim(self, rows: Sequence[Row]) -> dict[Claim, int]:
        """Insert receipts; return the numbers of those that were not there before."""
        found = self.many(lambda n: receipts.claim(n, self.vendor), rows)
        self._note(found)
        return {(row[0], row[1], row[2]): row[3] for row in found}

    def forget(self, numbers: Sequence[int]) -> None:
        """Take claims back."""
        self.many(receipts.forget, [(each,) for each in numbers], reads=False)

    def committed(self) -> bool:
        """Tell whether the transaction of the last claim, or of the last take, has
        committed. SQLite, for development, does not say.
        """
        if self._transaction is None:
            return False
        [(committed,)] = self.run(receipts.committed(), [self._transaction])
        return bool(committed)

    def keep_result(self, number: int, result: str) -> None:
        """Write what a task has returned."""
        self.run(receipts.keep_result(), [result, number], reads=False)

    def _note(self, found: Sequence[Row]) -> None:
        self._transaction = found[0][-1] if found else None

    def keep(self, rows: Sequence[Kept]) -> None:
        self.many(lambda n: receipts.keep(n, self.vendor), _columns(rows), reads=False)

    def settle(self, rows: Sequence[Settled]) -> None:
        self.many(lambda n: receipts.settle(n, self.vendor), _columns(rows), reads=False)

    def move(self, places: Mapping[int, int]) -> None:
        """Give receipts another place in their lines."""
        for number, place in sorted(places.items()):
            self.run(lines.move(), [stored_place(place), number], reads=False)

    def bury(self, rows: Sequence[Row]) -> None:
        self.many(letters.bury, rows, reads=False)

    # --- What is due -----------------------------------------------------------------------

    def due(self, handlers: Sequence[str], limit: int) -> list[Due]:
        """Return receipts that are due: about `limit` of each handler, with an order and without.

        Those without an order are locked; nobody else is given them before the commit.
        """
        if not handlers:
            return []
        statement = turns.due(len(handlers), self.vendor)
        rows = self.run(statement, [*handlers, limit, *handlers, limit])
        return [Due(*row) for row in rows]

    def ahead(self, key: LineKey, limit: int) -> list[Noted]:
        """Return what is noted of the first receipts of a line."""
        rows = self.run(turns.ahead(self.vendor), [*key, limit])
        return [
            Noted(number, begun, bool(rests), bool(stops)) for number, begun, rests, stops in rows
        ]

    def resting(self, handlers: Sequence[str]) -> bool:
        """Tell whether something is due that somebody has begun with a moment ago."""
        if not handlers:
            return False
        return bool(self.run(turns.resting(len(handlers), self.vendor), handlers))

    def begin(self, numbers: Sequence[int]) -> None:
        """Note that calls begin."""
        self.many(lambda n: turns.begin(n, self.vendor), [(each,) for each in numbers], reads=False)

    def take(self, noted: Mapping[int, int]) -> list[int]:
        """Lock what is noted so, and still due; it is known later whether all this commits."""
        found = self.many(lambda n: turns.take(n, self.vendor), sorted(noted.items()))
        self._note(found or self.run(turns.transaction(self.vendor), []))
        return [number for number, _ in found]

    def unbegin(self, numbers: Sequence[int]) -> None:
        """Take back that calls begin, where none was made."""
        self.many(
            lambda n: turns.unbegin(n, self.vendor), [(each,) for each in numbers], reads=False
        )

    def stored(self, numbers: Sequence[int]) -> list[Stored]:
        if not numbers:
            return []
        statement = stored.stored(len(numbers), self.vendor)
        return [Stored.read(row) for row in self.run(statement, numbers, large=True)]

    def unfinished_since(self, handlers: Sequence[str], since: Any) -> bool:
        """Tell whether any receipt of these handlers has come to be retrying or dead since."""
        if not handlers:
            return False
        return bool(self.run(receipts.unfinished(len(handlers)), [*handlers, since]))

    # --- Lines -------------------------------------------------------------------------------

    def lock(self, keys: Iterable[LineKey]) -> None:
        """Wait for lines until no other consumer is in them; until the commit they are ours.

        Databases with one writer at a time need no lock.
        """
        numbers = sorted({(key.lock(),) for key in keys})
        if self.vendor == "postgresql":
            self.many(lines.lock, numbers)

    def try_lock(self, keys: Iterable[LineKey]) -> set[LineKey]:
        """Lock lines without waiting; return those that are ours until the commit."""
        wanted = set(keys)
        if self.vendor != "postgresql":
            return wanted
        numbers = sorted({(key.lock(),) for key in wanted})
        free = {number for number, locked in self.many(lines.try_lock, numbers) if locked}
        return {key for key in wanted if key.lock() in free}

    def lines(self, keys: Iterable[LineKey]) -> dict[LineKey, Line]:
        """Return lines as they are now."""
        rows = self.many(lambda n: lines.lines(n, self.vendor), sorted(set(keys)))
        return {
            key: Line(
                key,
                State(state) if state else None,
                place_stored(head or 0),
                place_stored(last or 0),
                done,
            )
            for *parts, state, head, last, done in rows
            for key in [LineKey(*parts)]
        }

    def line(self, key: LineKey, limit: int) -> list[Stored]:
        """Return the first receipts of a line in their order; messages as far as they are few."""
        values = [*key, limit]
        return [Stored.read(row) for row in self.run(stored.line(self.vendor), values, large=True)]

    def wake(self, delays: Mapping[LineKey, float]) -> None:
        """Let the heads of lines be due after some seconds, if they wait."""
        rows = sorted((*key, delay) for key, delay in delays.items())
        self.many(lambda n: lines.wake(n, self.vendor), rows, reads=False)

    def overdue(self, key: LineKey, place: int) -> bool:
        """Tell whether something in a line behind a place has waited for as long as it was to."""
        return bool(self.run(lines.overdue(self.vendor), [*key, stored_place(place)]))

    def hush(self, key: LineKey, place: int) -> None:
        """Let what waits in a line from a place on wait for its head alone."""
        self.run(lines.hush(), [*key, stored_place(place)], reads=False)

    def advance(self, found: Iterable[Line]) -> None:
        """Write how far sequences have come."""
        rows = sorted((*each.key, each.done) for each in found if each.touched)
        self.many(lambda n: lines.advance(n, self.vendor), rows, reads=False)

    # --- Running statements ------------------------------------------------------------------

    def many(
        self, statement: Callable[[int], str], rows: Sequence[Row], *, reads: bool = True
    ) -> list[Row]:
        """Run a statement for all rows, in as few slices as the database and memory allow."""
        found: list[Row] = []
        for part in self._slices(rows):
            values = [value for row in part for value in row]
            large = sum(map(_weight, part)) > LARGE
            found += self.run(statement(len(part)), values, reads=reads, large=large)
        return found

    def run(
        self, statement: str, values: Sequence[Any], *, reads: bool = True, large: bool = False
    ) -> list[Row]:
        """Run a statement of sql. `large`: with values, or results, of many bytes."""
        connection = self._connection
        with large_cursor(connection) if large else connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if reads else []

    def _slices(self, rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
        if not rows:
            return
        most = DEFAULT_SLICE
        if limit := self._connection.features.max_query_params:
            most = max(1, limit // len(rows[0]))
        start = held = 0
        for index, row in enumerate(rows):
            weight = _weight(row)
            if index > start and (index - start >= most or held + weight > stored.MESSAGE_BYTES):
                yield rows[start:index]
                start, held = index, 0
            held += weight
        yield rows[start:]


def _columns(rows: Sequence[Written]) -> list[Row]:
    """Return rows by their numbers, so that no two processes write them in another order."""
    return [row.columns() for row in sorted(rows, key=attrgetter("id"))]


def _weight(row: Row) -> int:
    return sum(len(value) for value in row if isinstance(value, str | bytes))
