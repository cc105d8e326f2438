"""What is asked and what is answered, through log, relay and inbox: from ask() to result()."""

import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.test import override_settings

import inbox
import outbox
from inbox.models import OpenRequest, Receipt
from inbox.states import State
from inbox.verdicts import RetryPolicy
from outbox.exceptions import ConfigurationError
from outbox.extensions.pruning import cutoff, pruners
from outbox.message.envelope import Envelope
from outbox.message.requests import EXPIRED, FAILED
from outbox.models import Message, Reply, Request, Scheduled, Settlement
from outbox.producer.scheduling import deliver_due
from tests.inbox.support import receive
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


def test_what_a_handler_returns_is_the_result(wire: Wire, answer: Callable[..., None]) -> None:
    """One settlement, the deadline taken back, and all of it is one conversation."""
    answer(lambda event, message: Given(event.basket_id * 6))
    asked = ask()
    assert asked.state() == "pending"
    with pytest.raises(outbox.StillPending, match="pending") as raised:
        asked.result()
    assert raised.value.request_id == asked.id
    assert isinstance(raised.value, TimeoutError)

    wire.run()

    assert asked.state() == "answered"
    assert asked.result() == Given(42)
    assert not Scheduled.objects.exists()
    request, reply = Message.objects.order_by("position")
    assert request.attributes["replyto"] == reply.topic == "outbox.replies.asker"
    assert reply.attributes["inreplyto"] == reply.causation_id == reply.key == asked.id
    assert reply.correlation_id == request.correlation_id
    assert Settlement.objects.get().by == request.source


def test_an_answer_of_another_class(wire: Wire, answer: Callable[..., None]) -> None:
    answer(lambda event, message: Declined("no stock"))
    asked = ask()
    wire.run()
    assert asked.result() == Declined("no stock")


def test_the_request_is_sent_if_its_transaction_commits(wire: Wire) -> None:
    with transaction.atomic():
        asked = outbox.ask(Quote(1))
        transaction.set_rollback(True)
    assert not Message.objects.exists()
    assert not Scheduled.objects.exists()
    with pytest.raises(outbox.UnknownRequest):
        asked.state()
    with pytest.raises(outbox.TransactionRequired, match=r"ask\(\) needs a transaction"):
        outbox.ask(Quote(1))


def test_nothing_is_written_if_a_part_of_it_cannot_be(wire: Wire) -> None:
    """The caller may catch it, and commit."""
    small = override_settings(OUTBOX={"LANES": 1, "MAX_DATA_BYTES": 1})
    with small, transaction.atomic(), pytest.raises(outbox.PayloadTooLarge):
        outbox.ask(Quote(1))
    assert not Message.objects.exists()
    assert not Request.objects.exists()


def test_the_deadline(wire: Wire) -> None:
    """It is a message to oneself; what comes after it is kept, and changes nothing."""
    asked = ask(within=timedelta(hours=1))
    request = wire.publish()[0]
    early = replace_expiry(asked)
    receive(early, group=ASKER)
    assert asked.state() == "pending"  # whoever says that it is over before

    Request.objects.update(deadline=Message.objects.get().time)
    Scheduled.objects.update(due_at=Message.objects.get().time)
    deliver_due("default")
    wire.run()
    assert asked.state() == "expired"
    with pytest.raises(outbox.RequestExpired, match="is expired"):
        asked.result()

    late = reply_to(request, b'{"amount": 1}')
    receive(late, group=ASKER)
    assert asked.state() == "expired"
    assert Reply.objects.get().number is None
    assert Receipt.objects.get(message_id=late.id).state == State.PROCESSED


def replace_expiry(asked: outbox.Asked) -> Envelope:
    row = Scheduled.objects.get()
    assert row.type == EXPIRED
    assert Request.objects.get().deadline == row.due_at
    return Envelope(
        id=str(uuid.uuid4()),
        source="/anybody",
        type=EXPIRED,
        topic=row.topic,
        data=b"{}",
        attributes={"inreplyto": asked.id},
    )


