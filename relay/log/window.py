"""What a relay reads of a lane, page by page, and the row that says how far it has come."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Self

from outbox.message.envelope import Envelope
from relay.sql import tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What is visible in `ceiling` and not in `floor`, of one lane, behind the position `last`.

    `start` and `next_start` bound from below where rows of new transactions stand, in this window
    and in the next. `previous` is the newest checkpoint of the lane, `before` the one before the
    window; 0 if there is none. `count` is how many messages of it are settled. `sequence` is the
    highest position in use when the lane was locked. `due` tells that the window wants a
    checkpoint even if there is nothing in it.
    """

    lane: int
    previous: int
    before: int
    floor: str
    ceiling: str
    start: int
    next_start: int
    last: int = 0
    count: int = 0
    sequence: int
    system_identifier: int
    due: bool = False

    def counted_as_large(self, large: int) -> Self:
        """Return it with a count over `large`, so that the next window looks for its own start."""
        return replace(self, count=large + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Consecutive messages of a window, with their positions.

    `complete` tells that the window ends with this page. `parked` tells that the relay has parked
    messages, so that keys may have to wait; `retries` that some of the lane are due. What is not
    `durable` may not be published: a crash of the server could undo it.
    """

    window: Window
    messages: list[Envelope]
    positions: list[int]
    complete: bool
    parked: bool = False
    retries: bool = False
    durable: bool = True

    @property
    def lane(self) -> int:
        """The lane that it is of."""
        return self.window.lane

    def __len__(self) -> int:
        return len(self.messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRow:
    """A checkpoint as it is inserted, by the names of its columns."""

    relay: str
    lane: int
    previous: int
    floor: str
    ceiling: str
    position: int
    complete: bool
    sequence: int
    window_start: int
    next_start: int
    window_previous: int
    window_count: int
    system_identifier: int
    first_position: int
    count: int
    published_by: str
    duration: timedelta
    created: datetime

    @classmethod
    def of(
        cls,
        window: Window,
        positions: list[int],
        *,
        complete: bool,
        relay: str,
        by: str,
        duration: timedelta,
        created: datetime,
    ) -> Self:
        """Return the checkpoint of a window of which messages at these positions are settled now.

        `complete` tells whether those are the last of it.
        """
        return cls(
            relay=relay,
            lane=window.lane,
            previous=window.previous,
            floor=window.floor,
            ceiling=window.ceiling,
            position=positions[-1] if positions else window.last,
            complete=complete,
            sequence=window.sequence,
            window_start=window.start,
            next_start=window.next_start,
            window_previous=window.before,
            window_count=window.count + len(positions),
            system_identifier=window.system_identifier,
            first_position=positions[0] if positions else window.last,
            count=len(positions),
            published_by=by,
            duration=duration,
            created=created,
        )

    def values(self) -> list[Any]:
        """Return its values in the order of tables.CHECKPOINT_COLUMNS."""
        return [getattr(self, name) for name in tables.CHECKPOINT_COLUMNS]
