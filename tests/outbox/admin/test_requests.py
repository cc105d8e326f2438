"""The admin pages of requests, and the same through the API."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import transaction
from django.test import Client

import outbox
from outbox.message.envelope import Envelope
from outbox.message.event_types import registry
from outbox.models import Message, Request, Settlement
from outbox.replies import progress, settling
from tests.kit.admin_pages import confirmed, counted, detail_url, list_url, page, rows, shown
from tests.kit.api import Caller
from tests.kit.services.callbacks import SECRET

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


@dataclass(frozen=True, slots=True)
class Answer:
    number: int


@dataclass(frozen=True, slots=True)
class Question:
    number: int


@pytest.fixture(autouse=True)
def _types() -> Iterator[None]:
    outbox.event("admin.answer")(Answer)
    outbox.request("admin.question", reply=Answer)(Question)
    yield
    for each in (Answer, Question):
        registry.remove(registry.of_class(each))


@pytest.fixture
def viewer(viewer: Client) -> Client:
    return allow(viewer, "view_request")


@pytest.fixture
def canceller(viewer: Client) -> Client:
    return allow(viewer, "cancel_request")


def allow(client: Client, permission: str) -> Client:
    found = Permission.objects.get(codename=permission)
    User.objects.get(username="viewer").user_permissions.add(found)
    return client


def ask(**options: Any) -> Request:
    with transaction.atomic():
        asked = outbox.ask(Question(1), **options)
    return Request.objects.get(message_id=asked.id)


def answer(request: Request) -> None:
    reply = Envelope(
        id="1", source="/there", type="admin.answer", data=b'{"number": 5, "token": "s3cret"}'
    )
    settling.answer(str(request.message_id), reply, using="default", by="/there")


def test_the_list_tells_how_they_ended(viewer: Client) -> None:
    """With the same statements for many as for one; a filter finds them by it."""
    pending = ask(owner="me")
    few = counted(viewer, list_url(Request))[1]
    answered, failed = ask(), ask()
    answer(answered)
    settling.fail(str(failed.message_id), "h has failed", using="default", by="/there")

    text, statements = counted(viewer, list_url(Request))
    assert statements == few
    assert [each.pk for each in rows(viewer, list_url(Request))] == [
        failed.pk,
        answered.pk,
        pending.pk,
    ]
    for state, found in (
        ("pending", [pending]),
        ("answered", [answered]),
        ("failed,pending", [failed, pending]),
        ("expired", []),
    ):
        assert state.partition(",")[0] in shown(text) or not found
        assert rows(viewer, list_url(Request, f"?q=state:{state}")) == found
    assert rows(viewer, list_url(Request, "?q=owner:me")) == [pending]
    assert rows(viewer, list_url(Request, f"?q={failed.message_id}")) == [failed]


def test_the_page_of_one(viewer: Client) -> None:
    """What came back, masked; what came late; a way to its message and its conversation."""
    request = ask()
    answer(request)
    settling.answer(
        str(request.message_id),
        Envelope(id="2", source="/late", type="admin.answer", data=b"<script>"),
        using="default",
    )
    text = page(viewer, detail_url(request))
    assert "s3cret" not in text
    assert "<script>" not in text
    told = shown(text)
    assert "answered" in told
    assert "late" in told
    assert "/there" in told
    assert "Show the message" in told
    assert "Cancel" not in told


def test_how_far_it_has_come(viewer: Client) -> None:
    """On its page and through the API; what a stranger says is text."""
    request = ask()
    caller = Caller("somebody", "django_outbox.view_request")
    found = caller.get(f"requests/{request.message_id}")
    assert (found["progress"], found["progress_text"], found["progress_at"]) == (None, "", None)
    said = {"done": 0.457, "text": "<script>rated 40 of 100"}
    assert progress.note(str(request.message_id), said, None, using="default")
    text = page(viewer, detail_url(request))
    assert "<script>rated" not in text
    assert "45 %" in shown(text)
    assert "rated 40 of 100" in shown(text)
    found = caller.get(f"requests/{request.message_id}")
    assert (found["progress"], found["progress_text"]) == (0.457, said["text"])
    assert found["progress_at"].endswith("Z")


def test_cancel_takes_a_permission(viewer: Client) -> None:
    request = ask()
    assert "cancel" not in page(viewer, detail_url(request)).lower().split("replies")[0]
    data = {"action": "cancel_selected", "_selected_action": [request.pk]}
    viewer.post(list_url(Request), data, follow=True)
    assert not Settlement.objects.exists()


def test_cancel(canceller: Client) -> None:
    """It asks first, for what has not ended; the log says who did it."""
    pending, answered = ask(), ask()
    answer(answered)
    data = {"action": "cancel_selected", "_selected_action": [pending.pk, answered.pk]}
    response = confirmed(canceller, canceller.post(list_url(Request), data, follow=True))
    text = response.content.decode()
    assert "1 request is cancelled." in text
    assert pending.settlement.outcome == "cancelled"
    assert pending.settlement.by == "viewer"
    assert Settlement.objects.get(request=answered).outcome == "answered"
    assert LogEntry.objects.get().change_message.startswith("Cancelled.")


def test_through_the_api() -> None:
    """A list, a row, and cancel with a reason; 409 with the state for what has ended."""
    pending, answered = ask(), ask()
    answer(answered)
    caller = Caller("somebody", "django_outbox.view_request", "django_outbox.cancel_request")
    results = caller.get("requests")["results"]
    assert [(each["id"], each["state"]) for each in results] == [
        (str(answered.message_id), "answered"),
        (str(pending.message_id), "pending"),
    ]
    assert caller.get(f"requests/{answered.message_id}")["settled_by"] == "/there"
    assert caller.get(f"requests/{pending.message_id}")["settled_at"] is None
    done = caller.post(f"requests/{pending.message_id}/cancel")
    assert (done["changed"], done["state"]) == (True, "cancelled")
    again = caller.post(f"requests/{pending.message_id}/cancel")
    assert (again["changed"], again["state"]) == (False, "cancelled")
    refused = caller.post(f"requests/{answered.message_id}/cancel", status=409)
    assert refused["state"] == "answered"
    caller.post("requests/0198f5a0-8f6e-7000-8000-000000000000/cancel", status=404)
    Caller("viewer", "django_outbox.view_request").post(
        f"requests/{answered.message_id}/cancel", status=403
    )


def test_where_it_is_called_back_is_shown_without_the_query(viewer: Client, settings: Any) -> None:
    """With the message that does, once there is one, and on no page of one that wants none."""
    settings.OUTBOX = {"WEBHOOKS": {"SECRETS": SECRET}}
    request = ask(callback_url="https://partner.example/hooks?token=swordfish")

    text = page(viewer, detail_url(request))
    assert "https://partner.example/hooks?•••" in text
    assert "It is written when the request has ended." in text
    answer(request)
    text = page(viewer, detail_url(request))
    sent = Message.objects.get(subject=str(request.message_id))
    assert str(sent.message_id) in text
    assert "outbox.callbacks.partner.example" in text
    assert "swordfish" not in text
    assert "Callback" not in page(viewer, detail_url(ask()))
