"""The admin pages of messages."""

import re
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction
from django.test import Client

import outbox
from outbox.admin_support import keyset
from outbox.extensions import message_pages
from outbox.extensions.message_pages import MessageExtension, Panel
from outbox.filtering import qualifiers
from outbox.filtering.messages import register_own
from outbox.message.envelope import Envelope
from outbox.models import Message
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
from tests.kit.support import Registered

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]


@pytest.fixture(autouse=True)
def _types(registered: Registered) -> None:
    registered("admin.order.placed", key=lambda payload: payload.get("order"))
    registered("admin.invoice.paid")
    registered("admin.picture.taken")


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation with neither relay nor inbox."""
    monkeypatch.setattr(message_pages, "_extensions", [])
    monkeypatch.setattr(qualifiers, "_declared", {})
    register_own()


def emit(payload: object = None, event: str = "admin.order.placed", **options: object) -> Message:
    with transaction.atomic():
        envelope = outbox.emit(event, payload or {"order": 1}, **options)
    return find(envelope)


def find(envelope: Envelope) -> Message:
    return Message.objects.get(message_id=envelope.id)


def test_the_list_shows_messages_newest_first(viewer: Client) -> None:
    """Time, type, key, state, age and position, each in a column."""
    old, new = emit({"order": 41}), emit({"order": 42})
    text = shown(page(viewer, list_url(Message)))

    assert rows(viewer, list_url(Message)) == [new, old]
    for heading in ("Time", "Type", "Key", "State", "Age", "Position"):
        assert heading in text
    assert re.search(rf"admin\.order\.placed 42 pending \d s {new.pk}", text)


@pytest.mark.parametrize("query", ["", "?state=pending:default", "?type=admin.order.placed"])
def test_a_list_costs_the_same_for_one_and_a_hundred(viewer: Client, query: str) -> None:
    """The number of statements does not depend on the number of rows."""
    numbers = []
    for count in (1, 99):
        with transaction.atomic():
            outbox.emit_many(
                [
                    outbox.Draft(event="admin.order.placed", payload={"order": n})
                    for n in range(count)
                ]
            )
        text, number = counted(viewer, list_url(Message, query))
        numbers.append(number)
    assert text.count("field-position") == 100

    # session, user, twice permissions, cursors for the filter, [filter,] rows, cursors, states
    assert numbers == [{"": 8, "?s": 9, "?t": 10}[query[:2]] + for_the_limit()] * 2


def test_the_list_does_not_read_payloads(viewer: Client) -> None:
    """A hundred payloads of a megabyte would be too much for a list."""
    emit()

    assert "data" in rows(viewer, list_url(Message))[0].get_deferred_fields()


def test_a_page_of_a_message_costs_the_same_for_any_flow(viewer: Client) -> None:
    """Children do not add statements."""
    numbers = []
    parent = emit(correlation_id="flow")
    for count in (1, 30):
        for _ in range(count):
            emit(correlation_id="flow", causation_id=str(parent.message_id))
        numbers.append(counted(viewer, detail_url(parent))[1])

    # session, user, message, publications, what is parked, twice permissions, receipts, dead
    # letters, children
    assert numbers == [10, 10]


def test_a_message_is_shown_with_all_it_has(viewer: Client) -> None:
    """Payload indented, identity, attributes, trace."""
    message = emit({"order": 7}, attributes={"tenant": "acme"}, subject="order/7")
    text = shown(page(viewer, detail_url(message)))

    for part in (
        "&quot;order&quot;: 7",
        "application/json, 11 bytes",
        "&quot;tenant&quot;: &quot;acme&quot;",
        "order/7",
        str(message.message_id),
        str(message.transaction_id),
    ):
        assert part in text


def test_a_message_says_what_code_it_is_of(viewer: Client) -> None:
    """In the form that we give it; anything else is an attribute as any other."""
    with outbox.use_context(origin="http:POST orders/<int:pk>/"):
        message = emit()
    assert "Origin: http:POST orders/&lt;int:pk&gt;/ " in shown(page(viewer, detail_url(message)))
    other = emit(attributes={"origin": "the moon"})
    assert "Origin: - " in shown(page(viewer, detail_url(other)))


def test_a_payload_is_escaped_and_redacted(viewer: Client) -> None:
    """Neither markup nor secrets of a payload reach the page, nor those of attributes."""
    message = emit(
        {"order": 1, "note": "</pre><script>alert(1)</script>", "card": {"number": "4111"}},
        attributes={"authtoken": "s3cret"},
    )
    text = page(viewer, detail_url(message))

    assert "alert(1)&lt;/script&gt;" in text
    assert "<script>alert" not in text
    assert "4111" not in text
    assert "s3cret" not in text


def test_bytes_are_dumped(viewer: Client) -> None:
    """A payload that is not JSON is shown in hexadecimal."""
    message = emit(b"\x00\x01<b>", "admin.picture.taken", content_type="image/x-test")
    text = page(viewer, detail_url(message))

    assert "00 01 3c 62 3e" in text
    assert "image/x-test, 5 bytes" in text


def test_search_finds_exact_values(viewer: Client) -> None:
    """A message id, a key or a correlation id finds its messages; a part of one finds nothing."""
    first = emit({"order": 41}, correlation_id="flow-1")
    second = emit({"order": 42}, correlation_id="flow-1")

    assert rows(viewer, list_url(Message, f"?q={first.message_id}")) == [first]
    assert rows(viewer, list_url(Message, "?q=42")) == [second]
    assert rows(viewer, list_url(Message, "?q=flow-1")) == [second, first]
    assert rows(viewer, list_url(Message, "?q=flow")) == []
    assert rows(viewer, list_url(Message, f"?q={str(first.message_id)[:8]}")) == []


def test_search_and_filters_combine(viewer: Client) -> None:
    """The type filter applies to what was searched for."""
    placed = emit(correlation_id="flow")
    paid = emit({}, "admin.invoice.paid", correlation_id="flow")

    assert rows(viewer, list_url(Message, "?q=flow&type=admin.invoice.paid")) == [paid]
    assert rows(viewer, list_url(Message, "?q=flow&type=admin.order.placed")) == [placed]


def test_pages_lead_to_every_message_once(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Following "Older" and "Newer" shows all, in both directions, also of a search."""
    monkeypatch.setattr("outbox.admin.messages.MessageAdmin.list_per_page", 3)
    messages = [emit(correlation_id="flow") for _ in range(8)][::-1]
    for query in ("?", "?q=flow"):
        url, seen = list_url(Message, query), []
        while url:
            changelist = viewer.get(url).context["cl"]
            seen += changelist.result_list
            last, url = url, changelist.older_url and list_url(Message, changelist.older_url)
        assert seen == messages

        back = viewer.get(last).context["cl"].newer_url
        assert rows(viewer, list_url(Message, back)) == messages[3:6]


