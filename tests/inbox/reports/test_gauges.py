"""What handlers owe, in numbers: right, by index and bounded."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from inbox.models import DeadLetter, Receipt
from inbox.reports import gauges
from tests.inbox.support import Handling, postgresql

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]


def made(number: int, **values: Any) -> Receipt:
    about = {"handler": "charge", "source": "/s", "message_id": str(number), "type": "a.b"}
    return Receipt(**about | values)


def receipts(*states: str, **values: Any) -> None:
    count = Receipt.objects.count()
    Receipt.objects.bulk_create(
        made(count + number, state=state, **values) for number, state in enumerate(states)
    )


def letters(*states: str) -> None:
    for state in states:
        DeadLetter.objects.create(
            group="g",
            reason="undecodable",
            state=state,
            headers="{}",
            body=b"",
            digest=str(DeadLetter.objects.count()),
        )


def read() -> dict[tuple[str, ...], float]:
    return {(each.gauge.name, *each.labels): each.value for each in gauges.read("default")}


def test_what_is_open_is_counted_by_handler_and_state(handling: Handling) -> None:
    """Also 0; those of handlers that are gone are counted together."""
    handling(name="charge")
    receipts("dead", "dead", "retrying", "processed", "discarded", "skipped")
    receipts("dead", handler="gone")
    receipts("dead", handler="gone.too")
    values = read()

    assert values["inbox_open_receipts", "charge", "dead"] == 2
    assert values["inbox_open_receipts", "charge", "retrying"] == 1
    assert values["inbox_open_receipts", "charge", "waiting"] == 0
    assert values["inbox_open_receipts", gauges.OTHERS, "dead"] == 2


def test_many_of_one_state_hide_none_of_another(
    handling: Handling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is counted to the bound by itself."""
    monkeypatch.setattr(gauges, "COUNTED", 2)
    handling(name="charge")
    receipts("retrying", "dead", "dead", "dead", "dead")
    values = read()

    assert values["inbox_open_receipts", "charge", "dead"] == 3
    assert values["inbox_open_receipts", "charge", "retrying"] == 1


def test_dead_letters_that_wait_are_counted_among_the_newest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is over is not; what is older is not looked at."""
    letters("dead", "dead", "discarded", "dead", "processed")
    assert read()["inbox_dead_letters", "undecodable"] == 3
    assert read()["inbox_dead_letters", "too_large"] == 0
    monkeypatch.setattr(gauges, "COUNTED", 4)
    assert read()["inbox_dead_letters", "undecodable"] == 2


def test_the_oldest_due_receipt_of_all_handlers(handling: Handling) -> None:
    """Of those in the code; what is due later is not late."""
    handling(name="charge")
    handling(name="remind")
    now = timezone.now()
    assert read()["inbox_overdue_seconds",] == 0
    receipts("retrying", next_attempt_at=now + timedelta(hours=1))
    receipts("retrying", handler="gone", next_attempt_at=now - timedelta(hours=9))
    assert read()["inbox_overdue_seconds",] == 0

    receipts("retrying", next_attempt_at=now - timedelta(minutes=2))
    receipts("retrying", handler="remind", next_attempt_at=now - timedelta(minutes=5))
    receipts("retrying", handler="remind", next_attempt_at=now - timedelta(minutes=3))
    assert read()["inbox_overdue_seconds",] == pytest.approx(300, abs=30)


def test_as_many_statements_whatever_the_number_of_handlers(handling: Handling) -> None:
    """What is due first is asked for all of them at once."""
    counts = []
    for number in range(1, 25):
        handling(name=f"handler{number}")
        with CaptureQueriesContext(connection) as captured:
            read()
        counts.append(len(captured))

    assert len(set(counts)) == 1
    assert counts[0] <= 6


@postgresql
def test_what_is_over_costs_nothing(handling: Handling) -> None:
    """However many receipts there are, those that are open are found by their own indexes."""
    handling(name="charge")
    handling(name="remind")
    Receipt.objects.bulk_create(made(number) for number in range(20_000))
    now = timezone.now()
    Receipt.objects.bulk_create(
        made(number, state="retrying", next_attempt_at=now) for number in range(20_000, 20_005)
    )
    table = Receipt._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {table}")
        with CaptureQueriesContext(connection) as captured:
            read()
        statements = [each["sql"] for each in captured if table in each["sql"]]
        assert statements
        for statement in statements:
            cursor.execute(f"EXPLAIN {statement}")
            plan = "\n".join(row[0] for row in cursor.fetchall())
            assert "Seq Scan" not in plan, plan
            assert "inbox_state" in plan or "inbox_due" in plan, plan
