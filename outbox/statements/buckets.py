"""Buckets of time, as message ids have it: pure policy.

The time of a message is the first 48 bits of its id, a UUIDv7, so both sides read the same, and a
bucket is a range of ids. All times here are milliseconds since 1970.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

MOMENT, SECOND, MINUTE, HOUR, DAY = 10, 1000, 60_000, 3_600_000, 86_400_000
"""Milliseconds. A moment is a part of a second of which more messages are than can be told."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_TIME = 1 << 48
"""What no id can say."""


def milliseconds(moment: datetime) -> int:
    """Return a point in time as ids have it, cut to the millisecond."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


def moment(time: int) -> datetime:
    """Return a time of an id as a point in time."""
    return EPOCH + timedelta(milliseconds=time)


def floor(time: int, width: int) -> int:
    """Return where the bucket of a time begins."""
    return time - time % width


def ceiling(time: int, width: int) -> int:
    """Return where the first bucket begins that is not before a time."""
    return -floor(-time, width)


def time_of(message_id: UUID) -> int:
    """Return the time of an id."""
    return message_id.int >> 80


def bound(time: int) -> UUID:
    """Return the id that is not above any id of this time, and above all earlier ones."""
    return UUID(int=time << 80)


def finer(width: int, bucket: int) -> int | None:
    """Return how wide the parts are of which a width is made; None if those are messages."""
    chain = [DAY, HOUR, bucket, *([SECOND] if bucket > SECOND else []), MOMENT]
    after = [each for each in chain if each < width]
    return after[0] if after else None


def is_bucket(width: int) -> bool:
    """Tell whether an hour can be made of buckets of a width, themselves made of seconds."""
    return SECOND <= width <= HOUR and HOUR % width == 0 and width % SECOND == 0


def is_width(width: int, bucket: int) -> bool:
    """Tell whether statements with buckets of a width have parts that are so wide."""
    return width in (DAY, HOUR, bucket, SECOND, MOMENT)


def is_forgotten(start: int, width: int, bucket: int, before: int) -> bool:
    """Tell whether nothing can be said of a part, as what is `before` a time is not kept.

    Of days and hours that end behind it, smaller parts tell.
    """
    return start < before and (width <= bucket or start + width <= before)


def joined(starts: Iterable[int], width: int) -> Iterator[tuple[int, int]]:
    """Yield ranges that hold the buckets which begin at these times, in order, as few as can be."""
    first = last = None
    for start in sorted(set(starts)):
        if first is None or last is None or start != last:
            if first is not None and last is not None:
                yield first, last
            first = start
        last = start + width
    if first is not None and last is not None:
        yield first, last


def spans(since: int, until: int, bucket: int) -> Iterator[tuple[int, int, int]]:
    """Yield a range in parts with a width each: whole days, whole hours, and buckets around."""
    for width in (DAY, HOUR):
        first, last = -(-since // width) * width, floor(until, width)
        if last - first >= 2 * width:
            yield from spans(since, first, bucket)
            yield first, last, width
            yield from spans(last, until, bucket)
            return
    if since < until:
        yield since, until, bucket
