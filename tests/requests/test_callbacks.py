"""What is written for whoever is to be called back: once, with the end of the request."""

import base64
import json
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction

import outbox
from outbox.message.callbacks import CALLBACK_TYPE, CONTENT_TYPE
from outbox.models import Message, Request, Scheduled, Settlement
from outbox.producer.scheduling import deliver_due
from outbox.replies import settling
from tests.inbox.support import receive
from tests.kit.services.callbacks import SECRET
from tests.kit.support import Registered
from tests.requests.support import ASKER, Quote, Wire, ask, reply_to

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

URL = "https://partner.example/hooks?token=swordfish"


@pytest.fixture(autouse=True)
def _settings(wire: Wire, settings: Any) -> None:
    settings.OUTBOX = {"LANES": 1, "WEBHOOKS": {"SECRETS": SECRET}}


def written() -> list[dict[str, Any]]:
    rows = Message.objects.filter(type=CALLBACK_TYPE).order_by("position")
    return [json.loads(bytes(row.data)) for row in rows]


def replied(wire: Wire, *data: bytes, **attributes: Any) -> list[dict[str, Any]]:
    """Let a request of as many replies be answered; return those of its callback."""
    ask(callback_url=URL, replies=len(data))
    [request] = wire.publish()
    for number, each in enumerate(data):
        groups = {"inreplyto": request.id, "replygroup": f"group{number}"}
        receive(reply_to(request, each, **{"attributes": groups, **attributes}), group=ASKER)
    [callback] = written()
    assert callback["state"] == "answered"
    replies: list[dict[str, Any]] = callback["replies"]
    return replies


def test_a_reply_is_told_as_it_came(wire: Wire) -> None:
    """What comes late is not told."""
    [reply] = replied(wire, b'{"amount":  5}', id="r1")

    assert reply == {
        "id": "r1",
        "source": "/pricing",
        "type": "pricing.quote.given",
        "dataversion": 1,
        "datacontenttype": "application/json",
        "data": {"amount": 5},
    }
    late = reply_to(wire.broker.published[0], b'{"amount": 9}')
    receive(late, group=ASKER)
    assert len(written()) == 1


def test_several_replies_are_told_in_their_order(wire: Wire) -> None:
    replies = replied(wire, b'{"amount": 1}', b'{"amount": 2}')

    assert [each["data"]["amount"] for each in replies] == [1, 2]


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\xff",
        b'{"amount": ',
        b"[" * 50_000,
        b'{"amount": NaN}',
        '{"amount": 1}'.encode("utf-16"),
        b'\xef\xbb\xbf{"amount": 1}',
    ],
)
def test_what_claims_to_be_json_and_is_not_is_told_in_base64(wire: Wire, data: bytes) -> None:
    """The callback has to be JSON, whatever somebody answers."""
    asked = ask(callback_url=URL)
    [request] = wire.publish()
    settling.answer(asked.id, reply_to(request, data), using="default")

    [callback] = written()

    assert base64.b64decode(callback["replies"][0]["data_base64"]) == data


def test_large_replies_are_told_without_their_data(wire: Wire, settings: Any) -> None:
    """Together they could be any size."""
    settings.OUTBOX = {**settings.OUTBOX, "MAX_DATA_BYTES": 20}

    replies = replied(wire, b'{"amount": 1}', b'{"amount": 2}')

    assert len(replies) == 2
    assert all("data" not in each and "data_base64" not in each for each in replies)


def test_a_request_that_has_failed_is_told_with_the_reason(wire: Wire) -> None:
    asked = ask(callback_url=URL)

    settling.fail(asked.id, "billing.quote has failed", using="default", by="/pricing")

    [callback] = written()
    assert (callback["state"], callback["reason"]) == ("failed", "billing.quote has failed")
    assert "by" not in callback


def test_a_request_that_has_expired_is_told(wire: Wire) -> None:
    ask(callback_url=URL)
    now = Message.objects.get().time
    Request.objects.update(deadline=now)
    Scheduled.objects.update(due_at=now)

    deliver_due("default")
    wire.run()

    assert [each["state"] for each in written()] == ["expired"]


def test_it_is_written_if_the_settlement_commits() -> None:
    """In one transaction: neither is there without the other."""
    asked = ask(callback_url=URL)
    with transaction.atomic():
        asked.cancel()
        assert len(written()) == 1
        transaction.set_rollback(True)

    assert written() == []
    assert not Settlement.objects.exists()
    asked.cancel()
    assert not asked.cancel()
    assert len(written()) == 1


def test_the_url_is_in_the_row_of_the_request_alone() -> None:
    """Messages are shown, archived, and sent to others."""
    asked = ask(callback_url=URL)
    asked.cancel()

    assert Request.objects.get().callback_url == URL
    row = Message.objects.get(type=CALLBACK_TYPE)
    assert (row.content_type, row.subject, row.key) == (CONTENT_TYPE, asked.id, None)
    assert row.topic == "outbox.callbacks.partner.example"
    for each in Message.objects.all().values():
        assert "swordfish" not in str(each | {"data": bytes(each["data"])})


def test_an_idempotency_key_stands_for_one_url() -> None:
    asked = ask(callback_url=URL, idempotency_key="7")

    assert ask(callback_url=URL, idempotency_key="7") == asked
    for other in ("", "https://partner.example/other"):
        with pytest.raises(outbox.OtherRequest):
            ask(callback_url=other, idempotency_key="7")


def test_nobody_emits_what_looks_like_a_callback() -> None:
    """It would be POSTed with our signature."""
    registered = Registered()
    registered("callbacks.forged")
    with transaction.atomic(), pytest.raises(outbox.InvalidEvent, match="that of a callback"):
        outbox.emit("callbacks.forged", b"{}", content_type=CONTENT_TYPE)
    registered.forget()


def test_a_url_is_looked_at_before_anything_is_written() -> None:
    """However it is asked."""
    with pytest.raises(outbox.InvalidEvent, match="callback_url begins with https://"):
        ask(callback_url="http://partner.example/")
    with pytest.raises(outbox.InvalidEvent, match="callback_url begins with https://"):
        async_to_sync(outbox.aask)(Quote(1), callback_url="http://partner.example/")

    assert not Message.objects.exists()
