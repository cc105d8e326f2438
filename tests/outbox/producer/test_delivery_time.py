"""When a message is to be delivered: what is accepted, and what is refused at once."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

import outbox
from outbox.producer.delivery_time import MAX_AHEAD, due

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_neither_is_at_once():
    """Without deliver_at and delay a message is not scheduled."""
    assert due(None, None) is None


def test_a_point_in_time_is_one_of_utc():
    """deliver_at keeps its meaning, whatever its time zone; it may be over."""
    assert due(NOON.astimezone(timezone(timedelta(hours=5))), None) == NOON


@pytest.mark.parametrize("delay", [timedelta(seconds=90), 90, 90.0])
def test_a_delay_is_a_timedelta_or_seconds(delay: object):
    """Seconds may be whole or not."""
    assert due(None, delay) == timedelta(seconds=90)


@pytest.mark.parametrize("delay", [0, 0.0, timedelta(0), MAX_AHEAD, MAX_AHEAD.total_seconds()])
def test_the_bounds_of_a_delay_are_allowed(delay: object):
    """No delay at all, and ten years."""
    assert due(None, delay) is not None


@pytest.mark.parametrize(
    ("deliver_at", "delay", "words"),
    [
        (NOON, 5, "not both"),
        (datetime(2026, 3, 1, 12), None, "no time zone"),  # noqa: DTZ001
        (NOON.date(), None, "must be a datetime"),
        ("2026-03-01T12:00:00Z", None, "must be a datetime"),
        (NOON.timestamp(), None, "must be a datetime"),
        (datetime(2999, 1, 1, tzinfo=UTC), None, "3,660 days"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=1))), None, "no point in time"),
        (None, -1, "negative"),
        (None, -0.001, "negative"),
        (None, -1e300, "negative"),
        (None, timedelta(seconds=-1), "negative"),
        (None, True, "number of seconds"),
        (None, "5", "number of seconds"),
        (None, float("nan"), "finite"),
        (None, float("inf"), "finite"),
        (None, 1e300, "3,660 days"),
        (None, 86_400_000 * 3660, "3,660 days"),
        (None, MAX_AHEAD + timedelta(microseconds=1), "3,660 days"),
    ],
)
def test_refused(deliver_at: object, delay: object, words: str):
    """Whatever is ambiguous, no time, or so far ahead that its unit must be wrong."""
    with pytest.raises(outbox.InvalidEvent, match=words):
        due(deliver_at, delay)
