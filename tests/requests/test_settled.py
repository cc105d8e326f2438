"""A handler goes on when a request has ended: once, however that was."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

import inbox
import outbox
from inbox.handlers.registry import handlers
from inbox.models import DeadLetter, Receipt
from inbox.receiving.retries import Retries
from inbox.states import State
from outbox.exceptions import ConfigurationError
from outbox.message.envelope import Envelope
from outbox.message.requests import EXPIRED, SETTLED, settled_type
from outbox.models import Message, Request, Settlement
from outbox.replies import settling
from tests.inbox.support import receive
from tests.requests.support import ASKER, Given, Quote, Wire, ask, reply_to

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

Answer = Callable[..., None]
Ended = list[tuple[Any, outbox.Settled]]


@pytest.fixture
def ended(wire: Wire) -> Iterator[Ended]:
    """What a handler was told of requests that have ended."""
    found: Ended = []

    @inbox.on_settled(Quote, name="goes.on")
    def go_on(request: Quote, settled: outbox.Settled) -> None:
        found.append((request, settled))

    yield found
    handlers.remove("goes.on")


def test_answered(wire: Wire, answer: Answer, ended: Ended) -> None:
    answer(lambda event, message: Given(6))
    asked = ask(owner="me")
    wire.run()
    [(request, settled)] = ended
    assert request == Quote(7)
    row = Settlement.objects.get()
    assert settled == outbox.Settled(
        id=asked.id,
        type="pricing.quote",
        state="answered",
        replies=(Given(6),),
        reason="",
        by=row.by,
        at=row.settled_at,
        owner="me",
        correlation_id=Message.objects.get(type="pricing.quote").correlation_id or "",
    )
    assert settled.reply == Given(6)
    told = Message.objects.get(type=SETTLED)
    assert told.message_id == row.told_id
    assert (told.causation_id, told.topic) == (asked.id, "outbox.replies.asker")
    receipt = Receipt.objects.get(message_id=str(told.message_id))
    assert (receipt.handler, receipt.state) == ("goes.on", State.PROCESSED)


def test_each_other_end(wire: Wire, ended: Ended) -> None:
    """Expired, failed and cancelled are told in the same way; each once, and nothing before."""
    expired, failed, cancelled = ask(), ask(), ask()
    wire.run()
    assert ended == []
    Request.objects.filter(message_id=expired.id).update(
        deadline=Message.objects.order_by("position")[0].time
    )
    due = Envelope(id="1", source="/x", type=EXPIRED, data=b"{}")
    assert settling.expire(expired.id, due, using="default")
    assert settling.fail(failed.id, "h has failed", using="default", by="/pricing")
    assert cancelled.cancel(by="me")
    assert not cancelled.cancel()
    wire.run()
    wire.run()
    found = {settled.id: (settled.state, settled.reason, settled.by) for _, settled in ended}
    assert found == {
        expired.id: ("expired", "", ""),
        failed.id: ("failed", "h has failed", "/pricing"),
        cancelled.id: ("cancelled", "", "me"),
    }
    assert len(ended) == 3
    assert {settled.reply for _, settled in ended} == {None}


def test_it_is_retried_as_any_handler_is(wire: Wire) -> None:
    """Its effects and its receipt are one; the settlement stands, whatever becomes of it."""
    calls: list[str] = []

    @inbox.on_settled("pricing.quote", name="fails.once")
    def go_on(request: Quote, settled: outbox.Settled) -> None:
        calls.append(settled.state)
        if len(calls) == 1:
            raise inbox.Retry(after=0)

    try:
        asked = ask()
        asked.cancel()
        wire.run()
        assert asked.state() == "cancelled"
        assert Receipt.objects.get(handler="fails.once").state == State.RETRYING
        Retries("default", ASKER).turn()
        assert calls == ["cancelled", "cancelled"]
        assert Receipt.objects.get(handler="fails.once").state == State.PROCESSED
        assert Retries("default", ASKER).turn().settled == 0
    finally:
        handlers.remove("fails.once")


def test_what_is_rolled_back_is_not_told(wire: Wire, ended: Ended) -> None:
    asked = ask()
    with transaction.atomic():
        asked.cancel()
        transaction.set_rollback(True)
    wire.run()
    assert ended == []
    asked.cancel()
    wire.run()
    assert len(ended) == 1


def test_nobody_else_can_tell_it(wire: Wire, ended: Ended) -> None:
    """Not before the end, and not again: only the message that was sent with it counts."""
    asked = ask()
    request = wire.publish()[0]

    def tell(**other: Any) -> None:
        about = {"inreplyto": asked.id, "requesttype": "pricing.quote"}
        message = reply_to(request, b"{}", **{"type": SETTLED, "attributes": about} | other)
        receive(message, group=ASKER)

    tell()
    asked.cancel()
    told = next(each for each in wire.publish() if each.type == SETTLED)
    tell()
    tell(attributes={"requesttype": "pricing.quote"})
    tell(attributes={"inreplyto": str(uuid.uuid4()), "requesttype": "pricing.quote"})
    tell(attributes={"inreplyto": "x" * 1000, "requesttype": "pricing.quote"})
    tell(id="what")
    tell(attributes={"inreplyto": asked.id})
    assert ended == []
    assert set(Receipt.objects.values_list("state", flat=True)) == {State.PROCESSED}
    assert not DeadLetter.objects.exists()
    receive(told, told, group=ASKER)
    receive(told, group=ASKER)
    assert [settled.state for _, settled in ended] == ["cancelled"]


def test_of_another_version(wire: Wire, ended: Ended) -> None:
    """A handler for a class is for the version of that class; of others nobody is told."""
    asked = ask()
    Request.objects.update(version=2)
    asked.cancel()
    wire.run()
    assert ended == []
    assert not Message.objects.filter(type=SETTLED).exists()


def test_what_the_log_has_forgotten(wire: Wire, ended: Ended) -> None:
    """The end is told all the same, without what was asked."""
    asked = ask()
    asked.cancel()
    page = wire.publish()
    Message.objects.all().delete()
    receive(*[each for each in page if each.type == SETTLED], group=ASKER)
    assert [(request, settled.id) for request, settled in ended] == [(None, asked.id)]


def test_what_it_costs(wire: Wire, ended: Ended) -> None:
    """One statement at the end, where there is such a handler; none else."""

    def statements() -> int:
        asked = ask()
        with CaptureQueriesContext(connection) as found:
            asked.cancel()
        return len(found)

    told = statements()
    found = replace(handlers.get("goes.on"))  # type: ignore[type-var]
    handlers.remove("goes.on")
    assert statements() == told - 1
    assert not Settlement.objects.order_by("pk").last().told_id  # type: ignore[union-attr]
    handlers.add(found)  # type: ignore[arg-type]


def test_what_cannot_go_on(wire: Wire) -> None:
    with pytest.raises(ConfigurationError, match="is no request"):
        inbox.on_settled(Given)
    with pytest.raises(ConfigurationError, match="needs the request"):
        inbox.on_settled(5)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="async"):

        @inbox.on_settled(Quote)
        async def later(request: Quote, settled: outbox.Settled) -> None: ...

    with pytest.raises(ConfigurationError, match="cannot be called"):

        @inbox.on_settled(Quote)  # type: ignore[type-var]
        def alone(request: Quote) -> None: ...


def test_it_may_ask_again(wire: Wire, answer: Answer) -> None:
    """What it asks is in its transaction, and in the same conversation."""
    asked: list[outbox.Asked] = []

    @inbox.on_settled(Quote, name="asks.again")
    def go_on(request: Quote, settled: outbox.Settled) -> None:
        if not asked:
            asked.append(outbox.ask(Quote(8)))

    try:
        answer(lambda event, message: Given(event.basket_id))
        first = ask()
        wire.run()
        assert asked[0].result() == Given(8)
        assert first.result() == Given(7)
        assert len(set(Request.objects.values_list("correlation_id", flat=True))) == 1
    finally:
        handlers.remove("asks.again")


def test_a_stranger_envelope_type_is_no_settlement() -> None:

    assert settled_type("pricing.quote", {"requesttype": "x"}) == ""
    assert settled_type(SETTLED, {"requesttype": 5}) == ""
    assert settled_type(SETTLED, {"requesttype": "x"}) == "x"
