"""The page of the flow: a conversation, the messages of a key, and what flows where."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import Permission, User
from django.db import transaction
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone

import outbox
from inbox.models import DeadLetter, Receipt
from outbox.flow.outline import SHOWN
from outbox.message.envelope import Envelope
from outbox.models import Message
from relay.brokers.base import Status
from relay.log import open_log
from relay.models import Parked
from relay.transfer import transfer
from tests.inbox.support import Handling, receive
from tests.inbox.support import fail as failing
from tests.kit.admin_pages import ALL_MODELS, counted, detail_url, log_in, page, shown
from tests.kit.support import Counted, RecordingBroker
from tests.outbox.flow.test_peers import hang, ok, peer, serving
from tests.outbox.flow.test_wire import message, state, told

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]
URL = "/admin/django_outbox/messaging/flow/"
MESSAGE = "django_outbox.message"
PICTURE = '<svg class="outbox-flow-'


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    relays = {"mine": {"BACKEND": "relay.brokers.local.LocalBroker"}}
    with override_settings(OUTBOX={"LANES": 1, "SOURCE": "/shop"}, RELAYS=relays):
        yield


def emit(key: str = "42", number: int = 0, **options: Any) -> Envelope:
    with transaction.atomic():
        return outbox.emit(Counted(key, number), **options)


def emit_below(cause: Envelope, count: int) -> list[Envelope]:
    about = {"correlation_id": cause.correlation_id, "causation_id": cause.id}
    with outbox.use_context(**about), transaction.atomic():
        return outbox.emit_many([Counted(f"k{n}", n) for n in range(count)])


def receipt(sent: Envelope, **options: Any) -> Receipt:
    about = {"handler": "tests.invoice", "source": sent.source, "message_id": sent.id}
    about |= {"type": sent.type, "correlation_id": sent.correlation_id}
    return Receipt.objects.create(**about | options)


def url(of: str, **others: str) -> str:
    more = "".join(f"&{name}={quote(value)}" for name, value in others.items())
    return f"{URL}?of={quote(of)}{more}"


def park(sent: Envelope) -> Parked:
    broker = RecordingBroker()
    broker.refuse = {sent.id: Status.UNROUTABLE}
    transfer(open_log("mine", using="default", start="beginning"), broker, 0, 100)
    return Parked.objects.get()


# --- A conversation ------------------------------------------------------------------------------


def test_a_conversation(client: Client) -> None:
    """By its correlation id or the id of a message: what caused what, and what became of it."""
    log_in(client, *ALL_MODELS)
    root = emit()
    [child] = emit_below(root, 1)
    found = receipt(root, state="dead", error="ValueError: password=hunter2", attempts=5)

    for name in (root.id, child.id):
        text = page(client, url(name))
        words = shown(text)
        assert f"Conversation {root.id} 2 messages 1 failed" in words
        tree = words[words.index("Which message caused which") :]
        assert tree.index(root.id) < tree.index(child.id)
        assert "✗ tests.invoice : dead" in words
        assert "5 attempts" in words
        assert "ValueError: password=•••" in words
        assert "hunter2" not in text
        assert f'href="{detail_url(found)}"' in text
        assert f'href="{detail_url(Message.objects.get(message_id=child.id))}"' in text
    assert text.count(PICTURE) == 1
    assert '<title id="outbox-sequence-title">' in text
    assert '<desc id="outbox-sequence-desc">' in text
    assert 'href="#m1"' in text
    assert 'id="m1"' in text


def test_order_is_that_of_causes_whatever_the_clocks_say(client: Client) -> None:
    """A time is a label: the effect may seem older than the cause."""
    log_in(client, *ALL_MODELS)
    root = emit()
    emit_below(root, 1)
    [earlier] = Message.objects.filter(causation_id=root.id)
    Message.objects.filter(pk=earlier.pk).update(time=timezone.now() - timedelta(days=400))

    words = shown(page(client, url(root.id)))
    tree = words[words.index("Which message caused which") :]
    assert tree.index(root.id) < tree.index(str(earlier.message_id))


def test_it_is_for_who_may_see_messages(client: Client) -> None:
    """What became of them is for who may see the rows that say so."""
    root = emit()
    receipt(root)
    parked = park(root)
    DeadLetter.objects.create(
        group="warehouse",
        reason="unknown_type",
        error="no handler",
        source=root.source,
        message_id=root.id,
        type=root.type,
        headers="{}",
        body=b"",
        digest="0" * 64,
    )
    expected = {
        "django_inbox.receipt": "tests.invoice",
        "django_relay.parked": "mine",
        "django_inbox.deadletter": "warehouse",
    }
    for label, seen in expected.items():
        User.objects.all().delete()
        log_in(client, MESSAGE, label)
        words = shown(page(client, url(root.id)))
        assert [each for each in expected.values() if f"{each} :" in words] == [seen]
    assert parked.pk

    User.objects.all().delete()
    log_in(client, *(each for each in ALL_MODELS if each != MESSAGE))
    assert client.get(url(root.id)).status_code == 404
    client.logout()
    assert client.get(url(root.id)).status_code == 302


def test_what_is_known_by_receipts_alone_is_hidden_with_them(client: Client) -> None:
    """A message of another service is nothing else here."""
    Receipt.objects.create(
        handler="h", source="/far", message_id="theirs", type="far.done", correlation_id="flow"
    )
    log_in(client, MESSAGE)

    text = page(client, url("flow"))
    assert "No message that you may see" in text
    assert "far.done" not in text


def test_the_button_that_mends_it(client: Client, handling: Handling) -> None:
    """With its permission; it leads back to the same place of the page."""
    handling(failing, pattern="tests.counted")
    root = emit()
    receive(root)
    found = Receipt.objects.get()
    Receipt.objects.update(state="dead", next_attempt_at=None)
    log_in(client, *ALL_MODELS)
    address = url(root.id, unfold="x y")
    assert "Retry" not in page(client, address)

    user = User.objects.get()
    user.user_permissions.add(Permission.objects.get(codename="retry_receipt"))
    text = page(client, address)
    assert "csrfmiddlewaretoken" in text
    [action] = re.findall(r'formaction="([^"]*/retry/[^"]*)"', text)
    response = client.post(action.replace("&amp;", "&"))
    found.refresh_from_db()
    assert found.state == "retrying"
    assert response.headers["Location"] == f"{URL}?of={root.id}&unfold=x+y"


def test_a_parked_message_is_tried_again_from_here(client: Client) -> None:
    """By the button that its page has as well."""
    root = emit()
    park(root)
    client.force_login(User.objects.create_superuser("root"))

    text = page(client, url(root.id))
    assert "Try again now" in text
    assert "Discard" not in text


def test_many_of_one_shape_are_one(client: Client) -> None:
    """The failed ones are below; each of them is a link away, some at a time."""
    log_in(client, *ALL_MODELS)
    root = emit()
    many = emit_below(root, 600)
    for each in many[100:110]:
        receipt(each, state="dead", error="no luck")
    text = page(client, url(root.id))
    words = shown(text)
    assert "&times; 600 10 failed" in words
    assert text.count("no luck") == 2 * 3
    assert len(re.findall(r'id="m\d+"', text)) == 5
    opened = re.search(r'href="([^"#]*unfold=[^"#]*)#', text)
    assert opened is not None

    seen: set[str] = set()
    address: str | None = opened[1].replace("&amp;", "&")
    for _ in range(4):
        assert address is not None
        text = page(client, address)
        assert len(re.findall(r'id="m\d+"', text)) <= SHOWN
        seen |= {each.id for each in many if each.id in text}
        more = re.search(r'href="([^"]*start=[^"]*)">and \d', text)
        address = more[1].replace("&amp;", "&") if more else None
        if address is None:
            break
    assert seen == {each.id for each in many}


@pytest.mark.parametrize("shape", ["wide", "deep", "mixed"])
def test_five_thousand_messages(client: Client, shape: str) -> None:
    """A page of bounded size, of bounded depth, with the same few statements."""
    log_in(client, *ALL_MODELS)
    root = emit()
    if shape == "deep":
        names = [Message(**columns(root, n)) for n in range(5000)]
        for before, each in pairwise(names):
            each.causation_id = str(before.message_id)
        Message.objects.bulk_create(names)
    elif shape == "mixed":
        rows = [Message(**columns(root, n) | {"type": f"t.{n % 700}"}) for n in range(5000)]
        Message.objects.bulk_create(rows)
    else:
        emit_below(root, 5000)
    text, statements = counted(client, url(root.id))

    assert "5,001 messages" in shown(text)
    assert len(text) < 700_000
    assert statements < 50
    assert depth(text) < 60


def columns(root: Envelope, number: int) -> dict[str, Any]:
    return {
        "message_id": outbox_id(number),
        "type": "tests.counted",
        "version": 1,
        "source": "/shop",
        "topic": "t",
        "time": timezone.now(),
        "correlation_id": root.correlation_id,
        "causation_id": root.id,
        "content_type": "application/json",
        "data": b"{}",
        "lane": 0,
    }


def outbox_id(number: int) -> str:
    return f"01900000-0000-7000-8000-{number:012d}"


def depth(text: str) -> int:
    deepest = now = 0
    for slash in re.findall(r"<(/?)(?:ol|ul|li|div|form|section|g|a)\b", text):
        now += -1 if slash else 1
        deepest = max(deepest, now)
    return deepest


def test_the_statements_are_as_many_whatever_is_shown(client: Client) -> None:
    """One for the rows of each model that can be mended."""
    client.force_login(User.objects.create_superuser("root"))
    root = emit()
    receipt(root, state="dead", error="x")
    page(client, url(root.id))  # what is cached is cached
    _, few = counted(client, url(root.id))
    for number, each in enumerate(emit_below(root, 100)):
        receipt(each, state="dead", error="x", handler=f"h{number}")
    _, many = counted(client, url(root.id))

    assert many == few <= 30


@pytest.mark.parametrize(
    "name", ["<b>x</b>", "\u202eevil", "💥" * 50, "a&b=c", "'\"><script>alert(1)</script>", "%"]
)
def test_hostile_names(client: Client, name: str) -> None:
    """Of a conversation, a key, a type, a handler and an error: shown, never obeyed."""
    log_in(client, *ALL_MODELS)
    root = emit(key=name[:50], correlation_id=name[:50])
    receipt(root, handler=name[:50], state="dead", error=name)
    Message.objects.update(type=name[:50], source=name[:50])

    for address in (url(name[:50]), url(name[:50], **{"as": "key"}), URL):
        text = page(client, address, counts=True)
        assert "<b>x" not in text
        assert "<script>alert" not in text


@pytest.mark.parametrize("name", ["a\x00b", "x" * 256, "nobody-knows"])
def test_a_name_of_nothing(client: Client, name: str) -> None:
    """Is told, and the form is there to ask for another."""
    log_in(client, *ALL_MODELS)
    text = page(client, url(name))

    assert 'name="of"' in text
    assert PICTURE not in text


@pytest.mark.parametrize("value", ["-1", "x", "9" * 30, "²", "٣"])
def test_places_that_are_none(client: Client, value: str) -> None:
    """Count as the beginning."""
    log_in(client, *ALL_MODELS)
    root = emit()

    for name in ("start", "before", "at", "unfold"):
        assert root.id in page(client, url(root.id, **{name: value}))
    assert client.get(f"{URL}below").status_code == 404


def test_a_message_that_belongs_to_another_conversation(client: Client) -> None:
    """There is a link to that, since a message cannot take a conversation's name away."""
    log_in(client, *ALL_MODELS)
    emit(correlation_id="flow-1")
    Receipt.objects.create(
        handler="h", source="/evil", message_id="flow-1", type="x", correlation_id="their flow"
    )
    text = page(client, url("flow-1"))

    assert f'href="{URL}?of=their+flow"' in text


