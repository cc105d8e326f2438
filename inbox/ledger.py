"""The inbox's tables on one database: runs the statements of inbox/sql.py, many rows at a time."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from inbox import sql
from inbox.delivery import Delivery
from inbox.order import Line, LineKey, place_stored, stored_place
from inbox.states import State

Row = tuple[Any, ...]
Claim = tuple[str, str, str]
"""message id, handler, source: what a receipt is unique by."""

MAX_BYTES = 8 * 1024 * 1024
"""Of messages in one statement, so that a batch of large ones does not become one huge text."""
DEFAULT_SLICE = 5_000
"""Rows of one statement, where the database does not limit parameters."""


class Kept(NamedTuple):
    """What is written of a message that is not processed: the columns of sql.KEPT_COLUMNS."""

    id: int
    state: State
    attempts: int = 0
    delay: float | None = None
    reason: str | None = None
    error: str | None = None
    key: str | None = None
    place: int = 0
    topic: str | None = None
    content_type: str | None = None
    headers: str | None = None
    body: bytes | None = None


class Settled(NamedTuple):
    """What became of a receipt that was due: the columns of sql.SETTLED_COLUMNS."""

    id: int
    state: State
    attempts: int
    delay: float | None = None
    reason: str | None = None
    error: str | None = None


class Due(NamedTuple):
    """A receipt that is due, without its message. A place of 0 means that it is locked."""

    id: int
    handler: str
    source: str
    key: str | None
    place: int
    begun: int

    @property
    def line(self) -> LineKey | None:
        return LineKey(self.handler, self.source, self.key or "") if self.place else None


class Noted(NamedTuple):
    """How many calls for a receipt have begun and not ended; whether one did a moment ago.

    One that `stops` holds up its line.
    """

    id: int
    begun: int
    rests: bool
    stops: bool


class Stored(NamedTuple):
    """A receipt with its message, as the database has it."""

    id: int
    handler: str
    source: str
    key: str | None
    place: int
    message_id: str
    state: State
    attempts: int
    has_time: bool
    is_due: bool
    topic: str | None
    content_type: str | None
    headers: str | None
    body: bytes | None

    @property
    def delivery(self) -> Delivery:
        return Delivery.from_stored(self.headers, self.body, self.content_type, self.topic)


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

    def now(self) -> Any:
        """Return the database's time, to compare with."""
        [(now,)] = self.run(sql.now(self.vendor), [])
        return now

    def claim(self, rows: Sequence[Row]) -> dict[Claim, int]:
        """Insert receipts; return the numbers of those that were not there before."""
        found = self._many(lambda n: sql.claim(n, self.vendor), rows)
        self._note(found)
        return {(row[0], row[1], row[2]): row[3] for row in found}

    def forget(self, numbers: Sequence[int]) -> None:
        """Take claims back."""
        self._many(sql.forget, [(each,) for each in numbers], reads=False)

    def committed(self) -> bool:
        """Tell whether the transaction of the last claim, or of the last take, has
        committed. SQLite, for development, does not say.
        """
        if self._transaction is None:
            return False
        [(committed,)] = self.run(sql.committed(), [self._transaction])
        return bool(committed)

    def keep_result(self, number: int, result: str) -> None:
        """Write what a task has returned."""
        self.run(sql.keep_result(), [result, number], reads=False)

    def _note(self, found: Sequence[Row]) -> None:
        self._transaction = found[0][-1] if found else None

    def keep(self, rows: Sequence[Kept]) -> None:
        self._many(lambda n: sql.keep(n, self.vendor), rows, reads=False)

    def settle(self, rows: Sequence[Settled]) -> None:
        self._many(lambda n: sql.settle(n, self.vendor), rows, reads=False)

    def bury(self, rows: Sequence[Row]) -> None:
        self._many(sql.bury, rows, reads=False)

    # --- What is due -----------------------------------------------------------------------

    def due(self, handlers: Sequence[str], limit: int) -> list[Due]:
        """Return receipts that are due: about `limit` of each handler, with an order and without.

        Those without an order are locked; nobody else is given them before the commit.
        """
        if not handlers:
            return []
        statement = sql.due(len(handlers), self.vendor)
        rows = self.run(statement, [*handlers, limit, *handlers, limit])
        return [Due(*row) for row in rows]

    def ahead(self, key: LineKey, limit: int) -> list[Noted]:
        """Return what is noted of the first receipts of a line."""
        rows = self.run(sql.ahead(self.vendor), [*key, limit])
        return [
            Noted(number, begun, bool(rests), bool(stops)) for number, begun, rests, stops in rows
        ]

    def resting(self, handlers: Sequence[str]) -> bool:
        """Tell whether something is due that somebody has begun with a moment ago."""
        if not handlers:
            return False
        return bool(self.run(sql.resting(len(handlers), self.vendor), handlers))

    def begin(self, numbers: Sequence[int]) -> None:
        """Note that calls begin."""
        self._many(lambda n: sql.begin(n, self.vendor), [(each,) for each in numbers], reads=False)

    def take(self, noted: Mapping[int, int]) -> list[int]:
        """Lock what is noted so, and still due; it is known later whether all this commits."""
        found = self._many(lambda n: sql.take(n, self.vendor), sorted(noted.items()))
        self._note(found or self.run(sql.transaction(self.vendor), []))
        return [number for number, _ in found]

    def unbegin(self, numbers: Sequence[int]) -> None:
        """Take back that calls begin, where none was made."""
        self._many(
            lambda n: sql.unbegin(n, self.vendor), [(each,) for each in numbers], reads=False
        )

    def stored(self, numbers: Sequence[int]) -> list[Stored]:
        found = self._many(lambda n: sql.stored(n, self.vendor), [(each,) for each in numbers])
        return [_stored(row) for row in found]

    def unfinished_since(self, handlers: Sequence[str], since: Any) -> bool:
        """Tell whether any receipt of these handlers has come to be retrying or dead since."""
        if not handlers:
            return False
        return bool(self.run(sql.unfinished(len(handlers)), [*handlers, since]))

    # --- Lines -------------------------------------------------------------------------------

    def lock(self, keys: Iterable[LineKey]) -> None:
        """Wait for lines until no other consumer is in them; until the commit they are ours.

        Databases with one writer at a time need no lock.
        """
        numbers = sorted({(key.lock(),) for key in keys})
        if self.vendor == "postgresql":
            self._many(sql.lock, numbers)

    def try_lock(self, keys: Iterable[LineKey]) -> set[LineKey]:
        """Lock lines without waiting; return those that are ours until the commit."""
        wanted = set(keys)
        if self.vendor != "postgresql":
            return wanted
        numbers = sorted({(key.lock(),) for key in wanted})
        free = {number for number, locked in self._many(sql.try_lock, numbers) if locked}
        return {key for key in wanted if key.lock() in free}

    def lines(self, keys: Iterable[LineKey]) -> dict[LineKey, Line]:
        """Return lines as they are now."""
        rows = self._many(lambda n: sql.lines(n, self.vendor), sorted(set(keys)))
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
        """Return the first receipts of a line in their order."""
        return [_stored(row) for row in self.run(sql.line(self.vendor), [*key, limit])]

    def wake(self, delays: Mapping[LineKey, float]) -> None:
        """Let the heads of lines be due after some seconds, if they wait."""
        rows = sorted((*key, delay) for key, delay in delays.items())
        self._many(lambda n: sql.wake(n, self.vendor), rows, reads=False)

    def hush(self, key: LineKey, place: int) -> None:
        """Let what waits in a line from a place on wait for its head alone."""
        self.run(sql.hush(), [*key, stored_place(place)], reads=False)

    def advance(self, found: Iterable[Line]) -> None:
        """Write how far sequences have come."""
        rows = sorted((*each.key, each.done) for each in found if each.touched)
        self._many(lambda n: sql.advance(n, self.vendor), rows, reads=False)

    # --- Running statements ------------------------------------------------------------------

    def _many(
        self, statement: Callable[[int], str], rows: Sequence[Row], *, reads: bool = True
    ) -> list[Row]:
        """Run a statement for all rows, in as few slices as the database and memory allow."""
        found: list[Row] = []
        for part in self._slices(rows):
            values = [value for row in part for value in row]
            found += self.run(statement(len(part)), values, reads=reads)
        return found

    def run(self, statement: str, values: Sequence[Any], *, reads: bool = True) -> list[Row]:
        """Run a statement of inbox/sql.py."""
        with self._connection.cursor() as cursor:
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
            weight = sum(len(value) for value in row if isinstance(value, str | bytes))
            if index > start and (index - start >= most or held + weight > MAX_BYTES):
                yield rows[start:index]
                start, held = index, 0
            held += weight
        yield rows[start:]


def _stored(row: Row) -> Stored:
    found = Stored(*row)
    body = bytes(found.body) if found.body is not None else None
    return found._replace(
        state=State(found.state),
        has_time=bool(found.has_time),
        is_due=bool(found.is_due),
        place=place_stored(found.place or 0),
        body=body,
    )


def storable(text: str, most: int | None = None) -> str:
    """Return text that a text column takes: no NUL, no lone surrogates, not too long."""
    clean = text.replace("\x00", "\\x00").encode(errors="backslashreplace").decode()
    return clean if most is None else clean[:most]
