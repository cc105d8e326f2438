"""What is hidden is not confirmed: no filter, name or hash tells whether a guess is right."""

import hashlib
import json
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client, override_settings
from django.utils import timezone

import outbox
from inbox.delivery import Delivery
from inbox.models import DeadLetter, Receipt
from outbox.context import Context, use_context
from outbox.error_text import masked
from outbox.extensions.failures import sources
from outbox.failures.grouping import find, fingerprint
from outbox.filtering.qualifiers import select
from outbox.models import Message
from outbox.operations import write_down
from relay.models import Parked
from tests.kit.admin_pages import detail_url, list_url, log_in, page, rows
from tests.kit.api import VIEW, Caller

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]
SECRET = "Denied: password=hunter2 for bob\nnot in time"


def parked(error: str = SECRET) -> Parked:
    return Parked.objects.create(
        relay="default",
        lane=0,
        position=Parked.objects.count() + 1,
        message_id="00000000-0000-7000-8000-000000000001",
        type="a.b",
        topic="a.b",
        key="k",
        state="dead",
        reason="nacked",
        error=error,
        attempts=1,
        parked_at=timezone.now(),
    )


def receipt(error: str = SECRET) -> Receipt:
    return Receipt.objects.create(
        handler="h", source="/s", message_id="1", type="a.b", state="dead", error=error
    )


def letter(**values: Any) -> DeadLetter:
    about = {"group": "g", "reason": "undecodable", "headers": "{}", "body": b"x", "error": SECRET}
    return DeadLetter.objects.create(**about | {"digest": "d" * 64} | values)


ROWS = {"parked": parked, "receipts": receipt, "dead-letters": letter}


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("error:hunter2", False),
        ("error:HUNTER", False),
        ("error:word=h", False),
        ('error:"for bob"', None),  # the rest of its line is compared on SQLite alone
        ("error:Denied", True),
        ('error:"NOT IN time"', True),
        ("-error:hunter2", True),
        ("-error:Denied", False),
    ],
)
def test_a_filter_confirms_nothing_of_what_is_masked_in_an_error(
    client: Client, kind: str, text: str, found: bool | None
) -> None:
    """Neither the list of the admin nor the API, nor what an action would be done to."""
    row = ROWS[kind]()
    if found is None:
        found = connection.vendor == "sqlite"
    expected = [row.pk] if found else []
    viewer = Caller("viewer", *VIEW)
    assert [int(each["id"]) for each in viewer.get(kind, q=text)["results"]] == expected
    everything = type(row)._default_manager.all()
    assert [each.pk for each in select(type(row), text, "default").of(everything)] == expected

    viewer.user.is_staff = True
    viewer.user.save()
    client.force_login(viewer.user)
    listed = rows(client, list_url(type(row), "?state=all&q=" + text.replace(" ", "%20")))
    assert [each.pk for each in listed] == expected


@pytest.mark.parametrize(
    "error",
    [
        "connect amqp://bob:xtoken=s3cret@host failed",
        "x://" + "a" * 299 + "S@host",
        "x://" + "a" * 310 + ",token=S@3 host",
        "Key (password, email)=(s3cret, b@x) already exists.",
        "Key (email)=(bob@x) already exists.",
        "Failing row contains (1, s3cret).",
        "[type=int, input_value='s3cret', input_type=str]",
        '{"card_number" : "4111 1111 1111"}',
        "{'Access-Token': 's3cret'}",
        "pa\u017f\u017fword=s3cret",
        "TOKEN=>s3cret",
        "iban: DE02 1203 0000 0000 2020 51",
        "authorization: Bearer s3cret",
        'secret\\"]: (s3cret)',
        "password=one\npassword =\ttwo",
    ],
)
def test_whatever_is_masked_is_not_compared(error: str) -> None:
    """Each piece of three characters that only the secret has finds nothing."""
    parked(error)
    shown = masked(error, ("password", "token", "secret", "authorization", "card", "iban"))
    pieces = {error[at : at + 3] for at in range(len(error) - 2)}
    hidden = [each for each in pieces if each.lower() not in shown.lower() and "\n" not in each]
    for each in hidden:
        value = '"' + each.replace("\\", "\\\\").replace('"', '\\"') + '"'
        found = select(Parked, f"error:{value}", "default").of(Parked.objects.all())
        assert not found.exists(), each


