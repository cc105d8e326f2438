"""What other senders may send by the specification: it is received, whatever the columns hold."""

import json
from datetime import datetime
from io import StringIO
from typing import Any
from urllib.parse import urlencode

import pytest
from amqp.basic_message import Message
from django.core.management import call_command
from django.test import Client

import outbox
from inbox.delivery import Delivery
from inbox.handlers.registry import handlers
from inbox.models import DeadLetter, KeySequence, Receipt
from inbox.operator import edit, edit_letter, retry_letters
from outbox.message import cloudevents, structured
from outbox.message.envelope import Envelope
from outbox.models import Message as Logged
from tests.inbox.support import (
    HAPPENED,
    Handling,
    Mended,
    Queue,
    effects,
    fail,
    happened,
    make_due,
    new_id,
    receive,
    record,
    states,
    turn,
)
from tests.kit.admin_pages import ALL_MODELS, list_url, log_in, rows
from tests.kit.processes import Process
from tests.kit.support import Counted
from tests.testapp.models import Effect

pytestmark = [pytest.mark.django_db(transaction=True)]

BATCH = "application/cloudevents-batch+json"
LONG = "näh" * 200


class Seen(list[Envelope]):
    """A handler that keeps what it is given, and fails as long as it is asked to."""

    failing = False

    def __call__(self, event: Any, message: Envelope) -> None:
        self.append(message)
        if self.failing:
            raise ValueError("no luck")


def settle() -> None:
    """Handle what is due, and what will be, until nothing is open."""
    for _ in range(20):
        make_due(state="retrying")
        turn()
    assert set(states()) == {"processed"}


def event(number: int = 1, **members: Any) -> dict[str, Any]:
    """An event in JSON, as another sender would write it."""
    return {
        "specversion": "1.0",
        "id": new_id(),
        "source": "/elsewhere",
        "type": HAPPENED,
        "partitionkey": "k",
        "data": {"key": "k", "number": number},
        **members,
    }


def batch(*events: Any, **more: Any) -> Delivery:
    """A message with several events."""
    body = json.dumps(events).encode()
    return Delivery(headers={}, body=body, content_type=BATCH, topic="any", **more)


def foreign(**headers: Any) -> Delivery:
    """A message in binary mode with headers of all kinds."""
    good = Delivery.of(happened(1, id="1", subject="s"))
    return Delivery(
        headers={**good.headers, **headers}, body=good.body, content_type="application/json"
    )


# --- Attributes ----------------------------------------------------------------------------------

ODD: dict[str, dict[str, Any]] = {
    "long names": {f"ce-{'a' * 21}": "x", f"ce-{'b' * 200}": "y"},
    "long values": {"ce-tenant": LONG, "ce-subject": LONG, "ce-tracestate": LONG * 3},
    "long id": {"ce-id": LONG},
    "long source": {"ce-source": LONG},
    "long key": {"ce-partitionkey": LONG},
    "long flow": {"ce-correlationid": LONG, "ce-causationid": LONG},
    "long content type": {"ce-datacontenttype": "application/json; " + LONG},
    "a leap second": {"ce-time": "2016-12-31T23:59:60Z"},
    "no time": {"ce-time": "yesterday"},
    "no version": {"ce-dataversion": "2.1-beta"},
    "null": {"ce-tenant": None, "ce-subject": None, "x": None, "ce-time": None},
    "types": {"ce-a": True, "ce-b": -(2**40), "ce-c": datetime(2026, 1, 2), "ce-d": b"\xc3\xa4"},  # noqa: DTZ001
    "bytes": {"ce-binary": b"\xff\x00", "ce-share": 0.25},
    "tables": {"ce-tenant": {"a": 1}, "ce-list": [1], "ce-bad": "a\nb", "ce-Odd-Name": "x"},
    "twice": {"ce-tenant": "a", "cloudEvents:tenant": "b"},
}


