"""Replies, faults and requests that strangers send, and handlers that fail in every way."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

import inbox
import outbox
from inbox.delivery import Delivery
from inbox.models import OpenRequest, Receipt
from inbox.receiving.batch import Batch
from inbox.replies import taking
from inbox.states import State
from inbox.verdicts import RetryPolicy
from outbox.message.cloudevents import to_headers
from outbox.message.envelope import Envelope
from outbox.message.requests import EXPIRED, FAILED
from outbox.models import Message, Reply, Request, Scheduled, Settlement
from outbox.producer.scheduling import deliver_due
from tests.inbox.support import make_due, receive, turn
from tests.kit.odd_exceptions import ODD, each_odd
from tests.kit.sessions import sessions
from tests.requests.support import (
    ANSWERER,
    ASKER,
    Declined,
    Given,
    Quote,
    Wire,
    ask,
    reply_to,
)

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]
postgresql = pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has one writer")


def asked_and_sent(wire: Wire, **options: Any) -> tuple[outbox.Asked, Envelope]:
    asked = ask(**options)
    return asked, wire.publish()[-1]


# --- What comes back ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "attributes",
    [
        {"source": "/stranger"},
        {"source": "/" + "x" * 5000},
        {"id": "i" * 5000},
        {"id": "no uuid"},
        {"content_type": "application/json; " + "x" * 5000},
        {"key": "k" * 5000},
        {"correlation_id": "c" * 5000},
        {"subject": "s" * 5000},
        {"time": None},
        {"version": 1, "trace_parent": "t" * 5000},
    ],
)
def test_a_reply_with_odd_attributes_counts(wire: Wire, attributes: dict[str, Any]) -> None:
    """They say nothing of the answer. Who has sent it is on record."""
    asked, request = asked_and_sent(wire)
    receive(reply_to(request, b'{"amount": 8}', **attributes), group=ASKER)
    assert asked.result() == Given(8)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'{"amount": "8"}',
        b"\x00",
        b"\xff\xfe",
        b'{"amount": 1e999}',
        b"[" * 10_000,
    ],
)
def test_a_reply_that_is_no_such_event_settles_nothing(wire: Wire, data: bytes) -> None:
    """It is dead, for a person to look at; the one that comes next counts."""
    asked, request = asked_and_sent(wire)
    bad = reply_to(request, data)
    receive(bad, group=ASKER)
    assert Receipt.objects.get(message_id=bad.id).state == State.DEAD
    assert asked.state() == "pending"
    receive(reply_to(request, b'{"amount": 8}'), group=ASKER)
    assert asked.result() == Given(8)


@pytest.mark.parametrize("kind", ["nobody.knows", "pricing.quote", "x" * 5000, "pricing.quote.*"])
def test_a_reply_of_a_kind_that_was_not_declared_does_not_count(
    wire: Wire, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is kept, and the log says why."""
    asked, request = asked_and_sent(wire)
    receive(reply_to(request, b'{"basket_id": 8}', type=kind), group=ASKER)
    assert asked.state() == "pending"
    assert Reply.objects.get().number is None
    assert "does not count: pricing.quote does not declare" in caplog.text
    receive(reply_to(request, b'{"why": "no"}', type="pricing.quote.declined"), group=ASKER)
    assert asked.result() == Declined("no")


def test_a_large_reply_is_not_written_into_a_statement(wire: Wire) -> None:
    """Where it would take ten times its size. Nor is it read to look whether it is there."""
    asked, request = asked_and_sent(wire)
    large = reply_to(request, b'{"why": "%s"}' % (b"x" * 5_000_000), type="pricing.quote.declined")
    receive(large, group=ASKER)
    result = asked.result()
    assert isinstance(result, Declined)
    assert len(result.why) == 5_000_000