def test_a_handler_that_fails_for_good(wire: Wire, answer: Callable[..., None]) -> None:
    """The asker is told what has failed; the text of the error stays where it is."""

    def fail(event: Quote, message: Envelope) -> None:
        raise ValueError("secret")

    answer(fail, retry=RetryPolicy(attempts=1))
    asked = ask()
    wire.run()
    assert asked.state() == "failed"
    with pytest.raises(outbox.RequestFailed, match="ValueError") as raised:
        asked.result()
    assert "secret" not in str(raised.value)
    assert Message.objects.get(type=FAILED).key == asked.id
    assert not Scheduled.objects.exists()


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite adds no constraints")
def test_a_failure_that_cannot_be_told_stops_nobody(
    wire: Wire, answer: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """As without the right to emit: the receipt is dead all the same, and the log says it."""

    def fail(event: Quote, message: Envelope) -> None:
        raise ValueError

    answer(fail, retry=RetryPolicy(attempts=1))
    asked = ask()
    table = "ALTER TABLE django_outbox_message"
    with connection.cursor() as cursor:
        cursor.execute(f"{table} ADD CONSTRAINT no_faults CHECK (type <> '{FAILED}')")
        try:
            wire.run()
        finally:
            cursor.execute(f"{table} DROP CONSTRAINT no_faults")
    assert Receipt.objects.get(handler="answers.0").state == State.DEAD
    assert asked.state() == "pending"
    assert "Nobody is told that 1 requests have failed" in caplog.text


def test_a_handler_that_only_looks_on_answers_nothing(
    wire: Wire, answer: Callable[..., None]
) -> None:
    """Whatever it returns, and however it fails."""

    def fail(event: object, message: Envelope) -> None:
        raise ValueError("not my business")

    answer(lambda event, message: Given(1), pattern="pricing.*")
    answer(fail, pattern="pricing.#", retry=RetryPolicy(attempts=1))
    answer(lambda event, message: None)
    asked = ask()
    wire.run()
    assert asked.state() == "pending"


def test_what_is_no_reply_is_an_error_of_the_handler(
    wire: Wire, answer: Callable[..., None]
) -> None:
    answer(lambda event, message: Quote(1), retry=RetryPolicy(attempts=1))
    asked = ask()
    wire.run()
    assert asked.state() == "failed"
    error = Receipt.objects.get(state=State.DEAD).error
    assert error is not None
    assert "its reply is Given or Declined or inbox.LATER, not a Quote" in error


def test_an_answer_that_is_given_later(wire: Wire, answer: Callable[..., None]) -> None:
    """By whoever has its id, once; the conversation is the same."""
    answer(lambda event, message: inbox.LATER)
    asked = ask()
    wire.run()
    assert asked.state() == "pending"
    assert OpenRequest.objects.get().message_id == asked.id

    with pytest.raises(ConfigurationError, match="its reply is"), transaction.atomic():
        inbox.answer(asked.id, Quote(1))
    with transaction.atomic():
        inbox.answer(asked.id, Given(5))
    with pytest.raises(outbox.UnknownRequest, match="was answered"), transaction.atomic():
        inbox.answer(asked.id, Given(6))
    wire.run()
    assert asked.result() == Given(5)
    assert not OpenRequest.objects.exists()
    reply = Message.objects.get(type="pricing.quote.given")
    assert reply.correlation_id == Message.objects.get(type="pricing.quote").correlation_id
    assert reply.causation_id == asked.id


def test_an_answer_that_is_rolled_back_can_be_given_again(
    wire: Wire, answer: Callable[..., None]
) -> None:
    answer(lambda event, message: inbox.LATER)
    asked = ask()
    wire.run()
    with transaction.atomic():
        inbox.answer(asked.id, Given(5))
        transaction.set_rollback(True)
    with transaction.atomic():
        inbox.answer(asked.id, Given(6))
    wire.run()
    assert asked.result() == Given(6)


def test_several_replies(wire: Wire) -> None:
    """Settled by the last that was wanted; the same one twice counts once, more are late."""
    asked = ask(replies=3)
    request = wire.publish()[0]
    messages = [
        reply_to(request, b'{"amount": %d}' % number, source=f"/pricing/{number}")
        for number in range(4)
    ]
    receive(messages[0], group=ASKER)
    receive(messages[0], group=ASKER)
    receive(messages[1], group=ASKER)
    assert asked.state() == "pending"
    receive(messages[2], messages[3], group=ASKER)
    assert asked.result() == [Given(0), Given(1), Given(2)]
    assert list(Reply.objects.order_by("id").values_list("number", flat=True)) == [1, 2, 3, None]


def test_one_reply_of_each_group(wire: Wire, answer: Callable[..., None]) -> None:
    """Two handlers of one group are one who answers; two groups of one service are two."""
    answer(lambda event, message: Given(1))
    answer(lambda event, message: Given(2))
    asked = ask(replies=3)
    wire.run()
    assert asked.state() == "pending"
    assert list(Reply.objects.order_by("id").values_list("number", "group")) == [
        (1, ANSWERER),
        (None, ANSWERER),
    ]

    request = wire.broker.published[0]
    told = {"inreplyto": request.id, "replygroup": "carrier"}
    source = Reply.objects.first().source  # type: ignore[union-attr]
    receive(
        reply_to(request, b'{"amount": 3}', source=source, attributes=told),
        reply_to(request, b'{"amount": 4}', source=source),  # by who does not tell his group
        reply_to(request, b'{"amount": 5}', source=source, attributes=told),
        group=ASKER,
    )
    assert [each.amount for each in asked.result()] == [1, 3, 4]


def test_who_answers_later_is_of_the_group_of_the_handler(
    wire: Wire, answer: Callable[..., None]
) -> None:
    answer(lambda event, message: inbox.LATER)
    asked = ask(replies=2)
    wire.run()
    with transaction.atomic():
        inbox.answer(asked.id, Given(6))
    wire.run()
    assert Reply.objects.get().group == ANSWERER


class InboxElsewhere:
    """Puts the inbox into another database than the outbox."""

    def db_for_write(self, model: type, **_: object) -> str | None:
        return "other" if model._meta.app_label == "django_inbox" else None


def test_an_answer_and_that_a_request_is_open_no_more_commit_together(
    wire: Wire, settings: Any
) -> None:
    """Else a rollback would take back the answer alone, and nobody could give another."""
    settings.DATABASE_ROUTERS = [InboxElsewhere()]
    with transaction.atomic(), pytest.raises(outbox.TransactionRequired, match="'other'"):
        inbox.answer("1", Given(5))


def test_who_cannot_answer_is_one_reply_less(
    wire: Wire, answer: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """Of a request that wants several: those of others still count."""

    def refuse(event: Quote, message: Envelope) -> Given:
        raise inbox.Reject("closed today")

    answer(refuse)
    asked = ask(replies=2)
    wire.run()
    assert asked.state() == "pending"
    assert "One of those who are to answer" in caplog.text

    request = wire.broker.published[0]
    messages = [
        reply_to(request, b'{"amount": 1}', source=f"/pricing/{number}") for number in range(2)
    ]
    receive(*messages, group=ASKER)
    assert asked.result() == [Given(1), Given(1)]


def test_too_few_replies(wire: Wire) -> None:
    asked = ask(replies=2)
    request = wire.publish()[0]
    receive(reply_to(request, b'{"amount": 1}'), group=ASKER)
    Request.objects.update(deadline=Message.objects.first().time)  # type: ignore[union-attr]
    receive(replace_due(asked), group=ASKER)
    with pytest.raises(outbox.RequestExpired) as raised:
        asked.result()
    assert raised.value.replies == (Given(1),)


def replace_due(asked: outbox.Asked) -> Envelope:
    row = Scheduled.objects.get()
    return Envelope(
        id=str(row.message_id),
        source=row.source,
        type=row.type,
        topic=row.topic,
        data=bytes(row.data),
        attributes=row.attributes,
    )


def test_cancel(wire: Wire, answer: Callable[..., None]) -> None:
    """It says whether it has settled it; what is answered after that is late."""
    answer(lambda event, message: Given(1))
    asked = ask()
    assert asked.cancel(by="me") is True
    assert asked.cancel() is False
    wire.run()
    with pytest.raises(outbox.RequestCancelled):
        asked.result()
    assert Reply.objects.get().number is None
    assert not Scheduled.objects.exists()

    asked = ask()
    wire.run()
    assert asked.cancel() is False
    assert asked.result() == Given(1)
    with pytest.raises(outbox.UnknownRequest):
        replace(asked, id=str(uuid.uuid4())).cancel()
    with pytest.raises(outbox.UnknownRequest):
        replace(asked, id="what").state()


def test_waiting_where_it_cannot_end(wire: Wire) -> None:
    """What was asked in a transaction is sent behind it."""
    with transaction.atomic():
        asked = outbox.ask(Quote(1))
        with pytest.raises(outbox.WaitingInTransaction):
            asked.result(timeout=1)
        with pytest.raises(outbox.StillPending):
            asked.result()


def test_who_waits_is_woken(wire: Wire) -> None:
    asked = ask()
    request = wire.publish()[0]
    found: list[object] = []

    def wait() -> None:
        try:
            found.append(asked.result(timeout=20))
        finally:
            connection.close()

    thread = threading.Thread(target=wait)
    thread.start()
    receive(reply_to(request, b'{"amount": 8}'), group=ASKER)
    thread.join(20)
    assert found == [Given(8)]


def test_who_waits_in_vain(wire: Wire) -> None:
    asked = ask()
    with pytest.raises(outbox.StillPending, match=r"after 0\.05 s"):
        asked.result(timeout=0.05)


@pytest.mark.django_db(transaction=True)
def test_in_a_coroutine(wire: Wire, answer: Callable[..., None]) -> None:
    answer(lambda event, message: Given(3))
    asked = ask()

    async def wait() -> object:
        with pytest.raises(outbox.StillPending):
            await asked.aresult(timeout=0.05)
        return await asked.acancel()

    assert async_to_sync(wait)() is True


def test_an_idempotency_key(wire: Wire) -> None:
    """Asked again it is the same request; another request needs another key."""
    first = ask(idempotency_key="1", owner="me")
    again = ask(idempotency_key="1", owner="me")
    assert first == again
    assert Message.objects.count() == Scheduled.objects.count() == 1
    with pytest.raises(outbox.OtherRequest, match=first.id), transaction.atomic():
        outbox.ask(Quote(8), idempotency_key="1", owner="me")
    assert ask(idempotency_key="1", owner="you") != first
    assert ask(idempotency_key="2", owner="me") != first
    assert ask() != ask()


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has one writer")
def test_two_who_ask_the_same_at_once(wire: Wire) -> None:
    """The second waits for the first, and has its request."""
    barrier, found = threading.Barrier(2), []

    def run() -> None:
        try:
            with transaction.atomic():
                barrier.wait(10)
                found.append(outbox.ask(Quote(7), idempotency_key="k"))
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(20)
    assert found[0] == found[1]
    assert Message.objects.count() == Scheduled.objects.count() == Request.objects.count() == 1


def test_what_cannot_be_asked(wire: Wire) -> None:
    with transaction.atomic():
        with pytest.raises(outbox.InvalidEvent, match="is no request"):
            outbox.ask(Given(1))
        with pytest.raises(outbox.InvalidEvent, match="within is a timedelta above 0"):
            outbox.ask(Quote(1), within=timedelta(0))
        with pytest.raises(outbox.InvalidEvent, match="replies is 1 to"):
            outbox.ask(Quote(1), replies=0)
        with pytest.raises(outbox.InvalidEvent, match="owner"):
            outbox.ask(Quote(1), owner="a\x00b")
        with pytest.raises(TypeError, match="no option 'delay'"):
            outbox.ask(Quote(1), delay=3)  # type: ignore[call-arg]
    assert not Message.objects.exists()


@pytest.mark.parametrize(
    "attributes",
    [
        {"attributes": {}},
        {"attributes": {"inreplyto": "x"}},
        {"attributes": {"inreplyto": str(uuid.uuid4())}},
        {"attributes": {"inreplyto": "9" * 300}},
    ],
)
def test_what_strangers_send_to_the_address(wire: Wire, attributes: dict[str, Any]) -> None:
    """It settles nothing, and is no failure."""
    asked = ask()
    request = wire.publish()[0]
    stranger = reply_to(request, b'{"amount": 8}', **attributes)
    receive(stranger, group=ASKER)
    assert asked.state() == "pending"
    assert Receipt.objects.get().state == State.PROCESSED


@pytest.mark.parametrize("address", ["", "#", "shop.order.placed", "outbox.replies.", "x" * 300])
def test_a_request_without_an_address(
    wire: Wire, answer: Callable[..., None], address: str
) -> None:
    """It is handled, and nobody is answered: least of all a topic of another kind."""
    answer(lambda event, message: Given(1))
    message = Envelope(
        id=str(uuid.uuid4()),
        source="/x",
        type="pricing.quote",
        topic="pricing.quote",
        data=b'{"basket_id": 1}',
        attributes={"replyto": address},
    )
    receive(message, group=ANSWERER)
    assert Receipt.objects.get().state == State.PROCESSED
    assert not Message.objects.exists()


def test_a_handler_for_the_reply_is_called_as_well(wire: Wire, answer: Callable[..., None]) -> None:
    """In the asking group: that is how to go on without waiting."""
    seen: list[object] = []
    answer(lambda event, message: Given(2))
    answer(
        lambda event, message: seen.append(event),
        pattern="pricing.quote.given",
        declared_group=ASKER,
    )
    asked = ask()
    wire.run()
    assert seen == [Given(2)]
    assert asked.result() == Given(2)


def test_requests_are_forgotten(wire: Wire, answer: Callable[..., None]) -> None:
    """Those that ended long ago, with their replies; one that is pending stays."""
    answer(lambda event, message: Given(1))
    done, pending = ask(idempotency_key="k"), None
    wire.run()
    pending = ask(idempotency_key="l")
    assert pruned("requests") == 0
    Settlement.objects.update(settled_at=LONG_AGO)
    Request.objects.update(asked_at=LONG_AGO)
    assert pruned("requests") == 1
    assert Request.objects.get().message_id == uuid.UUID(pending.id)
    assert not Reply.objects.exists()
    assert ask(idempotency_key="k") != done
    assert ask(idempotency_key="l") == pending


def test_open_requests_are_forgotten(wire: Wire, answer: Callable[..., None]) -> None:
    answer(lambda event, message: inbox.LATER)
    ask()
    wire.run()
    assert pruned("open requests") == 0
    OpenRequest.objects.update(opened_at=LONG_AGO)
    assert pruned("open requests") == 1
    assert not OpenRequest.objects.exists()


LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def pruned(name: str) -> int:
    """Count, and then delete, what is old; return how many."""
    pruner = next(each for each in pruners() if each.name == name)
    before = cutoff("default", timedelta(days=7))
    assert pruner.count is not None
    assert pruner.oldest is not None
    counted = pruner.count("default", before=before, limit=10)
    assert (pruner.oldest("default") == LONG_AGO) == bool(counted)
    assert pruner.prune("default", before=before, limit=10) == counted
    return counted
