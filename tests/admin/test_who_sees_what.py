"""What pages and API show to those who may see a part only; and input that once broke them."""

import base64
import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.core.signing import BadSignature
from django.db import transaction
from django.db.models import Model, QuerySet
from django.test import Client, override_settings
from django.utils import timezone

import outbox
from inbox.models import DeadLetter, Receipt
from outbox.failures import runs
from outbox.models import Message
from relay.models import Parked
from tests.kit.admin_pages import detail_url, log_in, page
from tests.kit.api import VIEW, Caller

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]
SECRET = "Denied: password=hunter2"


def emitted() -> Message:
    with transaction.atomic():
        outbox.emit("tests.happened", {"key": "k", "number": 1})
    return Message.objects.get()


def park(message: Message) -> Parked:
    return Parked.objects.create(
        relay="default",
        lane=message.lane,
        position=message.position,
        message_id=message.message_id,
        type=message.type,
        topic=message.topic,
        key=message.key,
        state="dead",
        reason="nacked",
        error=SECRET,
        attempts=1,
        parked_at=timezone.now(),
    )


def receipt(**values: Any) -> Receipt:
    about = {"handler": "h", "source": "/s", "message_id": "1", "type": "a.b", "state": "processed"}
    return Receipt.objects.create(**about | values)


def messages_only(request: Any, rows: QuerySet[Model]) -> QuerySet[Model]:
    return rows if rows.model is Message else rows.none()


def test_why_a_message_is_parked_is_for_those_who_may_view_parked_messages(client: Client) -> None:
    """And then without secrets, as everywhere."""
    message = emitted()
    parked = park(message)
    log_in(client, "django_outbox.message")
    text = page(client, detail_url(message))
    assert "Denied" not in text

    client.logout()
    other = Client()
    log_in_as(other, "django_outbox.message", "django_relay.parked")
    for url in (detail_url(message), detail_url(parked)):
        text = page(other, url)
        assert "Denied: password=•••" in text
        assert "hunter2" not in text


def log_in_as(client: Client, *models: str) -> None:
    User.objects.filter(username="viewer").update(username="somebody else")
    log_in(client, *models)


@override_settings(OUTBOX_API={"SCOPE": "tests.admin.test_who_sees_what.messages_only"})
def test_a_conversation_has_nothing_of_rows_beyond_the_scope() -> None:
    """What handlers and relays made of a message is said in rows of their own."""
    message = emitted()
    park(message)
    receipt(
        message_id=str(message.message_id),
        source=message.source,
        correlation_id=message.correlation_id,
        state="dead",
        error="ValueError: of another tenant",
    )
    answer = Caller("tenant", *VIEW).get(f"conversations/{message.correlation_id}")

    assert answer["messages"]
    assert "another tenant" not in json.dumps(answer)
    assert "Denied" not in json.dumps(answer)


def test_an_id_of_the_far_future_is_shown_like_any_other() -> None:
    """Whoever may publish to us chooses it."""
    receipt(message_id="ffffffff-ffff-7fff-bfff-ffffffffffff")
    assert Caller("viewer", *VIEW).get("topology")


def test_what_people_did_takes_the_permission_for_the_log() -> None:
    """As the page of it does."""
    few = [each for each in VIEW if each != "admin.view_logentry"]
    assert Caller("viewer", *few).get("doings", status=403)


@pytest.mark.parametrize("body", ["[" * 100_000, "{", "[]", '"x"', "null"])
def test_a_body_that_is_none_is_refused(body: str) -> None:
    """However deep it is nested."""
    caller = Caller("operator", *VIEW, "django_inbox.discard_receipt")
    answer = caller.client.post(
        f"/api/receipts/{receipt().pk}/discard", body, content_type="application/json"
    )
    assert answer.status_code == 400


@pytest.mark.parametrize("cursor", ['[1,"","",0,0,0]', '[1,"","1:2:",0,0,0]', "[]", "x" * 5000])
def test_a_cursor_of_a_stream_that_is_none_is_refused(cursor: str) -> None:
    """Whatever it looks like."""
    viewer = Caller("viewer", *VIEW)
    for text in (cursor, base64.urlsafe_b64encode(cursor.encode()).decode().rstrip("=")):
        answer = viewer.client.get("/api/stream", {"cursor": text, "wait": "0"})
        assert answer.status_code in (400, 404), answer.content


@pytest.mark.parametrize("text", ["age:<17758794.03h", "age:>99999999999h", "\0", "age:<0.001s"])
def test_an_age_beyond_all_times_is_no_error_of_ours(text: str) -> None:
    """It selects something, or is refused."""
    answer = Caller("viewer", *VIEW).client.get("/api/messages", {"q": text})
    assert answer.status_code in (200, 400)


def test_a_name_of_a_user_that_nobody_can_have(client: Client) -> None:
    """It finds nothing that was done."""
    user = Caller("staff", *VIEW).user
    user.is_staff = True
    user.save()
    client.force_login(user)
    assert client.get("/admin/django_outbox/messaging/doings/?user=%00").status_code == 200


@pytest.mark.parametrize("text", ["", " ", "\t"])
def test_a_blank_filter_of_a_command_selects_nothing(text: str) -> None:
    """As that of a variable that is not set."""
    DeadLetter.objects.create(group="g", reason="undecodable", headers="{}", body=b"x", digest="d")
    for command in (
        ["inbox_retry", "--dead-letters", "--discard", "--filter", text],
        ["relay_requeue", "--discard", "--filter", text],
    ):
        with pytest.raises(CommandError):
            call_command(*command)
    assert DeadLetter.objects.get().state == "dead"


def test_one_kind_of_token_is_never_taken_for_the_other() -> None:
    """A run's and that of rows that were discarded are both signed."""
    with pytest.raises(BadSignature):
        runs.Run.of(runs.pack([1, 2, 3]))
