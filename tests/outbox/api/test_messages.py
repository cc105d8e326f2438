"""Messages through the API: pages that stay as they are, permissions, data without secrets."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection, transaction
from django.test import override_settings
from rest_framework.authentication import BasicAuthentication

import outbox
from outbox.api import views
from outbox.models import Message, Scheduled
from tests.kit.api import VIEW, WHY, Caller
from tests.kit.support import Registered

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]


@pytest.fixture(autouse=True)
def _event_types(registered: Registered) -> None:
    registered("api.told")
    registered("api.secret")


def emit(count: int = 1, **options: Any) -> list[str]:
    with transaction.atomic():
        return [outbox.emit("api.told", {"n": n}, **options).id for n in range(count)]


@pytest.fixture
def viewer() -> Caller:
    return Caller("viewer", *VIEW)


def test_pages_stay_as_they_are_while_rows_are_added(viewer: Caller) -> None:
    """Each message is seen once, the newest first, whatever is emitted between two pages."""
    ids = emit(5)
    first = viewer.get("messages", limit="2")
    later = emit(2)
    second = viewer.get("messages", limit="2", cursor=first["older"])
    third = viewer.get("messages", limit="2", cursor=second["older"])

    pages = [first, second, third]
    assert [row["id"] for page in pages for row in page["results"]] == ids[::-1]
    assert third["older"] is None
    assert [row["id"] for row in viewer.get("messages", cursor=first["newer"])["results"]] == [
        *reversed(later)
    ]


def test_who_has_seen_all_can_go_on_asking(viewer: Caller) -> None:
    """The cursor of an empty page leads to what comes after it."""
    emit(1)
    end = viewer.get("messages")["newer"]
    empty = viewer.get("messages", cursor=end)
    new = emit(1)

    assert empty["results"] == []
    assert [row["id"] for row in viewer.get("messages", cursor=empty["newer"])["results"]] == new


def test_a_cursor_of_another_list_is_refused(viewer: Caller) -> None:
    """It would skip rows without a word."""
    emit(2)
    cursor = viewer.get("messages", limit="1")["older"]

    assert "another list" in str(viewer.get("receipts", cursor=cursor, status=400)["errors"])
    for bad in ("x", "é", "after-1", "A" * 999, "YWZ0ZXItMQ"):
        assert viewer.get("messages", cursor=bad, status=400)["errors"]["cursor"]
    for bad in ("0", "201", "-1", "x", "1e2", "٣"):
        assert viewer.get("messages", limit=bad, status=400)["errors"]["limit"]


def test_ids_and_long_numbers_are_text(viewer: Caller) -> None:
    """JavaScript would round what has more than 53 bits."""
    [one] = emit(1, key="k")
    row = viewer.get(f"messages/{one}")

    assert row["id"] == one
    assert row["position"] == str(Message.objects.get().position)
    assert row["key"] == "k"
    assert row["states"] == {"default": "pending"}
    assert row["time"].endswith("Z")


def test_what_a_message_carries_takes_a_permission_of_its_own(viewer: Caller) -> None:
    """And is masked as the pages of the admin do it."""
    with transaction.atomic():
        one = outbox.emit("api.secret", {"card_number": "4111", "n": 2**60}).id
    reader = Caller("reader", *VIEW, "django_outbox.view_data")

    assert "django_outbox.view_data" in viewer.get(f"messages/{one}/data", status=403)["detail"]
    assert "4111" not in json.dumps(viewer.get(f"messages/{one}"))
    found = reader.get(f"messages/{one}/data")
    assert (found["form"], found["data"]) == ("json", {"card_number": "•••", "n": 2**60})


def test_without_permission_there_is_nothing_to_see() -> None:
    """Nor for somebody nobody knows."""
    [one] = emit(1)
    nobody = Caller("nobody")
    for path in ("messages", f"messages/{one}", "findings", "topology", "doings", "scheduled"):
        assert nobody.get(path, status=403)
    nobody.client.logout()
    assert nobody.get("messages", status=403)


def test_what_is_not_there_is_a_problem(viewer: Caller) -> None:
    """Whatever the address looks like."""
    for path in (
        "messages/00000000-0000-0000-0000-000000000000",
        "messages/x",
        "receipts/99999999999999999",
        "receipts/9999999999999999999999999",
        "nothing",
        "conversations/none",
        "conversations/a%00b",
        "",
    ):
        assert viewer.get(path, status=404)["type"].endswith("#not-found")
    assert viewer.post("messages", status=405)["type"].endswith("#method")


def test_a_tenant_sees_what_its_scope_leaves() -> None:
    """In lists, by id, in conversations; and nothing that sums up the rest."""
    [own], [other] = emit(1, key="tenant"), emit(1, key="other")
    tenant = Caller("tenant", *VIEW, "django_outbox.view_data")
    with override_settings(OUTBOX_API={"SCOPE": "tests.kit.api.mine"}):
        assert [row["id"] for row in tenant.get("messages")["results"]] == [own]
        assert tenant.get(f"messages/{own}")["id"] == own
        assert tenant.get(f"messages/{own}/data")
        assert [row["id"] for row in tenant.get(f"conversations/{own}")["messages"]] == [own]
        for path in (f"messages/{other}", f"messages/{other}/data", f"conversations/{other}"):
            assert tenant.get(path, status=404)
        for path in ("findings", "topology", "relays", "groups", "failures"):
            assert tenant.get(path, status=403)
        tenant.user.is_staff = True
        tenant.user.save()
        assert len(tenant.get("messages")["results"]) == 2
        assert tenant.get("topology")


def test_requests_are_counted(viewer: Caller) -> None:
    """Too many in a while are refused, with the time to wait."""
    with override_settings(OUTBOX_API={"READ_RATE": "2/h"}):
        viewer.get("messages")
        viewer.get("messages")
        assert viewer.get("messages", status=429)["type"].endswith("#throttled")
        assert int(viewer.client.get("/api/messages")["Retry-After"]) > 0


class TestCancel:
    """A scheduled message can be taken back as long as it waits."""

    def later(self) -> str:
        with transaction.atomic():
            return outbox.emit("api.told", {}, delay=timedelta(hours=1), key="tenant").id

    def test_an_operator_cancels_with_a_reason(self) -> None:
        """It is written down as on the page of the admin."""
        operator = Caller("operator", *VIEW, "django_outbox.cancel_scheduled")
        one = self.later()

        assert operator.post(f"scheduled/{one}/cancel", {}, status=400)["errors"]["reason"]
        answer = operator.post(f"scheduled/{one}/cancel")

        assert answer == {"id": one, "changed": True, "state": None}
        assert not Scheduled.objects.exists()
        entry = LogEntry.objects.get()
        assert entry.change_message == f"Cancelled. {WHY['reason']}"
        assert (entry.user, entry.is_deletion()) == (operator.user, True)
        [doing] = operator.get("doings")["results"]
        assert (doing["user"], doing["kind"], doing["model"]) == ("operator", "delete", "scheduled")
        assert operator.post(f"scheduled/{one}/cancel", status=404)

    def test_a_viewer_cannot(self, viewer: Caller) -> None:
        """The permission is named."""
        one = self.later()
        said = viewer.post(f"scheduled/{one}/cancel", status=403)
        assert "django_outbox.cancel_scheduled" in said["detail"]
        assert Scheduled.objects.exists()

    def test_what_was_due_is_a_conflict(self) -> None:
        """It tells where the message is now."""
        operator = Caller("operator", *VIEW, "django_outbox.cancel_scheduled")
        [one] = emit(1)
        assert operator.post(f"scheduled/{one}/cancel", status=409)["state"] == "emitted"

    def test_a_tenant_cancels_its_own(self) -> None:
        """What is another's is not there for it, whether due or not."""
        one, [emitted] = self.later(), emit(1, key="b")
        with override_settings(OUTBOX_API={"SCOPE": "tests.kit.api.mine"}):
            other = Caller("other", *VIEW, "django_outbox.cancel_scheduled")
            for each in (one, emitted):
                assert other.post(f"scheduled/{each}/cancel", status=404)
            tenant = Caller("tenant", *VIEW, "django_outbox.cancel_scheduled")
            assert tenant.post(f"scheduled/{one}/cancel")["changed"]