def test_a_rare_type_is_looked_for_in_parts(
    viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an index, a page looks at a bounded number of messages and offers to go on."""
    monkeypatch.setattr(keyset, "SPAN", 2)
    rare = emit({}, "admin.invoice.paid")
    for _ in range(3):
        emit()
    url = list_url(Message, "?type=admin.invoice.paid")

    assert rows(viewer, url) == []
    assert "Look further back" in page(viewer, url)
    older = viewer.get(url).context["cl"].older_url
    assert rows(viewer, list_url(Message, older)) == [rare]


def test_types_are_those_of_the_registry(viewer: Client) -> None:
    """The filter offers what the service knows, whether it was ever emitted or not."""
    text = page(viewer, list_url(Message))

    assert "?type=admin.invoice.paid" in text
    assert "?type=admin.order.placed" in text


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("last-hour", [0, 90]),
        ("last-day", [0, 90, 5_000]),
        ("over-minute", [90, 5_000, 100_000]),
        ("over-hour", [5_000, 100_000]),
        ("over-day", [100_000]),
        ("nonsense", [0, 90, 5_000, 100_000]),
    ],
)
def test_the_age_filter(viewer: Client, query: str, expected: list[int]) -> None:
    """By the time of the message, found through the time in its id."""
    now = datetime.now(UTC)
    ages = {}
    for age in (100_000, 5_000, 90, 0):
        message, moment = emit(), now - timedelta(seconds=age)
        ages[message.pk] = age
        made = (int(moment.timestamp() * 1000) << 80) | (0x7 << 76) | (0b10 << 62) | age
        Message.objects.filter(pk=message.pk).update(time=moment, message_id=uuid.UUID(int=made))

    found = [ages[message.pk] for message in rows(viewer, list_url(Message, f"?age={query}"))]
    assert found == expected


def test_the_flow_links_parent_and_children(viewer: Client) -> None:
    """What led to a message and what it led to, and the page of the whole flow."""
    parent = emit(correlation_id="flow 1")
    message = emit(correlation_id="flow 1", causation_id=str(parent.message_id))
    child = emit(correlation_id="flow 1", causation_id=str(message.message_id))
    stranger = emit(correlation_id="flow 2", causation_id=str(message.message_id))
    text = page(viewer, detail_url(message))

    assert f'<a href="{detail_url(parent)}">' in text
    assert f'<a href="{detail_url(child)}">' in text
    assert detail_url(stranger) not in text
    assert '/messaging/flow/?of=flow+1"' in text


def test_a_parent_from_elsewhere_is_named(viewer: Client) -> None:
    """A cause that another service has published, under an id of any form, is no link."""
    text = shown(page(viewer, detail_url(emit(causation_id="order-service/17"))))

    assert "not in this outbox order-service/17" in text


def test_nothing_can_be_changed(viewer: Client) -> None:
    """No page to add or delete, no way to save, not even for those who may do everything else."""
    message = emit()
    text = page(viewer, detail_url(message))

    assert 'name="_save"' not in text
    assert viewer.get(list_url(Message) + "add/").status_code == 403
    assert viewer.post(detail_url(message), {"type": "other"}).status_code == 403
    assert viewer.post(detail_url(message).replace("change", "delete")).status_code == 403
    assert find_type(message) == "admin.order.placed"


def find_type(message: Message) -> str:
    return Message.objects.get(pk=message.pk).type


def test_a_superuser_can_change_nothing_either(admin_client: Client) -> None:
    """Messages are facts for everybody."""
    message = emit()

    assert admin_client.post(detail_url(message), {"type": "other"}).status_code == 403
    assert admin_client.post(detail_url(message).replace("change", "delete")).status_code == 403
    assert "delete_selected" not in page(admin_client, list_url(Message))


def test_staff_without_permission_sees_nothing(client: Client) -> None:
    """Being staff is not enough."""
    message = emit()
    log_in(client)

    assert client.get(list_url(Message)).status_code == 403
    assert client.get(detail_url(message)).status_code == 403


def test_other_lookups_are_refused(viewer: Client) -> None:
    """Filtering by any column would be slow, and by data a way around the redaction."""
    emit({"order": 1, "password": "hunter2"})

    for query in ("?data__contains=hunter2", "?type__icontains=shop", "?key=1"):
        assert viewer.get(list_url(Message, query)).status_code == 400


@pytest.mark.parametrize(
    "query", ["?p=nonsense", "?p=before-999999999999999999", "?state=x", "?o=1"]
)
def test_nonsense_in_the_address_does_no_harm(viewer: Client, query: str) -> None:
    """What is not understood is left out."""
    message = emit()

    assert rows(viewer, list_url(Message, query)) == [message]


@pytest.mark.usefixtures("alone")
def test_pages_work_without_relay_and_inbox(viewer: Client) -> None:
    """Alone, the outbox shows messages; nothing says what has become of them."""
    message = emit()
    text = shown(page(viewer, list_url(Message)))

    assert "State" not in text
    assert "pending" not in text
    assert "Flow" in page(viewer, detail_url(message))


@pytest.fixture
def extension(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An extension of another app; returns how many messages it was asked for at once."""
    asked: list[int] = []

    class Shouting(MessageExtension):
        column = "Loudness"

        def cells(self, messages: list[Message], using: str) -> dict[int, str]:  # type: ignore[override]
            asked.append(len(messages))
            return {messages[0].pk: "<loud>"}

        def panels(self, message: Message, request: object) -> list[Panel]:
            return [Panel(title="Noise", headings=("dB",), rows=[["<120>"]])]

    monkeypatch.setattr(message_pages, "_extensions", [])
    message_pages.extend_messages(Shouting())
    return asked


def test_an_app_can_extend_the_pages(viewer: Client, extension: list[int]) -> None:
    """A column, asked for once a page, and a panel; what is no HTML is escaped."""
    emit()
    message = emit()
    text = page(viewer, list_url(Message))

    assert "Loudness" in text
    assert "&lt;loud&gt;" in text
    assert extension == [2]
    assert "&lt;120&gt;" in page(viewer, detail_url(message))
