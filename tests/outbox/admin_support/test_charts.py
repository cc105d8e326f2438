"""Charts: SVG and HTML without style and script, a table beside it, and a scale that fits."""

import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest

from outbox.admin_support import charts
from outbox.admin_support.charts import Series, picture, rounded_up, span_rounded_up

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
STEPS = [(NOON + timedelta(hours=n), NOON + timedelta(hours=n + 1)) for n in range(4)]


def drawn(*values: float | None, label: str = "Committed", area: bool = False) -> str:
    series = Series(label=label, values=values, area=area)
    found = picture(title="t", steps=STEPS, series=[series], shown=charts.count_shown)
    ElementTree.fromstring(str(found.svg))
    return str(found.svg)


def test_steps_are_drawn_to_scale() -> None:
    """The scale ends at the next round number; twice as much is twice as high."""
    text = drawn(0, 5, 10, 10)

    assert 'd="M0 100.00H10V50.00H20V0.00H30V0.00H40"' in text
    assert re.findall(r"<span>([^<]*)</span>", text)[:3] == ["10", "5", "0"]


def test_where_there_is_no_number_there_is_a_gap() -> None:
    """Not a zero."""
    text = drawn(10, None, None, 10)

    assert 'd="M0 0.00H10M30 0.00H40"' in text
    assert "Committed: -" in text


def test_nothing_at_all() -> None:
    """No division by zero, and a line at the bottom or none."""
    assert "V100" not in drawn(None, None, None, None)
    assert 'd="M0 100.00H10V100.00H20V100.00H30V100.00H40"' in drawn(0, 0, 0, 0, area=True)


def test_a_step_tells_its_numbers_when_pointed_at() -> None:
    """And there is a table for who cannot point, and a description in words."""
    text = drawn(0, 1234, 3, 4)
    series = [Series(label="Committed", values=[0, 1234, 3, 4])]
    found = picture(title="t", steps=STEPS, series=series, shown=charts.count_shown)

    assert "<title>2026-11-03 13:00 - 14:00\nCommitted: 1,234</title>" in text
    assert "<desc>Committed: from 0 to 1,234, 4 last.</desc>" in text
    assert found.table is not None
    assert [row[1] for row in found.table.rows] == ["0", "1,234", "3", "4"]


def test_labels_are_escaped() -> None:
    """A relay may be called anything."""
    assert "<b>" not in drawn(1, 2, 3, 4, label="<b>&\"'")


def test_times_are_hours_for_a_day_and_dates_for_a_week() -> None:
    """At even distances, the first and the last included."""
    week = [(NOON + timedelta(days=n), NOON + timedelta(days=n + 1)) for n in range(8)]
    series = [Series(label="x", values=[1] * 8)]
    text = str(picture(title="t", steps=week, series=series, shown=charts.count_shown).svg)

    assert re.findall(r"<span>([^<]*)</span>", drawn(1, 1, 1, 1))[3:] == [
        *("12:00", "13:00", "14:00", "15:00", "16:00"),
    ]
    assert re.findall(r"<span>([^<]*)</span>", text)[3:] == [
        *("3 Nov", "5 Nov", "7 Nov", "9 Nov", "11 Nov"),
    ]


@pytest.mark.parametrize(
    ("highest", "end"),
    [(0, 1), (0.3, 1), (1, 1), (1.1, 2), (5, 5), (6, 10), (10, 10), (11, 20), (999, 1000)],
)
def test_a_scale_ends_at_a_round_number(highest: float, end: float) -> None:
    """Never below what there is to show."""
    assert rounded_up(highest) == pytest.approx(end)


@pytest.mark.parametrize(
    ("highest", "end"),
    [
        (0, 0.001),
        (0.03, 0.05),
        (3, 4),
        (70, 120),
        (5000, 7200),
        (90_000, 172_800),
        (400_000, 518_400),
    ],
)
def test_a_scale_of_time_ends_at_a_length_that_people_count_in(highest: float, end: float) -> None:
    """Seconds, minutes, hours, days."""
    assert span_rounded_up(highest) == pytest.approx(end)