@pytest.mark.sqlite
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_odd_attribute_does_not_keep_a_message_from_its_handler(
    odd: dict[str, Any], handling: Handling
) -> None:
    """It is handled once, as it came; if its handler fails, it comes again just as it was."""
    seen = Seen()
    handling(seen)
    seen.failing = True
    message = foreign(**odd)

    receive(message, happened(2))
    receive(message)

    assert DeadLetter.objects.count() == 0
    assert states() == ["retrying", "retrying"]
    seen.failing = False
    make_due()
    turn()
    assert states() == ["processed", "processed"]
    first, *_ = seen
    assert first == message.decode()
    assert seen.count(first) == 2


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_odd_attribute_comes_through_the_broker(
    odd: dict[str, Any], queue: Queue, handling: Handling
) -> None:
    """In the types that AMQP has for it."""
    seen = Seen()
    handling(seen)
    queue.declare()
    message = foreign(**odd)
    raw = Message(message.body, application_headers=dict(message.headers), delivery_mode=2)
    raw.properties["content_type"] = "application/json"
    if "ce-datacontenttype" in odd:
        del raw.properties["content_type"]
    queue.publish_raw((raw, HAPPENED))

    queue.drain()

    [envelope] = seen
    assert envelope.id == message.headers["ce-id"]
    assert DeadLetter.objects.count() == 0


@pytest.mark.sqlite
def test_two_that_differ_behind_what_a_column_holds_stay_two(handling: Handling) -> None:
    """Ids, sources and keys: each has its receipts, and its line."""
    handling(fail, ordered=True)
    names = [LONG + "a", LONG + "b"]
    for name in names:
        receive(happened(1, id=name), happened(1, source=name), happened(1, key=name))
    receive(happened(2, key=names[0]))

    assert Receipt.objects.count() == 7
    assert Receipt.objects.values("message_id", "source").distinct().count() == 7
    keys = list(Receipt.objects.filter(state="waiting").values_list("key", flat=True))
    # Those with the key "k" wait behind the first of its source, the last behind that of its key.
    assert cloudevents.bounded(names[0]) in keys
    assert cloudevents.bounded(names[1]) not in keys


@pytest.mark.sqlite
def test_a_long_key_keeps_its_order(handling: Handling) -> None:
    """Through a failure, and by sequence numbers."""
    handling(Mended(1), ordered=True, sequence="number")
    for number in (1, 3, 2):
        receive(
            happened(number, key=LONG, data=json.dumps({"key": "k", "number": number}).encode())
        )
    settle()

    assert effects() == [1, 2, 3]
    assert KeySequence.objects.get().key == cloudevents.bounded(LONG)


@pytest.mark.sqlite
def test_a_handler_may_emit_about_what_others_call_long(handling: Handling) -> None:
    """What it emits is as strict as ever, and still leads back to what it came from."""
    handling(lambda event, message: outbox.emit(Counted("a", 1)) and None)
    message = happened(1, id=LONG, trace_parent=LONG, trace_state=LONG * 4)

    [result] = receive(message)

    assert result.handled == 1
    logged = Logged.objects.get()
    assert logged.causation_id == logged.correlation_id == cloudevents.bounded(LONG)
    assert (logged.trace_parent, logged.trace_state) == (None, None)


@pytest.mark.sqlite
def test_a_long_type_that_nobody_wants_is_a_dead_letter(handling: Handling) -> None:
    """With the message as it was; a handler for all types has it handled."""
    handling(pattern="tests.#")
    receive(happened(1, type=LONG), happened(2))

    dead = DeadLetter.objects.get()
    assert (dead.reason, dead.type) == ("unknown_type", cloudevents.bounded(LONG))
    handling(lambda event, message: record(event, message), name="all", pattern="#")
    assert retry_letters([dead.pk], using="default").changed == [dead.pk]
    assert Receipt.objects.get(handler="all").type == cloudevents.bounded(LONG)


@pytest.mark.sqlite
def test_a_message_with_a_long_id_can_be_edited(handling: Handling) -> None:
    """It is the same message as before."""
    handling(fail)
    receive(happened(1, id=LONG, key=LONG))
    receipt = Receipt.objects.get()
    seen = Seen()
    handling.forget()
    handling(seen)

    mended = Delivery.of(happened(5, id=LONG, key=LONG))
    edit(receipt.pk, mended, by="me", using="default")
    turn()

    assert seen == [mended.decode()]


@pytest.mark.sqlite
def test_a_message_with_a_long_id_is_found_by_it(client: Client, handling: Handling) -> None:
    """In the admin and by the command, as the sender would name it."""
    handling(fail)
    receive(happened(1, id=LONG), happened(2))
    Receipt.objects.update(state="dead", next_attempt_at=None)
    log_in(client, *ALL_MODELS)

    [found] = rows(client, list_url(Receipt, "?" + urlencode({"q": LONG})))
    assert found.message_id == cloudevents.bounded(LONG)
    call_command("inbox_retry", "--id", LONG, "--wait=0", stdout=StringIO())
    assert Receipt.objects.get(state="retrying").pk == found.pk


