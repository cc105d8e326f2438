"""The admin pages of acknowledgements, the same through the API, and what the doctor says."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import transaction
from django.test import Client, override_settings

import outbox
from inbox.handlers.registry import handlers
from inbox.replies import taking
from outbox.acknowledging.examination import examine
from outbox.message.event_types import registry
from outbox.models import Acknowledgement, Message
from tests.kit.admin_pages import confirmed, counted, detail_url, list_url, page, rows, shown
from tests.kit.api import Caller

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


@dataclass(frozen=True, slots=True)
class Parcel:
    number: int


@pytest.fixture(autouse=True)
def _type() -> Iterator[None]:
    asked = outbox.Acknowledge(groups=["billing", "shipping"], within=timedelta(minutes=5))
    outbox.event("admin.parcel", acknowledge=asked)(Parcel)
    with override_settings(INBOX={"GROUP": "sender"}):
        taking.install()
        yield
    handlers.remove(taking.NAME)
    registry.remove(registry.of_class(Parcel))


@pytest.fixture
def viewer(viewer: Client) -> Client:
    return allow(viewer, "view_acknowledgement")


def allow(client: Client, *permissions: str) -> Client:
    user = User.objects.get(username="viewer")
    user.user_permissions.add(*Permission.objects.filter(codename__in=permissions))
    return client


def send(state: str = "awaited", hold: str = "") -> tuple[Acknowledgement, Acknowledgement]:
    """Emit a parcel; return how it stands with billing, in this state, and with shipping."""
    with transaction.atomic():
        message = outbox.emit(Parcel(1))
    billing, shipping = Acknowledgement.objects.filter(message_id=message.id).order_by("group")
    billing.state, billing.hold = state, hold
    if state != "awaited":
        billing.due_at = None
    billing.save()
    return billing, shipping


def test_the_list_tells_where_they_stand(viewer: Client) -> None:
    """With the same statements for many as for few; a filter finds them by it."""
    missing, _ = send("missing")
    few = counted(viewer, list_url(Acknowledgement))[1]
    handled, awaited = send("handled")
    text, statements = counted(viewer, list_url(Acknowledgement))
    assert statements == few
    assert "missing" in shown(text)
    for query, found in (
        ("state:missing", [missing]),
        ("state:handled,missing", [handled, missing]),
        (f"group:shipping {awaited.message_id}", [awaited]),
        ("type:admin.other", []),
    ):
        assert rows(viewer, list_url(Acknowledgement, f"?q={query}")) == found


def test_the_page_of_a_message_shows_each_group(viewer: Client) -> None:
    """For who may view them, and only where the message asks."""
    billing, _ = send("missing", hold="")
    message = Message.objects.get(message_id=billing.message_id)
    told = shown(page(viewer, detail_url(message)))
    assert "Acknowledgements" in told
    for word in ("billing", "missing", "shipping", "awaited"):
        assert word in told
    permission = Permission.objects.get(codename="view_acknowledgement")
    User.objects.get(username="viewer").user_permissions.remove(permission)
    assert "shipping" not in shown(page(viewer, detail_url(message))).split("Flow")[0].replace(
        "billing shipping", ""
    )


def test_what_people_do_takes_permissions(viewer: Client) -> None:
    billing, _ = send("missing")
    for name in ("resend", "give_up"):
        data = {"action": f"{name}_selected", "_selected_action": [billing.pk]}
        viewer.post(list_url(Acknowledgement), data, follow=True)
    billing.refresh_from_db()
    assert billing.state == "missing"
    assert "Send again" not in page(viewer, detail_url(billing))


def test_send_again_and_give_up(viewer: Client) -> None:
    """What is missing is awaited again, and due; giving up asks first, and is taken back so."""
    allow(viewer, "resend_acknowledgement", "give_up_acknowledgement")
    billing, _ = send("missing")
    handled, _ = send("handled")
    Acknowledgement.objects.filter(pk=billing.pk).update(resends=5)
    both = [billing.pk, handled.pk]
    data = {"action": "resend_selected", "_selected_action": both}
    text = viewer.post(list_url(Acknowledgement), data, follow=True).content.decode()
    assert "1 acknowledgement is awaited" in text
    billing.refresh_from_db()
    assert (billing.state, billing.resends) == ("awaited", 0)
    assert billing.due_at is not None
    data = {"action": "give_up_selected", "_selected_action": both}
    response = confirmed(viewer, viewer.post(list_url(Acknowledgement), data, follow=True))
    assert "1 acknowledgement is given up." in response.content.decode()
    billing.refresh_from_db()
    handled.refresh_from_db()
    assert (billing.state, billing.due_at, handled.state) == ("given_up", None, "handled")
    assert "Send again" in page(viewer, detail_url(billing))
    assert [each.change_message for each in LogEntry.objects.order_by("pk")] == [
        "To be sent again.",
        "Given up.",
    ]


def test_through_the_api() -> None:
    """A list, a row, and both actions with a reason; 409 with the state for what is over."""
    billing, _ = send("missing")
    handled, _ = send("handled")
    caller = Caller(
        "somebody",
        "django_outbox.view_acknowledgement",
        "django_outbox.resend_acknowledgement",
        "django_outbox.give_up_acknowledgement",
    )
    results = caller.get("acknowledgements?q=group:billing")["results"]
    assert [(each["message_id"], each["state"]) for each in results] == [
        (str(handled.message_id), "handled"),
        (str(billing.message_id), "missing"),
    ]
    assert caller.get(f"acknowledgements/{billing.pk}")["due_at"] is None
    done = caller.post(f"acknowledgements/{billing.pk}/give_up")
    assert (done["changed"], done["state"]) == (True, "given_up")
    done = caller.post(f"acknowledgements/{billing.pk}/resend")
    assert (done["changed"], done["state"]) == (True, "awaited")
    refused = caller.post(f"acknowledgements/{handled.pk}/resend", status=409)
    assert refused["state"] == "handled"
    Caller("viewer", "django_outbox.view_acknowledgement").post(
        f"acknowledgements/{billing.pk}/resend", status=403
    )


def test_the_doctor_names_groups_and_reasons() -> None:
    """What is missing, and what is held; nothing where all is well, or is only retried there."""
    send("handled")
    send(hold="kept")
    assert list(examine("default")) == []
    for _ in range(2):
        send("missing")
    send(hold="no_consumer")
    missing, held = examine("default")
    assert (missing.id, missing.level, missing.figures) == (
        "outbox.unacknowledged",
        "warning",
        {"missing": 2},
    )
    assert "'billing'" in missing.title
    assert (held.id, held.figures) == ("outbox.held", {"held": 1})
    assert "nobody consumes its queue" in held.text


def test_the_doctor_tells_of_what_no_relay_looks_at() -> None:
    """As where no event type asks any more, and some were sent that did."""
    row, _ = send()
    late = row.sent_at - timedelta(hours=1)
    Acknowledgement.objects.filter(pk=row.pk).update(due_at=late)

    [finding] = examine("default")

    assert (finding.id, finding.figures) == ("outbox.held", {"overdue": 1})
    assert "no relay" in finding.text
