"""A person answers an open request: in the admin, through the API, and by command."""

import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.test import Client

import inbox
import outbox
from inbox.models import OpenRequest
from inbox.replies.by_hand import answer_with, fields_of, replies_of
from outbox.models import Message
from outbox.operations import carry_out
from tests.kit.admin_pages import detail_url, list_url, page, rows, shown
from tests.kit.api import Caller
from tests.requests.support import Given, Wire, ask

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

GIVEN = "pricing.quote.given"


@pytest.fixture
def open_request(wire: Wire, answer: Callable[..., None]) -> OpenRequest:
    answer(lambda event, message: inbox.LATER)
    ask()
    wire.run()
    return OpenRequest.objects.get()


def allow(client: Client, *permissions: str) -> Client:
    found = Permission.objects.filter(codename__in=permissions)
    User.objects.get(username="viewer").user_permissions.add(*found)
    return client


@pytest.fixture
def clerk(viewer: Client) -> Client:
    return allow(viewer, "view_openrequest", "answer_openrequest")


def asked(row: OpenRequest) -> outbox.Asked:
    return outbox.Asked(row.message_id)


def answer_url(row: OpenRequest) -> str:
    return detail_url(row).replace("/change/", "/answer/")


def test_the_page_shows_what_is_asked(viewer: Client, open_request: OpenRequest) -> None:
    """With its deadline; who may only look gets no form."""
    allow(viewer, "view_openrequest")
    assert rows(viewer, list_url(OpenRequest)) == [open_request]
    assert rows(viewer, list_url(OpenRequest, "?q=type:pricing.*")) == [open_request]
    assert rows(viewer, list_url(OpenRequest, f"?q={open_request.message_id}")) == [open_request]
    text = shown(page(viewer, detail_url(open_request)))
    assert "basket_id" in text
    assert open_request.expires_at is not None
    assert viewer.get(answer_url(open_request)).status_code == 403
    assert viewer.post(answer_url(open_request), {"confirmed": "yes"}).status_code == 403


def test_the_form_asks_before_it_sends(
    clerk: Client, wire: Wire, open_request: OpenRequest
) -> None:
    """First a form with the declared replies and their fields, then the question, then it does."""
    form = page(clerk, answer_url(open_request))
    assert "pricing.quote.given {amount: int}" in shown(form)
    assert "pricing.quote.declined {why: str}" in shown(form)
    given = {"type": GIVEN, "content": '{"amount": 5}', "reason": "rang them up"}
    question = clerk.post(answer_url(open_request), given).content.decode()
    assert "Yes, answer" in question
    assert OpenRequest.objects.exists()
    done = clerk.post(answer_url(open_request), given | {"confirmed": "yes"}, follow=True)
    assert "The reply is on its way." in done.content.decode()
    wire.run()
    assert asked(open_request).result() == Given(5)
    entry = LogEntry.objects.get()
    assert entry.change_message == "Answered. rang them up"
    assert entry.user.get_username() == "viewer"
    assert Message.objects.get(type=GIVEN).causation_id == open_request.message_id


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"type": GIVEN, "content": '{"amount": "many"}'}, "amount"),
        ({"type": GIVEN, "content": "{"}, "pricing.quote.given"),
        ({"type": GIVEN, "content": "{}"}, "amount"),
        ({"type": "shop.order.placed", "content": "{}"}, "Select a valid choice"),
        ({"type": GIVEN, "content": '{"amount": "<script>x"}'}, "amount"),
        ({"type": GIVEN, "content": "[" * 10_000}, ""),
        ({"type": GIVEN}, "required"),
    ],
)
def test_what_is_no_reply(
    clerk: Client, open_request: OpenRequest, given: dict[str, str], told: str
) -> None:
    """Is told at the form, confirmed or not; the request stays open, and nothing is sent."""
    for confirmed in ({}, {"confirmed": "yes"}):
        response = clerk.post(answer_url(open_request), given | confirmed)
        text = response.content.decode()
        assert response.status_code == 200
        assert "Please correct the errors below." in text
        assert told in text
        assert "<script>x" not in text
    assert OpenRequest.objects.exists()
    assert not Message.objects.filter(type=GIVEN).exists()
    assert not LogEntry.objects.exists()


def test_what_was_answered_meanwhile(clerk: Client, wire: Wire, open_request: OpenRequest) -> None:
    """By somebody else, after the form was opened: one reply, and the other is told."""
    given = {"type": GIVEN, "content": '{"amount": 5}', "confirmed": "yes"}
    assert clerk.post(answer_url(open_request), given).status_code == 302
    assert clerk.post(answer_url(open_request), given).status_code == 404
    user = User.objects.get(username="viewer")
    assert carry_out(answer_with(Given(6)), [open_request.pk], user=user) == []
    wire.run()
    assert asked(open_request).result() == Given(5)
    assert Message.objects.filter(type=GIVEN).count() == 1