# --- Structured mode -----------------------------------------------------------------------------


@pytest.mark.sqlite
def test_a_structured_event_that_fails_is_kept_as_it_came(handling: Handling) -> None:
    """Body, headers and content type; it comes again just as it was."""
    seen = Seen()
    handling(seen)
    seen.failing = True
    kind = "application/cloudevents+json; charset=utf-8"
    body = json.dumps(event(time="2016-12-31T23:59:60Z"), indent=2).encode()
    receive(Delivery(headers={"x": b"\xff"}, body=body, content_type=kind))
    receipt = Receipt.objects.get()

    assert (bytes(receipt.body or b""), receipt.content_type) == (body, kind)
    assert json.loads(receipt.headers or "") == {"x": "b'\\xff'"}
    seen.failing = False
    make_due()
    turn()
    assert states() == ["processed"]
    assert seen[0] == seen[1]


@pytest.mark.sqlite
def test_headers_say_nothing_in_structured_mode(handling: Handling) -> None:
    """Attributes may be repeated there; those of the body count."""
    handling()
    headers = {"ce-specversion": "1.0", "ce-id": "other", "ce-type": "tests.other"}
    body = json.dumps(event(id="mine")).encode()

    receive(Delivery(headers=headers, body=body, content_type="application/cloudevents+json"))

    assert Receipt.objects.get().message_id == "mine"


# --- Batches -------------------------------------------------------------------------------------


@pytest.mark.sqlite
def test_each_event_of_a_batch_has_its_receipts(handling: Handling) -> None:
    """One result tells of all of them; a second delivery is one of duplicates."""
    handling()
    handling(name="again")
    message = batch(event(1), event(2), event(3))

    [first] = receive(message)
    [second] = receive(message)

    assert (first.handled, first.dead) == (6, 0)
    assert (second.handled, second.duplicates) == (0, 6)
    assert sorted(effects()) == [1, 1, 2, 2, 3, 3]
    assert Receipt.objects.count() == 6


@pytest.mark.sqlite
def test_a_bad_event_of_a_batch_harms_only_itself(handling: Handling) -> None:
    """Each that is of no use is a dead letter of its own, with what it was in the batch."""
    handling(pattern="tests.#")
    bad = event(2)
    del bad["id"]
    message = batch(event(1), bad, event(3, type="elsewhere.unknown"), 7, event(4))

    [result] = receive(message, happened(5))[:1]

    assert (result.handled, result.dead, result.letters) == (2, 3, 3)
    assert effects() == [1, 4, 5]
    letters = DeadLetter.objects.order_by("id")
    assert sorted(letters.values_list("reason", flat=True)) == [
        *("undecodable", "undecodable", "unknown_type")
    ]
    assert {json.dumps(json.loads(bytes(each.body))) for each in letters} == {
        json.dumps(each) for each in (bad, 7, json.loads(message.body)[2])
    }
    assert {each.content_type for each in letters} == {structured.EVENT}


@pytest.mark.sqlite
def test_a_dead_letter_of_a_batch_is_retried_alone(handling: Handling) -> None:
    """With a handler of today; what was handled of its batch is not again."""
    handling()
    receive(batch(event(1), event(2, type="tests.unknown"), event(3)))
    dead = DeadLetter.objects.get()
    assert retry_letters([dead.pk], using="default").left == [dead.pk]
    handling(name="late", pattern="tests.unknown")

    assert retry_letters([dead.pk], using="default").changed == [dead.pk]

    assert effects() == [1, 3, 0]  # its event has no class
    assert sorted(Receipt.objects.values_list("handler", flat=True)) == ["late", "record", "record"]


@pytest.mark.sqlite
def test_an_event_of_a_batch_that_fails_is_retried_alone(handling: Handling) -> None:
    """Its receipt keeps it without the others."""

    def choosy(what: Any, message: Envelope) -> None:
        if what.number == 2 and not mended:
            raise ValueError("no luck")
        record(what, message)

    mended: list[bool] = []
    handling(choosy)
    second = event(2)
    receive(batch(event(1), second, event(3)))
    receipt = Receipt.objects.get(state="retrying")
    assert json.loads(bytes(receipt.body or b"")) == second
    mended.append(True)
    make_due()
    turn()

    assert effects() == [1, 3, 2]


