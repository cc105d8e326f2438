"""The admin pages of receipts and dead letters, and what the inbox adds to those of messages."""

import json
from datetime import UTC, datetime
from typing import Any

import celery
import pytest
from django.db import transaction
from django.test import Client

import outbox
from inbox.handlers.registry import handler, handlers
from inbox.models import DeadLetter, Receipt
from outbox.admin_support import keyset
from outbox.celery import OutboxCelery
from outbox.models import Message
from tests.inbox import celery_app, celery_tasks
from tests.kit.admin_pages import (
    counted,
    detail_url,
    for_the_limit,
    list_url,
    log_in,
    page,
    rows,
    shown,
)
from tests.kit.support import Counted

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]

MESSAGE_ID = "01890a5d-ac96-774b-bcce-b302099a8057"


def receipt(name: str = "billing.invoice", **values: Any) -> Receipt:
    defaults = {
        "source": "/shop",
        "message_id": MESSAGE_ID,
        "type": "shop.order.placed",
        "attempts": 1,
    }
    return Receipt.objects.create(handler=name, **(defaults | values))


def dead_letter(**values: Any) -> DeadLetter:
    defaults = {
        "group": "billing",
        "reason": DeadLetter.Reason.UNDECODABLE,
        "error": "required attribute id is missing or empty",
        "content_type": "application/json",
        "headers": '{"ce-type": "shop.order.placed", "x-token": "s3cret"}',
        "body": b'{"order": 1}',
        "digest": f"{DeadLetter.objects.count():064x}",
    }
    return DeadLetter.objects.create(**(defaults | values))


def emitted() -> Message:
    with transaction.atomic():
        envelope = outbox.emit(Counted("a", 1))
    return Message.objects.get(message_id=envelope.id)


def test_receipts_are_listed_newest_first(viewer: Client) -> None:
    """Handler, state, type, message, attempts, the next one, error and time."""
    first, second = receipt(), receipt("billing.remind")
    text = shown(page(viewer, list_url(Receipt)))

    assert rows(viewer, list_url(Receipt)) == [second, first]
    assert f"billing.invoice shop.order.placed processed {MESSAGE_ID} 1 - -" in text


@pytest.mark.parametrize("model", [Receipt, DeadLetter])
def test_a_list_costs_the_same_for_one_and_a_hundred(
    viewer: Client, model: type[Receipt | DeadLetter]
) -> None:
    """The number of statements does not depend on the number of rows."""
    numbers = []
    for count in (1, 99):
        for number in range(count):
            if model is Receipt:
                receipt(message_id=f"{count}-{number}")
            else:
                dead_letter()
        text, statements = counted(viewer, list_url(model))
        numbers.append(statements)
    assert text.count("field-happened") == 100

    # session, user, twice permissions, rows; for what is open also where to begin and to end
    assert numbers == [(5 if model is Receipt else 7) + for_the_limit()] * 2


def test_receipts_are_found_by_message_and_flow(viewer: Client) -> None:
    """Exact ids only."""
    mine = receipt(correlation_id="flow")
    receipt(message_id="other")

    assert rows(viewer, list_url(Receipt, f"?q={MESSAGE_ID}")) == [mine]
    assert rows(viewer, list_url(Receipt, "?q=flow")) == [mine]
    assert rows(viewer, list_url(Receipt, "?q=flo")) == []