# --- The messages of a key -----------------------------------------------------------------------


def test_the_messages_of_a_key(client: Client) -> None:
    """Across types and conversations, in the order of the log, with what state each is in."""
    log_in(client, *ALL_MODELS)
    first, second = emit(), emit(number=1)
    emit(key="other")

    response = client.get(url("42"))  # no conversation has this name
    assert response.headers["Location"] == url("42", **{"as": "key"})
    text, statements = counted(client, url("42", **{"as": "key"}))
    words = shown(text)
    assert words.index(first.id) < words.index(second.id)
    assert words.count("pending") == 2
    assert f'href="{URL}?of={second.id}"' in text
    assert "other" not in words
    assert statements <= 12


def test_a_name_of_both(client: Client) -> None:
    """The conversation is shown, and a link leads to the messages of the key."""
    log_in(client, *ALL_MODELS)
    emit(correlation_id="42", key="other")
    emit()
    text = page(client, url("42"))

    assert "Conversation 42" in text
    assert f'href="{URL}?of=42&amp;as=key"' in text


def test_a_key_of_many_messages(client: Client) -> None:
    """The newest are shown, and older ones are a page away."""
    log_in(client, *ALL_MODELS)
    with transaction.atomic():
        sent = outbox.emit_many([Counted("42", n) for n in range(150)])
    text = page(client, url("42", **{"as": "key"}))
    assert sent[-1].id in text
    assert sent[49].id not in text
    older = re.search(r'href="([^"]*before=[^"]*)"', text)
    assert older is not None

    text = page(client, older[1].replace("&amp;", "&"))
    assert all(each.id in text for each in sent[:50])
    assert sent[50].id not in text


