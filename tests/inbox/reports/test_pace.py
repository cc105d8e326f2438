"""How fast messages come to a handler, and how long they take."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

import outbox
from inbox.models import Receipt
from inbox.reports import pace
from outbox.flow.loading import load_topology
from outbox.models import Message
from tests.kit.support import Counted

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def uuid7(moment: datetime) -> str:
    made = int(moment.timestamp() * 1000) << 80 | 0x7 << 76 | 0b10 << 62 | uuid.uuid4().int >> 66
    return str(uuid.UUID(int=made))


def receipt(message_id: str, **options: Any) -> Receipt:
    about: dict[str, Any] = {"handler": "h", "source": "/far", "type": "x", "changed": NOW}
    return Receipt.objects.create(message_id=message_id, **about | options)


def found() -> pace.Pace:
    return pace.of(Receipt.objects.all())["h", "x"]


def test_the_time_of_a_message_of_another_service_is_in_its_id() -> None:
    """If it is a UUIDv7; others tell nothing."""
    receipt(uuid7(NOW - timedelta(seconds=5)))
    receipt("order-service/17", handler="other")

    assert found().p95 == timedelta(seconds=5)
    assert pace.of(Receipt.objects.all())["other", "x"].p95 is None


def test_the_time_of_our_own_is_in_the_log() -> None:
    """A scheduled message got its id long before it was due."""
    with transaction.atomic():
        sent = outbox.emit(Counted("k", 1))
    Message.objects.filter(message_id=sent.id).update(time=NOW - timedelta(seconds=2))
    receipt(sent.id)

    assert found().p95 == timedelta(seconds=2)


def test_a_clock_that_is_ahead_makes_no_time_negative() -> None:
    """It is 0 then."""
    receipt(uuid7(NOW + timedelta(seconds=5)))

    assert found().p95 == timedelta(0)


def test_what_is_not_over_has_taken_no_time_yet() -> None:
    """It counts for the rate."""
    receipt(uuid7(NOW), state="dead")

    assert found().p95 is None
    assert found().rate is not None


def test_the_rate_is_that_of_the_newest_receipts() -> None:
    """From the oldest of them until now."""
    since = timezone.now() - timedelta(seconds=100)
    for _ in range(10):
        receipt(str(uuid.uuid4()), changed=since)
    rate = found().rate

    assert rate is not None
    assert 0.09 < rate <= 0.1


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=300))
def test_at_least_95_percent_take_no_longer(seconds: list[int]) -> None:
    """And fewer than that, less."""
    lengths = [timedelta(seconds=each) for each in seconds]
    limit = pace.slowest_of_twenty(lengths)

    assert limit in lengths
    assert sum(each <= limit for each in lengths) >= 0.95 * len(lengths)
    assert sum(each < limit for each in lengths) < 0.95 * len(lengths)


def test_nothing_there() -> None:
    """No receipt, no pace; and none that is asked for what it has not."""
    assert pace.of(Receipt.objects.all()) == {}
    assert pace.slowest_of_twenty([]) is None


def test_its_statements() -> None:
    """Two, whatever there is; and six for all that flows."""
    Receipt.objects.bulk_create(
        [
            Receipt(handler=f"h{n % 7}", source="/far", message_id=uuid7(NOW), type="x")
            for n in range(2 * pace.SAMPLED)
        ]
    )
    with CaptureQueriesContext(connection) as captured:
        pace.of(Receipt.objects.all())
    assert len(captured) == 2
    with CaptureQueriesContext(connection) as captured:
        load_topology("default", limit=100)
    assert len(captured) <= 7