def test_receipts_are_filtered_by_handler(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The choices are the service's handlers; a page looks at a bounded number of receipts."""
    monkeypatch.setattr(keyset, "SPAN", 2)
    handler("tests.counted", name="tests.admin")(lambda event, message: None)
    try:
        mine = receipt("tests.admin")
        receipt("old.one")
        receipt("old.two")
        url = list_url(Receipt, "?handler=tests.admin")

        assert rows(viewer, url) == []
        changelist = viewer.get(url).context["cl"]
        assert rows(viewer, list_url(Receipt, changelist.older_url)) == [mine]
        assert len(rows(viewer, list_url(Receipt, "?handler=old.one"))) == 3  # not a choice
    finally:
        handlers.remove("tests.admin")


def test_a_receipt_leads_to_its_message(viewer: Client) -> None:
    """By a search, since the message may be of another service."""
    text = page(viewer, detail_url(receipt()))

    assert list_url(Message, f"?q={MESSAGE_ID}") in text


def test_dead_letters_are_listed_newest_first(viewer: Client) -> None:
    """Reason, group, type and handler, error and time; a long error is cut."""
    first = dead_letter()
    second = dead_letter(error="x" * 1000, handler="billing.invoice")
    text = shown(page(viewer, list_url(DeadLetter)))

    assert rows(viewer, list_url(DeadLetter)) == [second, first]
    assert "not a CloudEvent dead billing - required attribute id is missing or empty" in text
    assert "x" * 1000 not in text
    assert {"headers", "body"} <= rows(viewer, list_url(DeadLetter))[0].get_deferred_fields()


def test_dead_letters_are_filtered_by_reason(viewer: Client) -> None:
    """Each reason is a choice."""
    dead_letter()
    unknown = dead_letter(reason=DeadLetter.Reason.UNKNOWN_TYPE)

    assert rows(viewer, list_url(DeadLetter, "?reason=unknown_type")) == [unknown]


def test_dead_letters_are_found_by_message(viewer: Client) -> None:
    """If they have come as far as having an id."""
    dead_letter()
    mine = dead_letter(message_id=MESSAGE_ID)

    assert rows(viewer, list_url(DeadLetter, f"?q={MESSAGE_ID}")) == [mine]


def test_a_dead_letter_shows_what_came_in(viewer: Client) -> None:
    """Headers and body are indented, escaped and redacted, whatever a hostile sender wrote."""
    letter = dead_letter(
        error="<script>alert(1)</script>",
        body=b'{"note": "<img src=x onerror=alert(1)>", "password": "hunter2"}',
    )
    text = page(viewer, detail_url(letter))

    assert "&lt;script&gt;alert(1)" in text
    assert "&lt;img src=x onerror" in text
    assert "<img src=x" not in text
    assert "shop.order.placed" in text
    assert "hunter2" not in text
    assert "s3cret" not in text


def test_half_a_character_does_no_harm(viewer: Client) -> None:
    """A page is UTF-8, which has no lone surrogates: they are shown as JSON escapes them."""
    letter = dead_letter(body=b'{"note": "\\ud800", "\xed\xbf\xbf": 1}', headers='{"x": "\\udfff"}')
    text = page(viewer, detail_url(letter))

    assert "&quot;note&quot;: &quot;\\ud800&quot;" in text
    assert "&quot;\\udfff&quot;: 1" in text
    assert "&quot;x&quot;: &quot;\\udfff&quot;" in text


@pytest.mark.parametrize(
    "content_type", ["", "application/octet-stream", "<b>", "application/json", "text/plain"]
)
def test_a_body_that_is_no_json_is_dumped(viewer: Client, content_type: str) -> None:
    """Byte for byte, whatever it calls itself."""
    text = page(viewer, detail_url(dead_letter(body=b"\xff\x00<b>", content_type=content_type)))

    assert "ff 00 3c 62 3e" in text
    assert "|..&lt;b&gt;|" in text


def test_a_message_shows_its_receipts_and_dead_letters(viewer: Client) -> None:
    """Those of the same id and source, each with a link."""
    message = emitted()
    about = {"message_id": str(message.message_id), "source": message.source}
    mine, dead = receipt(**about), dead_letter(**about)
    foreign = receipt(**(about | {"source": "/elsewhere"}))
    text = page(viewer, detail_url(message))

    assert f'<a href="{detail_url(mine)}">billing.invoice</a>' in text
    assert f'<a href="{detail_url(dead)}">not a CloudEvent</a>' in text
    assert detail_url(foreign) not in text


def test_receipts_of_a_message_need_their_own_permission(client: Client) -> None:
    """Who may view messages, but not receipts, is not shown any."""
    log_in(client, "django_outbox.message")
    message = emitted()
    receipt(message_id=str(message.message_id), source=message.source)
    text = page(client, detail_url(message))

    assert "billing.invoice" not in text
    assert "Receipts" not in text


def test_the_panel_of_a_message_shows_states(viewer: Client) -> None:
    """What is not processed says so, with its error, and costs no statement more."""
    message = emitted()
    about = {"message_id": str(message.message_id), "source": message.source}
    receipt(**about)
    _, before = counted(viewer, detail_url(message))
    receipt("billing.remind", **about, state="dead", attempts=16, error="ValueError: x")
    text, after = counted(viewer, detail_url(message))

    assert after == before
    assert "billing.remind dead 16" in shown(text)
    assert "ValueError: x" in text


def test_the_way_of_a_message_has_the_attempts_of_a_handler(viewer: Client) -> None:
    """When it was received, which attempts failed and where, and how it stands now."""
    message = emitted()
    about = {"message_id": str(message.message_id), "source": message.source}
    kept = [
        {"at": "2026-01-02T03:04:05+00:00", "error": f"ValueError: {n}", "process": f"host:{n}"}
        for n in range(6)
    ]
    received = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    changed = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    about |= {"received": received, "changed": changed, "last_attempts": json.dumps(kept)}
    receipt(**about, state="dead", attempts=6, error="ValueError: 5")
    way = shown(page(viewer, detail_url(message))).partition("The way it took")[2]

    steps = ["received", "ValueError: 2", "host:3", "ValueError: 4", "dead 6 attempts", "host:5"]
    places = [way.index(each) for each in steps]
    assert places == sorted(places)
    assert "ValueError: 1" not in way
    assert "5 s after it was received" in way


def test_attempts_that_cannot_be_read_are_left_out(viewer: Client) -> None:
    """An earlier version may have kept them in another form."""
    message = emitted()
    about = {"message_id": str(message.message_id), "source": message.source}
    receipt(**about, last_attempts='[{"at": 7, "seconds": "x"}, {"at": null}, 1]', state="dead")

    assert "billing.invoice dead" in shown(page(viewer, detail_url(message)))


def test_an_idempotent_task_has_its_receipt_on_its_message(viewer: Client) -> None:
    """Found by the id of the task; its name is offered where receipts are filtered by handler."""
    name = celery_tasks.once.name
    with transaction.atomic():
        sent = OutboxCelery("admin", set_as_current=False).send_task(name, (1,))
    receipt(name, message_id=sent.id, source="celery", type="celery.task")
    before = celery.current_app._get_current_object()
    celery_app.app.set_current()
    try:
        text = page(viewer, list_url(Receipt))
    finally:
        before.set_current()

    assert f"{name} processed 1" in shown(page(viewer, detail_url(Message.objects.get())))
    assert f"?handler={name}" in text


def test_a_task_with_a_key_of_its_own_has_its_receipt_on_its_message(viewer: Client) -> None:
    """Its key orders it; its id is kept apart, and receipts have that."""
    name = celery_tasks.once.name
    app = OutboxCelery("admin", set_as_current=False)
    with transaction.atomic():
        sent = app.send_task(name, (1,), outbox_key="account-1")
    receipt(name, message_id=sent.id, source="celery", type="celery.task")

    assert Message.objects.get().key == "account-1"
    assert f"{name} processed 1" in shown(page(viewer, detail_url(Message.objects.get())))


def test_nothing_can_be_changed(admin_client: Client, client: Client) -> None:
    """Retrying and discarding are no matter of editing rows; not even a superuser may."""
    for row in (receipt(), dead_letter()):
        assert admin_client.post(detail_url(row), {"handler": "x"}).status_code == 403
        delete = detail_url(row).replace("change", "delete")
        assert admin_client.post(delete, {"post": "yes"}).status_code == 403
        assert admin_client.get(list_url(type(row)) + "add/").status_code == 403
        type(row)._default_manager.get(pk=row.pk)


def test_staff_without_permission_sees_nothing(client: Client) -> None:
    """Being staff is not enough."""
    log_in(client)
    for row in (receipt(), dead_letter()):
        assert client.get(list_url(type(row))).status_code == 403
        assert client.get(detail_url(row)).status_code == 403