def test_the_messages_of_a_key_in_other_services(client: Client) -> None:
    """In one line of time, a message behind its cause whatever its clock says."""
    log_in(client, *ALL_MODELS)
    root = emit()
    theirs = [
        message(id="t1", causation_id=root.id, type="far.billed", key="42", correlation_id="c 1"),
        message(id="t2", type="far.other", key="43", time="2020-01-01T00:00:00Z"),
    ]
    theirs[0]["time"] = "2020-01-01T00:00:00Z"
    body = told(correlation_id="42", messages=theirs)
    with serving(ok(body)) as far, serving(ok(b"", status="404 No")) as broken:
        peers = {"far": peer(far), "broken": peer(broken)}
        raw = {name: {"URL": each.URL, "TOKEN": each.TOKEN} for name, each in peers.items()}
        with override_settings(FLOW={"PEERS": raw}):
            text = page(client, url("42", **{"as": "key"}))
        assert far.requests[0].startswith(b"GET /flow/?key=42 ")

    words = shown(text)
    table = words[words.index("All messages with the key 42") :]
    assert table.index("tests.counted") < table.index("far.billed")
    assert "far ▸ /far" in table
    assert f'href="{URL}?of=c+1"' in text
    assert "far.other" not in text
    assert "broken did not tell: it answers 404" in table


