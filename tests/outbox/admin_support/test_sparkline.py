"""A drawing of when things happened, as small as a word."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from outbox.admin_support.sparkline import BARS, counts, sparkline, window

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("age", "length"),
    [
        (timedelta(0), HOUR),
        (HOUR, HOUR),
        (HOUR * 2, HOUR * 6),
        (DAY, DAY),
        (DAY * 2, DAY * 7),
        (DAY * 8, DAY * 30),
        (DAY * 1000, DAY * 365),
        (-HOUR, HOUR),
    ],
)
def test_the_window_reaches_back_to_the_oldest(age: timedelta, length: timedelta) -> None:
    """In a usual length; of what is older than a year, that is a year."""
    assert window(NOW - age, NOW) == length


def test_moments_are_counted_in_equal_parts() -> None:
    """What is older is in the first, what a fast clock has put ahead in the last."""
    ages = [timedelta(0), timedelta(minutes=1), HOUR - timedelta(seconds=1), DAY, -HOUR]
    found = counts([NOW - age for age in ages], HOUR, NOW)

    assert len(found) == BARS
    assert (found[-1], found[0], sum(found)) == (3, 2, 5)


def test_the_highest_bar_has_all_the_room() -> None:
    """One that stands for one of a thousand is still to be seen; nothing is no bar."""
    svg = sparkline([1000, 0, 1], HOUR * 3)

    bars = re.findall(r'<rect x="(\d+)" y="(\d+)" width="(\d+)" height="(\d+)"/>', svg)
    assert bars == [("0", "0", "5", "24"), ("12", "22", "5", "2")]
    assert 'aria-label="At most 1,000 in 1 h, of the last 3 h"' in svg
    assert "<rect" not in sparkline([0] * BARS, HOUR)