def test_what_takes_too_long_is_a_problem(viewer: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for it, and nothing of it goes on."""
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL has a limit")
    emit()
    monkeypatch.setattr(views, "SECONDS", 0.05)
    with override_settings(OUTBOX_API={"SCOPE": "tests.kit.api.slow"}):
        assert viewer.get("messages", status=503)["type"].endswith("#too-much")
    assert viewer.get("messages")["results"]


def test_who_is_asked_for_a_password_is_told_so(
    viewer: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the project's first way to authenticate has a challenge, the answer is 401 with it."""
    monkeypatch.setattr(views.Resource, "authentication_classes", [BasicAuthentication])
    viewer.client.logout()

    said = viewer.get("messages", status=401)
    assert said["type"].endswith("#unauthenticated")
    assert viewer.client.get("/api/messages")["WWW-Authenticate"].startswith("Basic")


def test_a_message_says_what_code_it_is_of(viewer: Caller) -> None:
    """By itself, not in a list, which reads no attributes; null if it says nothing of our form."""
    with outbox.use_context(origin="handler:billing.invoice"):
        [one] = emit()
    [other] = emit(attributes={"origin": "the moon"})
    assert viewer.get(f"messages/{one}")["origin"] == "handler:billing.invoice"
    assert viewer.get(f"messages/{other}")["origin"] is None
    assert "origin" not in viewer.get("messages")["results"][0]