# --- What flows where ----------------------------------------------------------------------------


def test_what_flows_where(client: Client, handling: Handling) -> None:
    """As a picture and in numbers, with what code and rows say differently."""
    log_in(client, *ALL_MODELS)

    def follow(event: Counted, sent: Envelope) -> None:
        if event.number == 0:
            outbox.emit(Counted(event.key, 1))

    handling(follow, name="tests.invoice", pattern="tests.counted")
    receive(emit())
    receipt(emit(number=2), handler="gone.handler", state="dead", type="gone.type")
    text, statements = counted(client, URL, counts=True)
    words = shown(text)

    assert "tests.invoice: g" in words
    assert "not in the code · 1 dead" in words
    assert "1 &times; tests.counted" in words
    assert "Seen and not declared type gone.type, handler gone.handler" in words
    assert "95 % within" in words
    assert text.count(PICTURE) == 1
    assert statements <= 16


def test_receipts_are_no_part_of_it_for_who_may_not_see_them(client: Client) -> None:
    """What the code declares is no secret from who may see messages."""
    receipt(emit(), handler="gone.handler")
    log_in(client, MESSAGE)

    assert "gone.handler" not in page(client, URL, counts=True)


# --- Links ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", ["message", "receipt", "letter", "parked"])
def test_pages_of_rows_lead_here(client: Client, make: str) -> None:
    """From a message, a receipt, a dead letter and a parked message."""
    log_in(client, *ALL_MODELS)
    root = emit(correlation_id="flow 1")
    letter: dict[str, Any] = {"group": "g", "reason": "unknown_type", "headers": "{}", "body": b""}
    makers: dict[str, Callable[[], Any]] = {
        "message": lambda: Message.objects.get(),
        "receipt": lambda: receipt(root),
        "letter": lambda: DeadLetter.objects.create(message_id=root.id, **letter),
        "parked": lambda: park(root),
    }
    row = makers[make]()
    of = "flow+1" if make in ("message", "receipt") else root.id

    assert f'<a href="{URL}?of={of}">Show the whole flow</a>' in page(client, detail_url(row))
    User.objects.all().delete()
    log_in(client, row._meta.label_lower)
    if make != "message":
        assert URL not in page(client, detail_url(row))


