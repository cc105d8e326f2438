"""Who does something in the admin may say why, and it is written down with it, as by the API."""

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.core.exceptions import PermissionDenied
from django.test import Client
from django.urls import reverse

from inbox import Reject
from inbox.models import Receipt
from inbox.operations import OF_RECEIPTS
from outbox.admin_support import bulk
from outbox.operations import MAX_REASON, carry_out, carry_out_once
from tests.inbox.support import Handling, happened, receive
from tests.kit.admin_pages import ALL_MODELS, confirmed, list_url, log_in, page, shown

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]
WHY = "Customer 42 has called <b>twice</b>"


def reject(event: Any, message: Any) -> None:
    raise Reject("too small")


@pytest.fixture
def dead(handling: Handling) -> list[Receipt]:
    handling(reject)
    for number in range(3):
        receive(happened(number))
    return list(Receipt.objects.order_by("pk"))


@pytest.fixture
def staff(client: Client) -> Client:
    log_in(client, "admin.logentry", *ALL_MODELS)
    allowed = Permission.objects.filter(codename__in=["discard_receipt", "edit_receipt"])
    User.objects.get().user_permissions.add(*allowed)
    return client


def url(row: Receipt, verb: str) -> str:
    return reverse(f"admin:django_inbox_receipt_{verb}", args=(row.pk,))


def written() -> list[str]:
    return list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True))


def test_a_page_that_asks_wants_no_reason_and_keeps_one(staff: Client, dead: list[Receipt]) -> None:
    """It stands in the history of the row, and on the page about what people did, as text."""
    text = page(staff, url(dead[0], "discard"))
    assert "Why (optional)" in text
    assert f'name="reason" value="" maxlength="{MAX_REASON}"' in text
    confirmed(staff, staff.get(url(dead[0], "discard")))
    staff.post(url(dead[1], "discard"), {"confirmed": "yes", "reason": f"  {WHY}\0 "})

    assert written() == ["Discarded.", f"Discarded. {WHY}\\x00"]
    for place in (reverse("admin:django_inbox_receipt_history", args=(dead[1].pk,)), DOINGS):
        assert "Customer 42 has called &lt;b&gt;twice&lt;/b&gt;" in staff.get(place).text


DOINGS = "/admin/django_outbox/messaging/doings/"


def test_a_reason_is_bounded(staff: Client, dead: list[Receipt]) -> None:
    """What a browser would not send is cut."""
    staff.post(url(dead[0], "discard"), {"confirmed": "yes", "reason": "x" * (MAX_REASON + 1)})

    assert written() == ["Discarded. " + "x" * MAX_REASON]


def test_the_reason_of_a_batch_is_that_of_the_next(
    staff: Client, dead: list[Receipt], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page asks with what was said on the one before."""
    monkeypatch.setattr(bulk, "BATCH", 2)
    found = staff.post(list_url(Receipt), {"action": "discard_matching"})
    fields = dict(found.context["fields"])
    form = {**fields, "reason": "old"}
    found = staff.post(list_url(Receipt), form)

    assert 'name="reason" value="old"' in found.text
    assert written() == ["Discarded. old"] * 2


def test_what_is_selected_has_a_reason(staff: Client, dead: list[Receipt]) -> None:
    """Also where a page asks about several."""
    chosen = [row.pk for row in dead]
    data = {"action": "discard_selected", "_selected_action": chosen, "confirmed": "yes"}
    staff.post(list_url(Receipt), {**data, "reason": WHY}, follow=True)

    assert written() == [f"Discarded. {WHY}"] * 3
    assert f"Discarded. {WHY.split(' <')[0]}" in shown(staff.get(DOINGS).text)


def test_an_edit_has_a_reason(staff: Client, dead: list[Receipt]) -> None:
    """It is asked for beside the message."""
    form = staff.get(url(dead[0], "edit")).context["form"].initial
    answer = {**form, "body": form["body"], "confirmed": "yes", "reason": WHY}
    staff.post(url(dead[0], "edit"), answer, follow=True)

    assert written() == [f"Edited and retried; the original is kept. {WHY}"]


def test_nobody_gets_around_the_permission(dead: list[Receipt]) -> None:
    """Whoever calls: nothing is done, and nothing written."""
    done: list[int] = []
    nobody = User.objects.create_user("nobody")
    for user in (nobody, AnonymousUser()):
        with pytest.raises(PermissionDenied):
            carry_out(OF_RECEIPTS["discard"], [dead[0].pk], user=user)
        with pytest.raises(PermissionDenied):
            carry_out_once(
                lambda: done.append(1),
                dead[0],
                permission="django_inbox.edit_receipt",
                written="Edited.",
                user=user,
            )

    assert (done, written()) == ([], [])
    assert set(Receipt.objects.values_list("state", flat=True)) == {"dead"}


def test_what_was_not_done_is_not_written_down(admin_user: User, dead: list[Receipt]) -> None:
    """It says so with False; any other answer is given back."""
    options: Any = {"permission": "any.thing", "user": admin_user, "reason": "so"}

    assert carry_out_once(lambda: False, dead[0], written="Never.", **options) is False
    assert carry_out_once(lambda: 0, dead[0], written="Once.", **options) == 0
    assert written() == ["Once. so"]
