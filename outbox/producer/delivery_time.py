"""When a message is to enter the log, as the caller of emit() says it: pure policy, no clock."""

import math
from datetime import UTC, datetime, timedelta

from outbox.exceptions import InvalidEvent

MAX_AHEAD = timedelta(days=3660)
"""How far ahead a message can be scheduled: about ten years."""

Due = datetime | timedelta
"""A point in time, in UTC, or a time from now on by the clock of the database."""


def due(deliver_at: object, delay: object) -> Due | None:
    """Return what emit() was given as `deliver_at` or `delay`; None for a message without either.

    Seconds become a timedelta. Raises InvalidEvent for both at once, a naive datetime, a delay
    that is negative or no number, and anything further ahead than MAX_AHEAD.
    """
    if deliver_at is None and delay is None:
        return None
    if deliver_at is not None and delay is not None:
        raise InvalidEvent("Give deliver_at or delay, not both.")
    return _delay(delay) if deliver_at is None else _point(deliver_at)


def _point(value: object) -> datetime:
    if not isinstance(value, datetime):
        raise InvalidEvent(f"deliver_at must be a datetime, not {value!r}")
    if value.utcoffset() is None:
        raise InvalidEvent(
            f"deliver_at {value.isoformat()} has no time zone: say which hour of which place it "
            "is, such as with django.utils.timezone.make_aware()"
        )
    try:
        point = value.astimezone(UTC)
    except OverflowError:
        raise InvalidEvent(f"deliver_at {value!r} is no point in time of UTC") from None
    # Only a sieve for wrong units and years: this machine's clock decides nothing else.
    if point - datetime.now(UTC) > MAX_AHEAD:
        raise InvalidEvent(f"deliver_at {value.isoformat()} is more than {_ahead()} ahead")
    return point


def _delay(value: object) -> timedelta:
    if isinstance(value, bool) or not isinstance(value, timedelta | int | float):
        raise InvalidEvent(f"delay must be a timedelta or a number of seconds, not {value!r}")
    if isinstance(value, timedelta):
        length = value
    else:
        if not math.isfinite(value):
            raise InvalidEvent(f"delay must be a finite number of seconds, not {value!r}")
        if value > MAX_AHEAD.total_seconds():
            raise InvalidEvent(f"delay of {value:g} s is more than {_ahead()}")
        length = timedelta(seconds=max(value, -1))  # whatever is negative is refused below
    if length < timedelta(0):
        raise InvalidEvent(f"delay {value!r} is negative")
    if length > MAX_AHEAD:
        raise InvalidEvent(f"delay {value} is more than {_ahead()}")
    return length


def _ahead() -> str:
    return f"{MAX_AHEAD.days:,} days"
