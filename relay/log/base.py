"""The port to the log: which lanes have something to publish, a page of one, its checkpoint."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, NamedTuple

from django.db import IntegrityError, connections
from django.db.backends.utils import CursorWrapper
from django.utils import timezone

from outbox.envelope import Envelope
from relay import sql
from relay.exceptions import StaleCursor

Start = Literal["beginning", "now"]

PAGE_BYTES = 16 * 1024 * 1024
"""Bytes of data in a page, unless a relay's PAGE_BYTES says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Consecutive messages of one lane, and the window that they belong to.

    `complete` tells that the window ends with this page. `window_start` and `next_start` bound
    from below where new transactions' rows stand, in this window and in the next;
    `window_previous` is the checkpoint before the window. `due` tells that the page wants a
    checkpoint even if it is empty. `parked` tells that the relay has parked messages, so that keys
    may have to wait; `retries` that some of the lane are due.
    """

    lane: int
    previous: int
    messages: list[Envelope]
    positions: list[int]
    complete: bool
    floor: str
    ceiling: str
    window_start: int
    next_start: int
    sequence: int
    window_previous: int
    window_count: int
    system_identifier: int
    last_position: int
    due: bool = False
    parked: bool = False
    retries: bool = False

    def __len__(self) -> int:
        return len(self.messages)


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

    @abstractmethod
    def lanes_with_work(self, lanes: int) -> list[int]:
        """Return the lanes that hold messages to publish. One statement.

        All of 0 … lanes - 1 are looked at, and those beyond in which there are rows. A relay that
        has yet to start from "now" gets lane 0, to write that start down.
        Outside a transaction a log that was restored or moved is rebased first.
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

    def is_moved(self) -> bool:
        """Tell whether the log came from another cluster and is not rebased yet."""
        return False

    def checkpoint(self, page: Page, count: int, *, by: str, duration: timedelta) -> None:
        """Record that the first `count` messages of the page are settled: published or parked.

        Raises StaleCursor if another process was faster; the transaction must then roll back.
        """
        whole = count == len(page)
        values: dict[str, Any] = {
            "relay": self.relay,
            "lane": page.lane,
            "previous": page.previous,
            "floor": page.floor,
            "ceiling": page.ceiling,
            "position": page.positions[count - 1] if count else page.last_position,
            "complete": page.complete and whole,
            "sequence": page.sequence,
            "window_start": page.window_start,
            "next_start": page.next_start,
            "window_previous": page.window_previous,
            "window_count": page.window_count + count,
            "system_identifier": page.system_identifier,
            "first_position": page.positions[0] if count else page.last_position,
            "count": count,
            "published_by": by,
            "duration": duration,
            "created": timezone.now(),
        }
        try:
            with self._cursor() as cursor:
                cursor.execute(
                    sql.CHECKPOINT,
                    [self._stored(values[name]) for name in sql.CHECKPOINT_COLUMNS],
                )
        except IntegrityError as exc:
            raise StaleCursor(
                f"Relay {self.relay!r}, lane {page.lane}: another process has extended the chain "
                f"after checkpoint {page.previous}. Its work stands, this page is void."
            ) from exc

    def _cursor(self) -> CursorWrapper:
        """Return a cursor for statements of which there are few, by their texts."""
        return connections[self.using].cursor()

    def _stored(self, value: Any) -> Any:
        """Return a value of a checkpoint as the database takes it."""
        return value
