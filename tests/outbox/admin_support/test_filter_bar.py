"""The bar above every list: what it finds, what it offers, and what it says of a mistake."""

from dataclasses import replace
from html import unescape
from urllib.parse import urlencode

import pytest
from django.db import connection, transaction  # noqa: F401 - a skipif names it
from django.db.models import BooleanField, Func, Model, Q
from django.test import Client
from django.urls import reverse

import outbox
from inbox.models import Binding, DeadLetter, Receipt
from outbox.admin_support import base
from outbox.filtering import qualifiers
from outbox.filtering.qualifiers import Condition, Qualifier
from outbox.models import Message, Scheduled
from relay.models import Checkpoint, Parked
from tests.kit.admin_pages import counted, list_url, log_in, page, rows, shown
from tests.kit.support import Registered

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]

MODELS: list[type[Model]] = [Message, Scheduled, Checkpoint, Parked, Receipt, DeadLetter, Binding]


@pytest.fixture(autouse=True)
def _types(registered: Registered) -> None:
    registered("bar.order.placed", key=lambda payload: payload.get("order"))
    registered("bar.invoice.paid", key=lambda payload: payload.get("order"))


def emit(event: str = "bar.order.placed", order: str = "1", **options: object) -> Message:
    with transaction.atomic():
        envelope = outbox.emit(event, {"order": order}, **options)
    return Message.objects.get(message_id=envelope.id)


def url(text: str, model: type[Model] = Message, **others: str) -> str:
    return list_url(model, f"?{urlencode({'q': text, **others})}")


def test_a_filter_finds_what_it_says(viewer: Client) -> None:
    """By type, by pattern, by key; without, with quotes; all of it must hold."""
    one, two = emit(order="1"), emit(order="two words")
    paid = emit("bar.invoice.paid", order="1", correlation_id="flow:7")

    for text, found in (
        ("type:bar.order.*", [two, one]),
        ("type:bar.# key:1", [paid, one]),
        ("-type:bar.order.placed", [paid]),
        ("two words", [two]),
        ('key:"two words"', [two]),
        ('"flow:7"', [paid]),
        ("correlation:flow:7 type:bar.order.placed", []),
        ("state:pending age:<1h", [paid, two, one]),
        ("age:>1h", []),
        (f"id:{one.message_id}", [one]),
        (f"position:<{two.pk}", [one]),
        ("receipt:dead", []),
    ):
        assert rows(viewer, url(text)) == found, text


def test_it_goes_with_the_filters_beside_it(viewer: Client) -> None:
    """And they keep it, as it keeps them."""
    one, _ = emit(order="1"), emit(order="2")
    emit("bar.invoice.paid", order="1")
    address = url("key:1", type="bar.order.placed")

    assert rows(viewer, address) == [one]
    text = unescape(page(viewer, address))
    assert '<input type="hidden" name="type" value="bar.order.placed">' in text
    assert "q=key%3A1&type=bar.invoice.paid" in text


def test_a_mistake_is_told_above_an_empty_list(viewer: Client) -> None:
    """What is wrong, where, and what is possible, as links that mend it."""
    emit()
    text = page(viewer, url("key:1 state:deed"))

    assert rows(viewer, url("key:1 state:deed")) == []
    assert 'role="alert"' in text
    assert "There is no “deed” here." in text
    assert "key:1 <mark>state:deed</mark>" in text
    assert 'aria-invalid="true"' in text
    assert '<a href="?q=key%3A1+state%3Apending"><code>pending</code></a>' in text
    assert len(rows(viewer, list_url(Message, "?q=key%3A1+state%3Apending"))) == 1


def test_a_name_that_is_a_mistake_can_be_mended_too(viewer: Client) -> None:
    """The value stays."""
    text = page(viewer, url("sate:dead"))

    assert "Is “state:” meant?" in text
    assert '<a href="?q=state%3Adead"><code>state:</code></a>' in text


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "text", ["<script>:1", 'error:"<b>', "a:\0", "\0", "x" * 3_000, "a:b " * 30, "'--", "%s", "\\"]
)
def test_whatever_is_typed_gets_a_page(model: type[Model], text: str, viewer: Client) -> None:
    """Escaped, and never everything where it cannot be understood."""
    found = page(viewer, url(text, model))

    assert "<script>:1" not in found
    assert rows(viewer, url(text, model)) == []


@pytest.mark.parametrize("model", MODELS)
def test_every_list_has_a_bar_and_the_way_to_the_others(model: type[Model], viewer: Client) -> None:
    """With what can be looked for, and suggestions for the browser."""
    text = page(viewer, list_url(model))

    assert 'id="searchbar"' in text
    assert 'list="outbox-suggestions"' in text
    assert "What can be looked for" in text
    for other in MODELS:
        current = ' aria-current="page"' if other is model else ""
        assert f'<a href="{list_url(other)}"{current}>' in text


def test_suggestions_go_on_with_what_is_there(viewer: Client) -> None:
    """Types and states that are known."""
    text = page(viewer, list_url(Message))
    assert '<option value="type:bar.order.placed">' in text
    assert '<option value="state:published">' in text

    text = page(viewer, url("key:1"))
    assert '<option value="key:1 state:published">' in text
    assert '<a href="?q=key%3A1+age%3A%3E1h">' in text


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="about PostgreSQL")
def test_what_takes_too_long_is_given_up(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is said what would help; other errors are told as such."""
    monkeypatch.setattr(base, "LIMIT", 0.05)
    slow = Func(template="(pg_sleep(1) IS NULL)", output_field=BooleanField())
    found = {model: replace(each) for model, each in qualifiers._declared.items()}
    qualifier = Qualifier(name="slow", meaning="", condition=lambda v, u: Condition(Q(slow)))
    found[Message] = replace(found[Message], qualifiers={"slow": qualifier})
    monkeypatch.setattr(qualifiers, "_declared", found)
    emit()

    text = page(viewer, url("slow:x"))
    assert "There is too much to compare in time" in text
    assert rows(viewer, url("slow:x")) == []
    assert page(viewer, list_url(Message))  # the transaction goes on


def test_a_filter_costs_no_statement_by_itself(viewer: Client) -> None:
    """Nor does what it offers."""
    emit()
    none = counted(viewer, list_url(Message))[1]

    assert counted(viewer, url("key:1"))[1] == none + 1
    assert counted(viewer, url("key:1 type:bar.#"))[1] == none + 1
    assert counted(viewer, url("key:"))[1] < none


def test_the_tab_leads_to_the_list(client: Client) -> None:
    """Under "Messaging", with the filter of the address; and the list has the tabs."""
    log_in(client, "django_outbox.message")
    tab = reverse("admin:django_outbox_messaging_page", args=("messages",))

    assert client.get(f"{tab}?q=key:1").headers["Location"] == list_url(Message, "?q=key:1")
    text = page(client, list_url(Message))
    assert f'<a href="{tab}" aria-current="page">Messages</a>' in text
    assert "Receipts" not in shown(text)