def test_what_is_not_declared_here_has_no_form(clerk: Client, open_request: OpenRequest) -> None:
    OpenRequest.objects.update(version=9)
    assert "Answer" not in shown(page(clerk, detail_url(open_request))).split("What is asked")[0]
    response = clerk.get(answer_url(open_request), follow=True)
    assert "nobody knows what its reply is" in response.content.decode()


def test_through_the_api(wire: Wire, open_request: OpenRequest) -> None:
    caller = Caller(
        "clerk",
        "django_inbox.view_openrequest",
        "django_inbox.answer_openrequest",
        "django_outbox.view_data",
    )
    [found] = caller.get("open-requests")["results"]
    assert found["message_id"] == open_request.message_id
    assert found["replies"] == ["pricing.quote.declined", GIVEN]
    one = f"open-requests/{open_request.pk}"
    assert caller.get(f"{one}/data")["data"] == {"basket_id": 7}
    order: dict[str, Any] = {"type": GIVEN, "data": {"amount": "x"}, "reason": "by phone"}
    refused = caller.post(f"{one}/answer", order, status=400)
    assert "amount" in str(refused["errors"]["data"])
    caller.post(f"{one}/answer", order | {"type": "x"}, status=400)
    done = caller.post(f"{one}/answer", order | {"data": {"amount": 5}})
    assert done == {"id": str(open_request.pk), "changed": True, "state": None}
    caller.post(f"{one}/answer", order | {"data": {"amount": 5}}, status=404)
    wire.run()
    assert asked(open_request).result() == Given(5)
    assert LogEntry.objects.get().change_message == "Answered. by phone"


def test_the_api_takes_a_permission(open_request: OpenRequest) -> None:
    caller = Caller("looker", "django_inbox.view_openrequest")
    one = f"open-requests/{open_request.pk}"
    order = {"type": GIVEN, "data": {"amount": 5}, "reason": "x"}
    caller.post(f"{one}/answer", order, status=403)
    caller.get(f"{one}/data", status=403)
    assert OpenRequest.objects.exists()


def test_by_command(wire: Wire, open_request: OpenRequest) -> None:
    """It says what was sent; what is no reply, or not open, is an error."""
    with pytest.raises(CommandError, match="amount"):
        run(open_request.message_id, "--type", GIVEN, "--data", '{"amount": "x"}')
    with pytest.raises(CommandError, match="Its reply is pricing"):
        run(open_request.message_id, "--type", "x", "--data", "{}")
    with pytest.raises(CommandError, match="No request nothing is open here"):
        run("nothing", "--type", GIVEN, "--data", "{}")
    text = run(open_request.message_id, "--type", GIVEN, "--data", '{"amount": 5}', "--json")
    reply = Message.objects.get(type=GIVEN)
    assert json.loads(text) == {
        "request": open_request.message_id,
        "source": open_request.source,
        "reply": str(reply.message_id),
        "type": GIVEN,
    }
    wire.run()
    assert asked(open_request).result() == Given(5)
    with pytest.raises(CommandError, match="is open here"):
        run(open_request.message_id, "--type", GIVEN, "--data", '{"amount": 5}')


def test_by_command_as_somebody(wire: Wire, open_request: OpenRequest) -> None:
    """It takes his permission, and stands in the log of what people do, like all else."""
    told = [open_request.message_id, "--type", GIVEN, "--data", '{"amount": 5}']
    user = User.objects.create_user("ann", is_staff=True)
    with pytest.raises(CommandError, match="no user 'bob'"):
        run(*told, "--user", "bob")
    with pytest.raises(CommandError, match="answer_openrequest"):
        run(*told, "--user", "ann")
    assert not LogEntry.objects.exists()
    user.user_permissions.add(Permission.objects.get(codename="answer_openrequest"))
    run(*told, "--user", "ann", "--reason", "by phone")
    entry = LogEntry.objects.get()
    assert (entry.user, entry.change_message) == (user, "Answered. by phone")
    wire.run()
    assert asked(open_request).result() == Given(5)
    root = Client()
    root.force_login(User.objects.create_superuser("root"))
    page = root.get("/admin/django_outbox/messaging/doings/").content.decode()
    assert "by phone" in page
    assert "ann" in page


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("inbox_answer", *arguments, stdout=out)
    return out.getvalue()


def test_which_fields_a_reply_has(wire: Wire, open_request: OpenRequest) -> None:
    """As its class says; of what only type checkers know, the words."""
    assert {name: fields_of(each) for name, each in replies_of(open_request).items()} == {
        GIVEN: {"amount": "int"},
        "pricing.quote.declined": {"why": "str"},
    }
