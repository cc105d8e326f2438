"""What happened in a day or a week, step by step, exactly or by a sample."""

from datetime import timedelta
from itertools import pairwise
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from outbox.database import instants
from outbox.models import Message
from outbox.reports import history
from outbox.reports.history import DAY, WEEK, allotted, committed, picked

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]


def messages(count: int, *, hours_ago: float) -> None:
    """Add messages that were committed so long ago, with a gap before them as a rollback leaves."""
    moment = instants.now() - timedelta(hours=hours_ago)
    Message.objects.bulk_create(
        Message(
            message_id=uuid4(),
            type="a.b",
            version=1,
            source="/s",
            topic="a.b",
            time=moment,
            correlation_id="c",
            content_type="application/json",
            data=b"{}",
            lane=0,
        )
        for _ in range(count)
    )


def counts(period: history.Period) -> list[int]:
    return [step.total(1 for _ in step.rows) for step in committed("default", period)]


def test_few_rows_are_counted_exactly() -> None:
    """Each in its step; what is older than the period is in none."""
    messages(3, hours_ago=30)
    messages(5, hours_ago=23.5)
    messages(7, hours_ago=0.5)

    assert counts(DAY) == [5, *[0] * 22, 7]
    assert counts(WEEK) == [*[0] * 22, 3, 0, 5, *[0] * 2, 7]
    assert not any(step.is_sample for step in committed("default", DAY))


def test_of_many_some_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """They stand for the others, and gaps between keys are not taken for rows."""
    monkeypatch.setattr(history, "LOOKED_AT", 50)
    messages(600, hours_ago=0.5)
    Message.objects.filter(
        position__in=list(Message.objects.values_list("pk", flat=True))[::2]
    ).delete()

    *_, last = committed("default", DAY)
    assert last.is_sample
    assert len(last.rows) <= 50
    assert last.total(1 for _ in last.rows) == pytest.approx(300, rel=0.35)


def test_two_statements_whatever_there_is() -> None:
    """One for the places of the steps, one for their rows."""
    messages(300, hours_ago=0.5)
    messages(10, hours_ago=0.1)
    with CaptureQueriesContext(connection) as captured:
        committed("default", DAY)

    assert len(captured) == 2


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 150, 199, 200, 1_000, 123_457, 10_000_000])
def test_keys_are_spread_over_all_of_a_step(count: int) -> None:
    """All where they are few; else one of each equal part, in order and within it."""
    keys = list(picked(1000, 1000 + count, 100))

    assert keys == sorted(set(keys))
    assert len(keys) == min(count, 100)
    assert all(1000 <= key < 1000 + count for key in keys)
    if count > 100:
        assert max(after - before for before, after in pairwise(keys)) <= 2 * count // 100 + 1


def test_picked_keys_follow_no_rhythm() -> None:
    """Two handlers that take turns both get their share."""
    odd = sum(key % 2 for key in picked(0, 20_000, 100))

    assert 30 < odd < 70


def test_edges_are_evenly_spaced_until_now() -> None:
    """The last step ends now."""
    now = instants.now()
    edges = DAY.edges(now)

    assert (edges[0], edges[-1]) == (now - timedelta(days=1), now)
    assert {after - before for before, after in pairwise(edges)} == {timedelta(hours=1)}


@pytest.mark.parametrize(
    ("counts", "most", "found"),
    [
        ([], 10, []),
        ([1, 2, 3], 10, [1, 2, 3]),
        ([100, 1, 100], 21, [10, 1, 10]),
        ([5, 1_000_000, 0], 100, [5, 95, 0]),
        ([9, 9, 9], 10, [3, 3, 4]),
    ],
)
def test_steps_with_few_rows_leave_more_to_others(
    counts: list[int], most: int, found: list[int]
) -> None:
    """As many as may be looked at are."""
    assert allotted(counts, most) == found
