"""Where a time begins in a table whose keys follow it."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from inbox.models import Receipt
from outbox.database.by_time import first_keys

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]
START = datetime(2026, 11, 3, 12, tzinfo=UTC)


def receipts(*minutes: float, received: float | None = None) -> list[int]:
    """Add receipts that changed so many minutes after START; return their keys."""
    made = []
    for minute in minutes:
        row = Receipt.objects.create(
            handler="h",
            source="/s",
            message_id=str(Receipt.objects.count()),
            type="a.b",
            changed=START + timedelta(minutes=minute),
            received=None if received is None else START + timedelta(minutes=received),
        )
        made.append(row.pk)
    return made


def first(*minutes: float, time: tuple[str, ...] = ("changed",)) -> list[int]:
    moments = [START + timedelta(minutes=minute) for minute in minutes]
    return first_keys(Receipt, moments, time=time, using="default")


def test_the_first_row_that_is_not_older() -> None:
    """Also one of the very moment; behind the last where all are older."""
    keys = receipts(1, 2, 2.5, 4)

    assert first(0, 1, 1.5, 2, 3, 4, 5) == [
        *(keys[0], keys[0], keys[1], keys[1]),
        *(keys[3], keys[3], keys[3] + 1),
    ]


def test_an_empty_table() -> None:
    """Every moment begins at one place."""
    assert len(set(first(0, 1))) == 1


@pytest.mark.parametrize("gone", [0, 3, 4, 5, 9])
def test_rows_that_are_gone_do_not_matter(gone: int) -> None:
    """Keys have gaps: what was rolled back, or deleted."""
    keys = receipts(*range(10))
    Receipt.objects.filter(pk=keys[gone]).delete()

    for minute in set(range(10)) - {gone}:
        [found] = first(minute)
        left = Receipt.objects.filter(pk__gte=found).order_by("pk").first()
        assert left is not None
        assert left.pk == keys[minute]


def test_the_first_column_that_is_not_null_tells_the_time() -> None:
    """What was tried again has changed long after it came in."""
    one, two = *receipts(900, received=1), *receipts(2)

    assert first(1, 2, time=("received", "changed")) == [one, two]


def test_one_statement_for_all_moments() -> None:
    """Whatever their number, and that of the rows."""
    receipts(*range(20))
    with CaptureQueriesContext(connection) as captured:
        first(*range(20))

    assert len(captured) == 1


def test_rows_out_of_line_give_no_steps_that_run_backwards() -> None:
    """Such as messages that were loaded from a file with the times of before."""
    receipts(10, 1, 11, 2, 12, 3, 0, 13)

    found = first(0, 1, 2, 3, 10, 11, 12, 13)
    assert found == sorted(found)