def test_it_is_a_tab_beside_the_others(client: Client) -> None:
    """Under the one entry of the index."""
    log_in(client, *ALL_MODELS)
    entry = reverse("admin:django_outbox_messaging_changelist")

    assert f'href="{URL}"' in page(client, entry, counts=True)


# --- Other services ------------------------------------------------------------------------------


def test_what_other_services_know(client: Client) -> None:
    """Is shown as theirs; and who did not tell, and why."""
    log_in(client, *ALL_MODELS)
    root = emit()
    theirs = message(id="t1", causation_id=root.id, type="far.billed", key="<b>")
    about = state(message_id=root.id, source="/shop", type=root.type, by="far.invoice")
    body = told(
        correlation_id=root.id, messages=[theirs], stages=[about | {"of": "django_inbox.receipt"}]
    )
    with serving(ok(body)) as far, serving(ok(b"", status="500 No")) as broken:
        peers = {"far": peer(far), "broken": peer(broken)}
        raw = {name: {"URL": each.URL, "TOKEN": each.TOKEN} for name, each in peers.items()}
        with override_settings(FLOW={"PEERS": raw}):
            text = page(client, url(root.id))
            User.objects.all().delete()
            log_in(client, MESSAGE)
            fewer = page(client, url(root.id))

    words = shown(text)
    assert "2 messages 1 failed" in words
    assert "far ▸ far.invoice: dead" in words
    tree = words[words.index("Which message caused which") :]
    assert tree.index(root.id) < tree.index("far.billed")
    assert "far ▸ /far" in words
    assert "far: messages 1, states 1" in words
    assert "broken did not tell: it answers 500" in words
    assert "&lt;b&gt;" in text
    assert "t0ken" not in text
    assert "far.invoice" not in fewer
    assert "far.billed" in fewer


def test_what_only_another_service_knows(client: Client) -> None:
    """Is a conversation as well."""
    log_in(client, *ALL_MODELS)
    body = told(correlation_id="theirs", messages=[message(type="far.billed")])
    with serving(ok(body)) as far:
        raw = {"far": {"URL": peer(far).URL, "TOKEN": "t"}}
        with override_settings(FLOW={"PEERS": raw}):
            text = page(client, url("t1"))

    assert "far.billed" in text
    assert f'href="{URL}?of=theirs"' in text


def test_a_service_that_hangs_delays_nobody_for_long(client: Client) -> None:
    """What is known here is shown after a second."""
    log_in(client, *ALL_MODELS)
    root = emit()
    with serving(hang) as far:
        raw = {"far": {"URL": peer(far).URL, "TOKEN": "t"}}
        with override_settings(FLOW={"PEERS": raw}):
            text = page(client, url(root.id))

    assert "far did not tell: it did not answer in time" in text
    assert root.id in text