def test_two_sources_and_one_id(wire: Wire) -> None:
    """They are two replies; the same one twice counts once, though its receipt was forgotten."""
    asked, request = asked_and_sent(wire, replies=3)
    one = reply_to(request, b'{"amount": 1}')
    other = reply_to(request, b'{"amount": 2}', id=one.id, source="/elsewhere")
    for _ in range(2):
        receive(one, group=ASKER)
        receive(other, group=ASKER)
        Receipt.objects.all().delete()
    assert asked.state() == "pending"
    receive(reply_to(request, b'{"amount": 3}', source="/third"), group=ASKER)
    assert asked.result() == [Given(1), Given(2), Given(3)]
    assert Settlement.objects.count() == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"ce-inreplyto": None},
        {"ce-inreplyto": b"\xff\xfe"},
        {"ce-inreplyto": 7},
        {"ce-inreplyto": "\x00"},
        {"ce-inreplyto": ["list"]},
        {"ce-type": None},
        {"ce-source": "\x00"},
        {"ce-id": b"\xff"},
        {"ce-specversion": "0.3"},
    ],
)
def test_headers_that_are_missing_or_wrong(wire: Wire, headers: dict[str, Any]) -> None:
    """They settle nothing, and stop nothing."""
    asked, request = asked_and_sent(wire)
    good = reply_to(request, b'{"amount": 8}')
    bad = reply_to(request, b'{"amount": 9}')
    deliveries = [
        Delivery(
            topic=good.topic,
            content_type="application/json",
            headers={k: v for k, v in (to_headers(each) | change).items() if v is not None},
            body=each.data,
        )
        for each, change in ((bad, headers), (good, {}))
    ]
    Batch(deliveries, using="default", group=ASKER).receive()
    assert asked.result() == Given(8)


def test_a_reply_to_an_event(wire: Wire) -> None:
    """Which is no request, and of which nobody has asked anything."""
    with transaction.atomic():
        event = outbox.emit(Given(1))
    receive(reply_to(replace_address(event), b'{"amount": 8}'), group=ASKER)
    assert not Reply.objects.exists()
    assert Receipt.objects.get().state == State.PROCESSED


def replace_address(event: Envelope) -> Envelope:
    return Envelope(
        id=event.id,
        source=event.source,
        type=event.type,
        data=event.data,
        attributes={"replyto": "outbox.replies.asker"},
    )


@pytest.mark.parametrize(
    "about",
    [
        b"{}",
        b"[]",
        b"null",
        b'"text"',
        b"",
        json.dumps({"handler": "\x00", "error": "\x00", "reason": "\x00"}).encode(),
        json.dumps({"handler": {"a": ["\x00"] * 100}, "attempts": "x" * 10_000}).encode(),
        json.dumps({"handler": "ü" * 1000, "error": "😀" * 1000}).encode(),
    ],
)
def test_a_fault_that_says_anything(wire: Wire, about: bytes) -> None:
    """It is a fault, whatever it says."""
    asked, request = asked_and_sent(wire)
    receive(reply_to(request, about, type=FAILED), group=ASKER)
    assert asked.state() == "failed"
    with pytest.raises(outbox.RequestFailed):
        asked.result()


