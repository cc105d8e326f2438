"""The admin pages of scheduled messages."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import transaction
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

import outbox
from outbox.models import Message, Scheduled
from outbox.producer.scheduling import deliver_due
from tests.kit.admin_pages import (
    confirmed,
    counted,
    detail_url,
    list_url,
    page,
    rows,
    shown,
)
from tests.kit.support import Registered

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

PAST = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _types(registered: Registered) -> None:
    registered("admin.reminder.sent", key=lambda payload: payload.get("order"))


@pytest.fixture
def canceller(viewer: Client) -> Client:
    """Staff who may cancel as well."""
    permission = Permission.objects.get(codename="cancel_scheduled")
    User.objects.get(username="viewer").user_permissions.add(permission)
    return viewer


def schedule(order: int = 1, **options: Any) -> Scheduled:
    with transaction.atomic():
        envelope = outbox.emit(
            "admin.reminder.sent", {"order": order}, **(options or {"delay": 60})
        )
    return Scheduled.objects.get(message_id=envelope.id)


def cancel(client: Client, *chosen: Scheduled) -> HttpResponse:
    data = {"action": "cancel_selected", "_selected_action": [row.pk for row in chosen]}
    response = client.post(list_url(Scheduled), data, follow=True)
    asks = "outbox-confirm" in response.content.decode()
    return confirmed(client, response) if asks else response


def test_the_list_shows_when_they_are_due(viewer: Client) -> None:
    """Due time, type, key and when they were emitted."""
    row = schedule(42, deliver_at=datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC))
    text = shown(page(viewer, list_url(Scheduled)))

    due = timezone.localtime(row.due_at).strftime("%Y-%m-%d %H:%M:%S")
    assert f"{due} admin.reminder.sent 42" in text
    assert rows(viewer, list_url(Scheduled, "?q=42")) == [row]
    assert rows(viewer, list_url(Scheduled, f"?q={row.message_id}")) == [row]
    assert rows(viewer, list_url(Scheduled, "?q=41")) == []


def test_the_list_costs_the_same_for_one_and_a_hundred(canceller: Client) -> None:
    """The number of statements does not depend on the number of rows."""
    numbers = []
    for count in (1, 99):
        for number in range(count):
            schedule(number)
        numbers.append(counted(canceller, list_url(Scheduled))[1])

    assert numbers[0] == numbers[1]


def test_a_page_shows_all_of_it(viewer: Client) -> None:
    """Payload and identity, with the time at which it is due."""
    row = schedule(7, deliver_at=datetime(2031, 5, 6, 7, 8, 9, 123, tzinfo=UTC))
    text = shown(page(viewer, detail_url(row)))

    assert "&quot;order&quot;: 7" in text
    assert timezone.localtime(row.due_at).strftime("%Y-%m-%d %H:%M:%S") in text


def test_cancelling_is_logged(canceller: Client) -> None:
    """The chosen ones are gone, the others wait on; the log says who did it."""
    one, two = schedule(1), schedule(2)
    response = cancel(canceller, one)

    assert "1 scheduled message is cancelled." in response.content.decode()
    assert list(Scheduled.objects.all()) == [two]
    entry = LogEntry.objects.get()
    assert (entry.user.get_username(), entry.object_id) == ("viewer", str(one.pk))
    assert entry.change_message == "Cancelled."


def test_cancelling_too_late(canceller: Client) -> None:
    """What was delivered in between is published; the page says so."""
    late, early = schedule(1, deliver_at=PAST), schedule(2)
    data = {"action": "cancel_selected", "_selected_action": [late.pk, early.pk]}
    asked = canceller.post(list_url(Scheduled), data)
    deliver_due("default")
    assert (
        "1 other that was selected is left alone"
        in canceller.post(list_url(Scheduled), data).content.decode()
    )

    text = confirmed(canceller, asked).content.decode()
    assert "1 scheduled message is cancelled." in text
    assert "1 was due already" in text
    assert Message.objects.count() == LogEntry.objects.count() == 1


def test_cancelling_needs_its_permission(viewer: Client) -> None:
    """Whoever may only look is neither offered the action nor allowed to take it."""
    row = schedule()

    assert "cancel_selected" not in page(viewer, list_url(Scheduled))
    cancel(viewer, row)
    assert Scheduled.objects.exists()
    assert not LogEntry.objects.exists()


def test_the_age_of_a_message_that_was_scheduled(viewer: Client) -> None:
    """Its id is days old and its place in the log is not: it hides nothing from the last hour."""
    with transaction.atomic():
        outbox.emit("admin.reminder.sent", {"order": 2})
    emitted = int((timezone.now() - timedelta(days=5)).timestamp() * 1000)
    schedule(1, delay=0)
    Scheduled.objects.update(message_id=UUID(int=(emitted << 80) | (0x7 << 76) | (0b10 << 62)))
    deliver_due("default")

    now, late = Message.objects.order_by("position")
    assert rows(viewer, list_url(Message, "?age=last-hour")) == [late, now]
    assert rows(viewer, list_url(Message, "?age=over-day")) == []