@pytest.mark.parametrize("words", [(), ("pass-word",), ("a.b",), ("päss", "ключ"), ("*", "(", "[")])
def test_any_words_may_be_masked(words: tuple[str, ...]) -> None:
    """They are no regular expressions."""
    with override_settings(OUTBOX={"REDACT": words}):
        parked("Denied: PASS_WORD=s3cret")
        found = select(Parked, "error:s3cret", "default").of(Parked.objects.all())
        assert found.exists() is (words != ("pass-word",))


def test_the_name_of_a_group_of_failures_is_the_same_for_any_secret() -> None:
    """Else whoever knows how it is made tries secrets until the name comes out."""
    for error in ("Denied: password=hunter2", "Denied: password=letmein"):
        Parked.objects.all().delete()
        parked(error)
        source = next(each for each in sources() if each.model is Parked)
        [group] = find(source, "default").groups
        assert "•••" in group.message
        names = {group.fingerprint}
        assert fingerprint(source.name, source.named([group.newest.number], "default")[0]) in names
    parked("Denied: password=hunter2")
    [group] = find(source, "default").groups
    assert group.count == 2


def test_a_dead_letter_tells_no_hash_of_what_it_hides(client: Client) -> None:
    """With all else known, a hash of the body would confirm what is masked in it."""
    received = Delivery(
        headers={}, body=b'{"password": "hunter2"}', content_type="application/json", topic="t"
    )
    digest = received.digest()
    row = letter(body=received.body, digest=digest, message_id="")
    viewer = Caller("viewer", *VIEW)
    viewer.user.is_staff = True
    viewer.user.save()
    client.force_login(viewer.user)
    told = json.dumps(viewer.get(f"dead-letters/{row.pk}"))
    shown = page(client, detail_url(row)) + page(client, list_url(DeadLetter)) + str(row)
    body = hashlib.sha256(received.body).hexdigest()
    for text in (told, shown):
        assert digest[:12] not in text
        assert body[:12] not in text
    same = letter(digest=digest, group="other", message_id="")
    names = {viewer.get(f"dead-letters/{each.pk}")["digest"] for each in (row, same)}
    assert len(names) == 1


def test_the_error_of_a_dead_letter_is_shown_without_secrets(client: Client) -> None:
    """In the list and on its page, as that of a receipt."""
    row = letter()
    log_in(client, "django_inbox.deadletter")
    for url in (list_url(DeadLetter), detail_url(row)):
        text = page(client, url)
        assert "password=•••" in text
        assert "hunter2" not in text


def emitted(
    key: str = "tenant", *, correlation_id: str = "c", cause: Message | None = None
) -> Message:
    context = Context(
        correlation_id=correlation_id, causation_id=str(cause.message_id) if cause else None
    )
    with use_context(context), transaction.atomic():
        outbox.emit("tests.happened", {"key": key, "number": 1})
    return Message.objects.latest("position")


def mine(request: Any, queryset: Any) -> Any:
    """Scope of a tenant: what has its name as key."""
    if queryset.model in (Message, Receipt, Parked):
        return queryset.filter(key=request.user.username)
    return queryset.none() if queryset.model is not LogEntry else queryset


MINE = override_settings(OUTBOX_API={"SCOPE": "tests.admin.test_oracles.mine"})