def test_a_request_that_was_forgotten(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """What comes later finds nothing, and says so."""
    asked, request = asked_and_sent(wire)
    asked.cancel()
    Request.objects.all().delete()
    receive(
        reply_to(request, b'{"amount": 8}'),
        reply_to(request, b"{}", type=FAILED),
        reply_to(request, b"{}", type=EXPIRED),
        group=ASKER,
    )
    assert set(Receipt.objects.values_list("state", flat=True)) == {State.PROCESSED}
    assert "there is no such request here" in caplog.text


# --- The deadline -------------------------------------------------------------------------------


def test_the_clock_is_set_back_while_the_deadline_is_told(wire: Wire) -> None:
    """As by a failover: what was consumed too early is sent again, or nobody would ever know."""
    asked = ask(within=timedelta(hours=1))
    wire.publish()
    Scheduled.objects.update(due_at=Message.objects.get().time)  # by a clock that was ahead
    assert deliver_due("default") == 1
    wire.run()
    assert asked.state() == "pending"
    request, again = Request.objects.get(), Scheduled.objects.get()
    assert again.message_id == request.expiry_id
    assert again.due_at == request.deadline

    Request.objects.update(deadline=Message.objects.first().time)  # type: ignore[union-attr]
    Scheduled.objects.update(due_at=Message.objects.first().time)  # type: ignore[union-attr]
    assert deliver_due("default") == 1
    wire.run()
    assert asked.state() == "expired"


def test_strangers_cannot_multiply_the_deadline(wire: Wire) -> None:
    _asked, request = asked_and_sent(wire)
    for _ in range(3):
        receive(reply_to(request, b"{}", type=EXPIRED), group=ASKER)
    assert Scheduled.objects.count() == 1


# --- Requests that others hold ------------------------------------------------------------------


@postgresql
def test_a_request_that_a_transaction_holds_stops_no_others(wire: Wire) -> None:
    """Its answer is tried again; those to all other requests are there at once."""
    held, free = ask(), ask()
    requests = {each.id: each for each in wire.publish()}
    replies = [reply_to(requests[each.id], b'{"amount": 8}') for each in (held, free)]
    with sessions(1) as [session]:
        session.begin()
        assert session.run(held.cancel)
        started = time.monotonic()
        receive(*replies, group=ASKER)
        assert time.monotonic() - started < 5
        assert free.result() == Given(8)
        assert Receipt.objects.get(message_id=replies[0].id).state == State.RETRYING
        session.rollback()
    make_due(state=State.RETRYING)
    turn(ASKER)
    assert held.result() == Given(8)


@postgresql
def test_two_consumers_that_settle_in_opposite_order(wire: Wire) -> None:
    """No circle of those who wait: each request has its replies in the end."""
    first, second = ask(replies=2), ask(replies=2)
    requests = {each.id: each for each in wire.publish()}
    one, two = requests[first.id], requests[second.id]
    with sessions(2) as pair:
        batches = [[one, two], [two, one]]
        runs = [
            session.start(
                receive,
                *(reply_to(each, b'{"amount": 8}', source=source) for each in batch),
                group=ASKER,
            )
            for session, batch, source in zip(pair, batches, ("/one", "/two"), strict=True)
        ]
        for run in runs:
            run.result(timeout=30)
    for _ in range(5):
        make_due(state=State.RETRYING)
        turn(ASKER)
    assert first.result() == second.result() == [Given(8), Given(8)]


# --- What handlers do ---------------------------------------------------------------------------


@each_odd
def test_a_handler_that_fails_in_any_way(
    wire: Wire, answer: Callable[..., None], name: str
) -> None:
    """Whoever asked is told; the name of the error is of bounded length."""

    def fail(event: Quote, message: Envelope) -> object:
        return ODD[name]()

    answer(fail, retry=RetryPolicy(attempts=1))
    asked = ask()
    wire.run()
    assert asked.state() == "failed"
    assert len(Settlement.objects.get().reason) <= 255


class Sub(Given):
    """Of a class of its own, which nobody has declared."""


def returns_generator() -> Iterator[int]:
    yield 1


class Liar:
    __class__ = Given  # type: ignore[assignment]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sub(1),
        returns_generator,
        lambda: Given,
        lambda: {"amount": 1},
        Liar,
        lambda: [Given(1)],
        lambda: Given("x"),
        lambda: False,
        lambda: 0,
    ],  # type: ignore[arg-type]
)
def test_a_handler_that_returns_what_is_no_reply(
    wire: Wire, answer: Callable[..., None], make: Callable[[], object]
) -> None:
    """It is an error of the handler, and nothing of it remains."""

    def handle(event: Quote, message: Envelope) -> object:
        outbox.emit(Given(99))
        return make()

    answer(handle, retry=RetryPolicy(attempts=1))
    asked = ask()
    wire.run()
    assert asked.state() == "failed"
    assert not Message.objects.filter(type="pricing.quote.given").exists()


def test_a_handler_that_asks_in_its_turn(wire: Wire, answer: Callable[..., None]) -> None:
    """It is answered later, with what comes back; all of it is one conversation."""
    inner: list[outbox.Asked] = []

    def handle(event: Quote, message: Envelope) -> object:
        if event.basket_id == 0:
            return Given(5)
        inner.append(outbox.ask(Quote(0)))
        return inbox.LATER

    answer(handle)
    asked = ask()
    wire.run()
    assert asked.state() == "pending"
    with transaction.atomic():
        inbox.answer(asked.id, inner[0].result())
    wire.run()
    assert asked.result() == Given(5)
    assert len(set(Message.objects.values_list("correlation_id", flat=True))) == 1


def test_a_handler_that_settles_what_it_answers(wire: Wire, answer: Callable[..., None]) -> None:
    """In one service: it is cancelled then, and the answer is late."""

    def handle(event: Quote, message: Envelope) -> object:
        assert outbox.Asked(id=message.id).cancel()
        return Given(5)

    answer(handle)
    asked = ask()
    wire.run()
    assert asked.state() == "cancelled"
    assert Reply.objects.get().number is None


# --- Answers that are given later ---------------------------------------------------------------


def test_who_answers_second_sends_nothing(wire: Wire, answer: Callable[..., None]) -> None:
    """Also if the error is caught, and the rest committed."""
    answer(lambda event, message: inbox.LATER)
    asked = ask()
    wire.run()
    with transaction.atomic():
        inbox.answer(asked.id, Given(5))
    with transaction.atomic(), pytest.raises(outbox.UnknownRequest):
        inbox.answer(asked.id, Given(6))
    assert Message.objects.filter(type="pricing.quote.given").count() == 1


