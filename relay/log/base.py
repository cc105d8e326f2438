"""The port to the log: which lanes have something to publish, a page of one, its checkpoint."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal, NamedTuple

from django.db import IntegrityError, connections
from django.db.backends.utils import CursorWrapper

from outbox.database import instants
from outbox.message.envelope import Envelope
from relay.exceptions import StaleCursor
from relay.log.window import CheckpointRow, Page
from relay.sql import log as sql

Start = Literal["beginning", "now"]

PAGE_BYTES = 16 * 1024 * 1024
"""Bytes of data in a page, unless a relay's PAGE_BYTES says otherwise."""


class Fetched(NamedTuple):
    """Messages by position. `cut` tells that they would be too large together with the rest."""

    messages: dict[int, Envelope]
    cut: bool


class Log(ABC):
    """The log of one database as one relay sees it. Belongs to one thread."""

    def __init__(
        self,
        relay: str,
        *,
        using: str,
        start: Start = "beginning",
        page_bytes: int = PAGE_BYTES,
    ) -> None:
        self.relay = relay
        self.using = using
        self.start = start
        self.page_bytes = page_bytes

    def look(self) -> None:  # noqa: B027 - a log need not know of anything that could be wrong
        """Raise UnsoundLog if the log cannot be read as it stands; looks only now and then."""

    @abstractmethod
    def lanes_with_work(self, lanes: int) -> list[int]:
        """Return the lanes that hold messages to publish. One statement, and a look() when due.

        All of 0 … lanes - 1 are looked at, and those beyond in which there are rows. A relay that
        has yet to start from "now" gets lane 0, to write that start down.
        Outside a transaction a log that was restored or moved is rebased first. Raises UnsoundLog.
        """

    @abstractmethod
    def acquire(self, lane: int) -> int | None:
        """Lock a lane until the running transaction ends; None if another process holds it.

        Returns the highest position in use, read before the transaction has an id. Raises
        OperationalError where no checkpoint could be written.
        """

    @abstractmethod
    def read(self, lane: int, size: int, sequence: int) -> Page:
        """Return the next page of a lane that acquire() has locked.

        At most `size` messages, with at most `page_bytes` bytes of data, or one message.
        """

    @abstractmethod
    def fetch(self, positions: Sequence[int]) -> Fetched:
        """Return the messages at these positions, in order, as far as they are still there.

        Like a page they are bounded by bytes.
        """

    def hear(self, text: str) -> None:  # noqa: B027 - only PostgreSQL has something to say
        """Note the text with which a relay was woken last: it may save a flush()."""

    def flush(self) -> None:  # noqa: B027 - elsewhere what has committed is on disk
        """Wait until no crash of the server can undo what has committed; in no transaction."""

    def is_moved(self) -> bool:
        """Tell whether the log came from another cluster and is not rebased yet."""
        return False

    def checkpoint(self, page: Page, count: int, *, by: str, duration: timedelta) -> None:
        """Record that the first `count` messages of the page are settled: published or parked.

        Raises StaleCursor if another process was faster; the transaction must then roll back.
        """
        row = CheckpointRow.of(
            page.window,
            page.positions[:count],
            complete=page.complete and count == len(page),
            relay=self.relay,
            by=by,
            duration=duration,
            created=instants.now(),
        )
        try:
            with self._cursor() as cursor:
                cursor.execute(sql.CHECKPOINT, [self._stored(value) for value in row.values()])
        except IntegrityError as exc:
            raise StaleCursor(
                f"Relay {self.relay!r}, lane {page.lane}: another process has extended the chain "
                f"after checkpoint {page.window.previous}. Its work stands, this page is void."
            ) from exc

    def _cursor(self) -> CursorWrapper:
        """Return a cursor for statements of which there are few, by their texts."""
        return connections[self.using].cursor()

    def _stored(self, value: Any) -> Any:
        """Return a value of a checkpoint as the database takes it."""
        return value