@MINE
@pytest.mark.django_db(transaction=True)
def test_a_filter_across_models_tells_nothing_of_rows_beyond_the_scope() -> None:
    """A message may be seen whose receipt may not."""
    message = emitted()
    about = {"message_id": str(message.message_id), "source": message.source, "type": message.type}
    hidden = Receipt.objects.create(handler="a", key="other", state="dead", **about)
    caller = Caller("tenant", *VIEW)
    streamed = {"q": "receipt:dead", "from": "beginning", "wait": "0"}
    assert caller.get("messages", q="receipt:dead")["results"] == []
    assert caller.get("stream", **streamed)["results"] == []
    hidden.key = "tenant"
    hidden.save()
    assert caller.get("messages", q="receipt:dead")["results"]
    assert caller.get("stream", **streamed)["results"]


def test_a_filter_across_models_takes_the_permission_of_the_other() -> None:
    """Who may view messages alone learns nothing of receipts from a filter."""
    message = emitted()
    Receipt.objects.create(
        handler="a", message_id=str(message.message_id), source=message.source, state="dead"
    )
    caller = Caller("viewer", "django_outbox.view_message")
    said = caller.get("messages", q="receipt:dead", status=400)
    assert "view receipts" in json.dumps(said)
    assert caller.get("stream", q="receipt:dead", status=400)


def test_the_bar_offers_no_filter_that_tells_of_what_one_may_not_view(client: Client) -> None:
    """Nor does it use one."""
    message = emitted()
    Receipt.objects.create(
        handler="a", message_id=str(message.message_id), source=message.source, state="dead"
    )
    log_in(client, "django_outbox.message")
    assert "receipt:" not in page(client, list_url(Message))
    assert rows(client, list_url(Message, "?q=receipt:dead")) == []
    assert "to view receipts" in page(client, list_url(Message, "?q=receipt:dead"))


@MINE
def test_what_a_message_waits_behind_is_told_to_whoever_may_see_that() -> None:
    """Else it is as if nothing were there."""
    head, row = parked(), parked()
    Parked.objects.filter(pk=head.pk).update(key="k", relay="default")
    Parked.objects.filter(pk=row.pk).update(key="k", state="waiting")
    for name, seen in (("k", True), ("other", False)):
        scope = "tests.admin.test_oracles." + ("mine" if seen else "last_alone")
        with override_settings(OUTBOX_API={"SCOPE": scope}):
            told = Caller(name, *VIEW).get(f"parked/{row.pk}")
            assert told["behind"] == (str(head.pk) if seen else None)


def last_alone(request: Any, queryset: Any) -> Any:
    """Scope that leaves the newest row."""
    newest = queryset.model._default_manager.order_by("-pk").values_list("pk", flat=True)[:1]
    return queryset.filter(pk__in=list(newest))


@MINE
def test_a_conversation_is_told_as_if_nothing_were_beyond_the_scope(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither how deep something lies nor that there is more."""
    monkeypatch.setattr("outbox.api.flow.MOST", 4)
    first = emitted()
    hidden = emitted("other", cause=first)
    emitted("tenant", cause=hidden)
    told = Caller("tenant", *VIEW).get("conversations/c")
    assert [each["depth"] for each in told["messages"]] == [0, 1]
    for _ in range(3):
        emitted("other")
    told = Caller("again", *VIEW)
    told.user.username = "tenant"
    User.objects.filter(username="tenant").delete()
    told.user.save()
    assert told.get("conversations/c")["complete"] is True
    emitted("tenant")
    assert told.get("conversations/c")["complete"] is False


@MINE
def test_what_people_did_is_not_told_of_rows_beyond_the_scope() -> None:
    """This scope narrows parked messages, and says nothing of the log of actions."""
    row = parked()
    boss = User.objects.create_user("boss")
    write_down([row], "Discarded.", user=boss)
    tenant = Caller("tenant", *VIEW)
    assert tenant.client.get("/api/doings").status_code == 403
    with override_settings(OUTBOX_API={}):
        assert tenant.get("doings")["results"]