@pytest.mark.sqlite
def test_events_of_a_batch_keep_the_order_of_their_key(handling: Handling) -> None:
    """What is behind a failure in the same batch waits."""
    handling(Mended(1), ordered=True)
    receive(batch(event(1), event(2), event(3)))
    assert states() == ["retrying", "waiting", "waiting"]
    settle()

    assert effects() == [1, 2, 3]


@pytest.mark.sqlite
def test_a_batch_that_is_no_list_can_be_mended(handling: Handling) -> None:
    """It is one dead letter as a whole; edited, each event of it is received."""
    handling()
    receive(Delivery(headers={}, body=b'[{"id":', content_type=BATCH))
    dead = DeadLetter.objects.get()
    assert (dead.reason, bytes(dead.body), dead.content_type) == ("undecodable", b'[{"id":', BATCH)

    assert edit_letter(dead.pk, batch(event(1), event(2)), by="me", using="default").changed

    assert effects() == [1, 2]
    dead.refresh_from_db()
    assert dead.state == "processed"


@pytest.mark.sqlite
@pytest.mark.parametrize("size", [10, 10_000])
def test_headers_of_a_batch_are_kept_with_each_event_if_they_are_short(
    size: int, handling: Handling
) -> None:
    """Ten thousand copies of long ones would be too much of them."""
    handling(fail)
    body = json.dumps([event(1), event(2)]).encode()
    receive(Delivery(headers={"x": "y" * size}, body=body, content_type=BATCH))

    kept = {"x": "y" * size} if size == 10 else {}
    found = [json.loads(each or "") for each in Receipt.objects.values_list("headers", flat=True)]
    assert found == [kept, kept]


def publish(queue: Queue, *deliveries: Delivery) -> None:
    for each in deliveries:
        message = Message(each.body, content_type=each.content_type, delivery_mode=2)
        queue.publish_raw((message, HAPPENED))


def test_batches_are_acknowledged_once_all_of_them_is_settled(
    queue: Queue, handling: Handling
) -> None:
    """Also an empty one, and one of no use, between others."""
    handling()
    queue.declare()
    queue.publish(happened(1))
    publish(queue, batch(), batch(event(2), {}, event(3)), batch(event(4)), batch())
    queue.publish(happened(5))

    consumer = queue.drain()

    assert effects() == [1, 2, 3, 4, 5]
    assert (consumer.progress.handled, consumer.progress.letters) == (5, 1)
    assert queue.ready() == 0
    assert queue.drain().progress.received == 0


def test_a_batch_of_many_events_takes_several_transactions(
    queue: Queue, handling: Handling
) -> None:
    """None is larger than any other; the message is acknowledged after the last."""
    handling(lambda event, message: None)
    queue.declare()
    publish(queue, batch(*[event(number) for number in range(2500)]))
    queue.publish(happened(1))

    consumer = queue.drain()

    assert consumer.progress.handled == 2501
    assert consumer.progress.batches >= 3
    assert queue.ready() == 0
    assert queue.drain().progress.received == 0


@pytest.mark.slow
def test_a_process_that_dies_within_a_batch_of_many_events(
    queue: Queue, database_url: str, handling: Handling
) -> None:
    """What was committed stays, the rest comes again; each has its effect once."""
    bound = handling(name="bound")
    queue.declare()
    publish(queue, batch(*[event(number) for number in range(1200)]))
    environment = {
        "DATABASE_URL": database_url,
        "BROKER_URL": queue.url,
        "TEST_EXCHANGE": queue.exchange,
        "TEST_GROUP": queue.name,
    }
    arguments = ("consume", "--group", queue.name)
    with Process(*arguments, failpoint="inbox.committed", **environment) as process:
        assert process.wait() == -9, process.output
    # As many as a transaction takes, in number or in time.
    assert 0 < Effect.objects.count() <= 1000
    with Process(*arguments, "--until-empty", **environment) as process:
        process.wait()

    assert sorted(effects()) == list(range(1200))
    assert Receipt.objects.filter(state="processed").count() == 1200
    assert queue.ready() == 0
    handlers.remove(bound.name)
