"""What is done to all that match takes a bounded time, says what is left, and can go on."""

from collections.abc import Collection
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from inbox.admin.receipts import ReceiptAdmin
from inbox.models import Receipt
from outbox.admin_support import actions, base
from tests.kit.admin_pages import confirmed, list_url, shown

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]
MATCHING = {"action": "discard_matching"}


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root"))
    return client


@pytest.fixture
def dead() -> list[Receipt]:
    return [
        Receipt.objects.create(handler="h", source="/s", message_id=str(number), state="dead")
        for number in range(35)
    ]


class Slow:
    """An operation that takes ten seconds for each part, and may end the process in one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, ends: int = -1) -> None:
        self.parts: list[int] = []
        self.now = 0.0
        self.ends = ends
        self._do = ReceiptAdmin.do
        monkeypatch.setattr(ReceiptAdmin, "do", lambda *given: self.do(*given))
        monkeypatch.setattr(actions.time, "monotonic", lambda: self.now)

    def do(self, acting: Any, request: Any, action: Any, numbers: Collection[int]) -> Any:
        if len(self.parts) == self.ends:
            raise SystemExit(1)
        self.parts.append(len(numbers))
        self.now += 6
        return self._do(acting, request, action, numbers)


def states() -> tuple[int, int]:
    rows = Receipt.objects.all()
    return rows.filter(state="discarded").count(), rows.filter(state="dead").count()


def test_a_request_begins_nothing_more_when_its_time_is_over(
    staff: Client, dead: list[Receipt], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page that follows asks about what is left, and how far it is."""
    slow = Slow(monkeypatch)
    response = confirmed(staff, staff.post(list_url(Receipt), MATCHING))
    text = shown(response.content.decode())

    assert slow.parts == [10, 20]
    assert states() == (30, 5)
    assert LogEntry.objects.count() == 30
    assert "30 receipts are discarded." in text
    assert "5 had no turn yet" in text
    assert "Discard 5 receipts?" in text
    assert "30 of 35 have had their turn." in text

    confirmed(staff, response)
    assert states() == (35, 0)


def test_a_process_that_ends_in_between_leaves_nothing_half_done(
    staff: Client, dead: list[Receipt], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was done is written down, and who asks again goes on with the rest."""
    Slow(monkeypatch, ends=1)
    asked = staff.post(list_url(Receipt), MATCHING)
    with pytest.raises(SystemExit):
        confirmed(staff, asked)
    assert states() == (10, 25)
    assert LogEntry.objects.count() == 10
    monkeypatch.undo()

    confirmed(staff, staff.post(list_url(Receipt), MATCHING))
    assert states() == (35, 0)
    assert LogEntry.objects.count() == 35


def test_what_is_selected_is_bounded_as_well(
    staff: Client, dead: list[Receipt], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left stays as it was, and the list says so."""
    slow = Slow(monkeypatch)
    slow.now = -20.0
    monkeypatch.setattr(actions, "SECONDS", 1.0)
    chosen = {"_selected_action": [row.pk for row in dead], "confirmed": "yes"}
    response = staff.post(list_url(Receipt), {"action": "discard_selected", **chosen}, follow=True)
    assert states() == (10, 25)
    assert "25 had no turn yet" in shown(response.content.decode())


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="about PostgreSQL")
def test_what_matches_is_looked_for_in_a_bounded_time(
    staff: Client, dead: list[Receipt], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is done then, and the list says why."""
    monkeypatch.setattr(actions, "LIMIT", 0.001)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(0)")
    rows = [
        Receipt(handler="h", source="/x", message_id=str(at), state="dead", error="x" * 4_000)
        for at in range(400)
    ]
    Receipt.objects.bulk_create(rows)
    url = list_url(Receipt, "?state=all&q=error:nothing")
    response = staff.post(url, MATCHING, follow=True)
    assert str(base.TOO_MUCH) in shown(response.content.decode())
    assert states() == (0, 435)