@postgresql
def test_two_who_answer_at_once(wire: Wire, answer: Callable[..., None]) -> None:
    """The second waits for the first, and sends nothing, though he goes on."""
    answer(lambda event, message: inbox.LATER)
    asked = ask()
    wire.run()
    with sessions(2) as [one, other]:
        one.begin()
        one.run(inbox.answer, asked.id, Given(5))
        other.begin()
        second = other.start(inbox.answer, asked.id, Given(6))
        one.commit()
        with pytest.raises(outbox.UnknownRequest):
            second.result(timeout=30)
        other.commit()
    wire.run()
    assert asked.result() == Given(5)
    assert Reply.objects.count() == 1


def test_an_answer_that_cannot_be_sent_leaves_the_request_open(
    wire: Wire, answer: Callable[..., None]
) -> None:
    answer(lambda event, message: inbox.LATER)
    asked = ask()
    wire.run()
    with transaction.atomic(), pytest.raises(outbox.InvalidEvent):
        inbox.answer(asked.id, Declined("a\x00b"))
    with pytest.raises(outbox.TransactionRequired, match=r"inbox.answer\(\) needs a transaction"):
        inbox.answer(asked.id, Given(5))
    assert OpenRequest.objects.exists()


def test_another_service_with_a_request_of_the_same_id(
    wire: Wire, answer: Callable[..., None]
) -> None:
    """It gets no answer that was meant for somebody else."""
    answer(lambda event, message: inbox.LATER)
    _asked, request = asked_and_sent(wire)
    twin = Envelope(
        id=request.id,
        source="/stranger",
        type=request.type,
        topic=request.topic,
        data=request.data,
        attributes={"replyto": "outbox.replies.stranger"},
    )
    receive(request, twin, group=ANSWERER)
    with transaction.atomic(), pytest.raises(outbox.UnknownRequest, match="Several services"):
        inbox.answer(request.id, Given(5))
    with transaction.atomic():
        reply = inbox.answer(request.id, Given(5), source=request.source)
    assert reply.topic == "outbox.replies.asker"


def test_a_handler_that_is_called_again_after_later(
    wire: Wire, answer: Callable[..., None]
) -> None:
    """As when its receipt is gone: the request is open still, and that is no failure."""
    answer(lambda event, message: inbox.LATER)
    _asked, request = asked_and_sent(wire)
    for _ in range(2):
        receive(request, group=ANSWERER)
        assert Receipt.objects.get().state == State.PROCESSED
        Receipt.objects.all().delete()
    assert OpenRequest.objects.count() == 1


@pytest.mark.parametrize("returned", [Given(1), inbox.LATER, ValueError])
def test_a_request_with_an_id_that_no_header_can_repeat(
    wire: Wire, answer: Callable[..., None], returned: object
) -> None:
    """It is handled, and not answered, as the answer could not be sent."""

    def handle(event: Quote, message: Envelope) -> object:
        if returned is ValueError:
            raise ValueError
        return returned

    answer(handle, retry=RetryPolicy(attempts=1))
    _asked, request = asked_and_sent(wire)
    receive(
        Envelope(
            id="i" * 100_000,
            source="/stranger",
            type=request.type,
            topic=request.topic,
            data=request.data,
            attributes={"replyto": "outbox.replies.stranger"},
        ),
        group=ANSWERER,
    )
    assert not Message.objects.filter(topic="outbox.replies.stranger").exists()
    assert not OpenRequest.objects.exists()


# --- What it takes ------------------------------------------------------------------------------


@postgresql
def test_what_asking_and_answering_take(wire: Wire) -> None:
    """One statement to ask; two to take an answer, and one to wake who waits."""
    with CaptureQueriesContext(connection) as queries:
        asked = ask()
    assert len(own(queries)) == 1
    with CaptureQueriesContext(connection) as queries:
        ask(idempotency_key="k")
    assert len(own(queries)) == 2
    message = reply_to(wire.publish()[0], b'{"amount": 8}')
    with CaptureQueriesContext(connection) as queries, transaction.atomic():
        taking.take(None, message)
    assert len(own(queries)) == 3
    assert asked.result() == Given(8)


def own(queries: CaptureQueriesContext) -> list[str]:
    """Return statements but for those of transactions, and the relay's bell."""
    texts = [each["sql"] for each in queries]
    return [
        each
        for each in texts
        if not each.startswith(("BEGIN", "COMMIT")) and "pg_current_snapshot" not in each
    ]


def test_a_database_in_which_nobody_takes_replies(wire: Wire) -> None:
    with pytest.raises(outbox.InvalidEvent, match="in which replies are taken"):
        outbox.ask(Quote(1), using="other")
