"""That a request is cancelled comes to whoever answers: what is not handled yet is skipped."""

import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

import inbox
import outbox
from inbox.delivery import Delivery
from inbox.handlers.registry import handlers
from inbox.models import DeadLetter, OpenRequest, Receipt
from inbox.receiving.retries import Retries
from inbox.replies import taking, withdrawals
from inbox.states import Reason, State
from inbox.verdicts import Retry, RetryPolicy
from outbox.message.envelope import Envelope
from outbox.message.requests import CANCELLED
from outbox.models import Message, Reply
from tests.inbox.support import receive
from tests.requests.support import ANSWERER, Given, Wire, ask

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

Answer = Callable[..., None]


def fails(event: object, message: Envelope) -> object:
    raise Retry(after=timedelta(hours=1))


def both(wire: Wire) -> list[Envelope]:
    """Ask and cancel; return the request, and what cancels it."""
    asked = ask()
    assert asked.cancel(by="me")
    return wire.publish()


def of_request(asked_id: str) -> Receipt:
    return Receipt.objects.get(message_id=asked_id)


def test_it_goes_the_way_of_the_request(wire: Wire) -> None:
    """Same source, topic, key and lane, and behind it."""
    asked = ask()
    asked.cancel()
    request, cancelled = Message.objects.order_by("position")
    assert cancelled.type == CANCELLED
    for name in ("source", "topic", "key", "lane", "correlation_id"):
        assert getattr(cancelled, name) == getattr(request, name)
    assert cancelled.causation_id == cancelled.attributes["inreplyto"] == asked.id
    assert asked.cancel() is False
    assert Message.objects.count() == 2  # told once


def test_a_request_without_a_key_is_cancelled_in_its_lane(wire: Wire) -> None:
    with transaction.atomic():
        for _ in range(5):
            outbox.ask("pricing.quote", {"basket_id": 1}, key=None).cancel()
    rows = Message.objects.values_list("lane", "attributes__inreplyto", "message_id")
    lanes = {str(name): lane for lane, to, name in rows if to is None}
    assert all(lane == lanes[to] for lane, to, _ in rows if to is not None)


def test_what_is_to_be_tried_again_is_skipped(wire: Wire, answer: Answer) -> None:
    """Its message is not kept any longer, and nobody calls the handler again."""
    answer(fails)
    request, cancelled = both(wire)
    receive(request, group=ANSWERER)
    assert of_request(request.id).state == State.RETRYING
    receive(cancelled, group=ANSWERER)
    row = of_request(request.id)
    assert (row.state, row.reason, row.next_attempt_at) == (State.SKIPPED, Reason.CANCELLED, None)
    assert row.body is None
    assert row.error == "Whoever asked has cancelled the request."
    receive(request, group=ANSWERER)
    assert Retries("default", ANSWERER).turn().settled == 0


def test_an_answer_that_was_to_come_later(wire: Wire, answer: Answer) -> None:
    """The open request is closed; what its handler has done stands."""
    answer(lambda event, message: inbox.LATER)
    request, cancelled = both(wire)
    receive(request, group=ANSWERER)
    assert OpenRequest.objects.exists()
    receive(cancelled, group=ANSWERER)
    assert not OpenRequest.objects.exists()
    row = of_request(request.id)
    assert (row.state, row.reason) == (State.PROCESSED, Reason.CANCELLED)
    with pytest.raises(outbox.UnknownRequest, match="cancelled"), transaction.atomic():
        inbox.answer(request.id, Given(1))


def test_what_was_handled_is_unaffected(wire: Wire, answer: Answer) -> None:
    """Its answer is late where it was asked."""
    answer(lambda event, message: Given(1))
    request, cancelled = both(wire)
    receive(request, group=ANSWERER)
    receive(cancelled, group=ANSWERER)
    row = of_request(request.id)
    assert (row.state, row.reason) == (State.PROCESSED, None)
    wire.run()
    assert outbox.Asked(request.id).state() == "cancelled"
    assert Reply.objects.get().number is None


@pytest.mark.parametrize("batches", [[[0, 1]], [[1, 0]], [[1], [0]]])
def test_what_was_not_handled_is_not(wire: Wire, answer: Answer, batches: list[list[int]]) -> None:
    """In one batch with it, or if it overtakes the request on the way."""
    called: list[object] = []
    answer(lambda event, message: called.append(event))
    answer(lambda event, message: called.append(event), ordered=True)
    pair = both(wire)
    for batch in batches:
        receive(*[pair[each] for each in batch], group=ANSWERER)
    assert called == []
    rows = Receipt.objects.exclude(handler=withdrawals.NAME)
    assert {(row.state, row.reason) for row in rows} == {(State.SKIPPED, Reason.CANCELLED)}
    assert rows.count() == 2
    assert Receipt.objects.get(handler=withdrawals.NAME).state == State.PROCESSED


def test_who_only_looks_on_sees_the_request(wire: Wire, answer: Answer) -> None:
    seen: list[str] = []
    answer(lambda event, message: seen.append(message.type), pattern="pricing.#")
    answer(lambda event, message: Given(1))
    receive(*both(wire), group=ANSWERER)
    assert seen == ["pricing.quote"]


def test_what_waits_behind_it_goes_on(wire: Wire, answer: Answer) -> None:
    """In the line of an ordered handler."""
    called: list[str] = []

    def handle(event: object, message: Envelope) -> None:
        if not called:
            called.append(message.id)
            raise Retry(after=timedelta(hours=1))
        called.append(message.id)

    answer(handle, ordered=True)
    first, second = ask(), ask()
    one, two = wire.publish()
    receive(one, two, group=ANSWERER)
    assert of_request(second.id).state == State.WAITING
    first.cancel()
    receive(*wire.publish(), group=ANSWERER)
    assert of_request(first.id).state == State.SKIPPED
    Retries("default", ANSWERER).turn()
    assert of_request(second.id).state == State.PROCESSED
    assert called == [first.id, second.id]


def test_in_the_batch_of_one_that_comes_to_wait_behind_it(wire: Wire, answer: Answer) -> None:
    called: list[str] = []

    def handle(event: object, message: Envelope) -> None:
        called.append(message.id)
        if len(called) == 1:
            raise Retry(after=timedelta(hours=1))

    answer(handle, ordered=True)
    first = ask()
    receive(*wire.publish(), group=ANSWERER)
    second = ask()
    first.cancel()
    receive(*wire.publish(), group=ANSWERER)
    Retries("default", ANSWERER).turn()
    assert of_request(second.id).state == State.PROCESSED


def test_a_dead_one_stays_dead(wire: Wire, answer: Answer) -> None:
    """A person should still see what is wrong with its handler."""

    def fail(event: object, message: Envelope) -> object:
        raise ValueError

    answer(fail, retry=RetryPolicy(attempts=1))
    request, cancelled = both(wire)
    receive(request, group=ANSWERER)
    receive(cancelled, group=ANSWERER)
    assert of_request(request.id).state == State.DEAD


def test_a_stranger_cancels_nothing(wire: Wire, answer: Answer) -> None:
    """A request is that of its source; another one cancels what has its own source and that id."""
    answer(lambda event, message: inbox.LATER)
    request, cancelled = both(wire)
    receive(request, group=ANSWERER)
    receive(strange(cancelled, source="/stranger"), group=ANSWERER)
    assert OpenRequest.objects.get().message_id == request.id
    row = Receipt.objects.get(message_id=request.id, source=request.source)
    assert (row.state, row.reason) == (State.PROCESSED, None)


def strange(message: Envelope, **other: Any) -> Envelope:
    """Return what another service might send."""
    values = {name: getattr(message, name) for name in message.__struct_fields__}
    return Envelope(**values | {"id": str(uuid.uuid4())} | other)


@pytest.mark.parametrize(
    "other",
    [
        {"attributes": {}},
        {"attributes": {"inreplyto": "x" * 5000}},
        {"data": b"[]"},
        {"data": b"{}"},
        {"data": b'{"type": 1, "version": 1}'},
        {"data": b'{"type": "pricing.quote", "version": 1.0}'},
        {"data": b'{"type": "pricing.quote", "version": 9}'},
        {"data": b'{"type": "pricing.quote.given", "version": 1}'},
        {"data": json.dumps({"type": "pricing.quote", "version": 1, "x": "y" * 20_000}).encode()},
        {"data": b"[" * 9_000 + b"]" * 9_000},
    ],
)
def test_what_cannot_be_meant(wire: Wire, answer: Answer, other: dict[str, Any]) -> None:
    """It cancels nothing, and fails no batch."""
    answer(lambda event, message: inbox.LATER)
    request, cancelled = both(wire)
    receive(request, strange(cancelled, **other), group=ANSWERER)
    assert OpenRequest.objects.get().message_id == request.id


def test_a_group_that_answers_nothing_takes_it(wire: Wire, answer: Answer) -> None:
    """It may be bound to the topic by a pattern; that leaves no dead letter there."""
    answer(lambda event, message: None, pattern="pricing.*", declared_group="audit")
    receive(*both(wire), group="audit")
    assert not DeadLetter.objects.exists()
    for name in (taking.NAME, withdrawals.NAME):
        handlers.remove(name)
    receive(*both(wire), group="audit")
    assert not DeadLetter.objects.exists()


def test_two_groups_of_a_service(wire: Wire, answer: Answer) -> None:
    """Whichever gets it first, it holds for both."""
    answer(lambda event, message: inbox.LATER)
    answer(lambda event, message: inbox.LATER, declared_group="other")
    request, cancelled = both(wire)
    receive(request, group=ANSWERER)
    receive(cancelled, group="other")
    receive(request, group="other")
    receive(cancelled, group=ANSWERER)
    assert not OpenRequest.objects.exists()
    states = Receipt.objects.filter(message_id=request.id).values_list("handler", "state")
    assert dict(states) == {"answers.0": State.PROCESSED, "answers.1": State.SKIPPED}


def test_it_asks_for_no_queue_of_its_own(wire: Wire, answer: Answer) -> None:
    answer(lambda event, message: Given(1))
    groups = handlers.groups()
    names = {each.name for found in groups.values() for each in found}
    assert names.isdisjoint({withdrawals.NAME})
    assert names > {taking.NAME, "answers.0"}


def test_when_it_is_delivered_again(wire: Wire, answer: Answer) -> None:
    """With care, in a turn of its own, as what may have ended another process."""
    answer(fails)
    request, cancelled = both(wire)
    receive(request, group=ANSWERER)
    receive(replace(Delivery.of(cancelled), redelivered=True), group=ANSWERER)
    assert of_request(request.id).state == State.RETRYING
    Retries("default", ANSWERER).turn()
    assert of_request(request.id).state == State.SKIPPED
    other = both(wire)[1]
    receive(replace(Delivery.of(other), redelivered=True), group=ANSWERER)
    Retries("default", ANSWERER).turn()
    assert of_request(str(other.attributes["inreplyto"])).state == State.SKIPPED


def test_what_it_costs(wire: Wire, answer: Answer) -> None:
    """One statement more for who asks; for a batch a few, however many are cancelled in it."""
    answer(fails)
    asked = ask()
    with CaptureQueriesContext(
        connection,
    ) as found:
        asked.cancel()
    inserted = [each["sql"] for each in found if "django_outbox_message" in each["sql"]]
    assert len(inserted) == 1
    receive(*wire.publish(), group=ANSWERER)

    def statements(count: int) -> int:
        pairs = [both(wire) for _ in range(count)]
        receive(*[request for request, _ in pairs], group=ANSWERER)
        with CaptureQueriesContext(connection) as found:
            receive(*[cancelled for _, cancelled in pairs], group=ANSWERER)
        assert set(
            Receipt.objects.filter(message_id__in=[request.id for request, _ in pairs]).values_list(
                "state", flat=True
            )
        ) == {State.SKIPPED}
        return len([each for each in found if "SAVEPOINT" not in each["sql"]])

    assert statements(7) == statements(1)


def test_in_one_database(wire: Wire, answer: Answer) -> None:
    """Who asks may be who answers, as with the local broker."""
    answer(fails)
    asked = ask()
    wire.run()
    asked.cancel()
    wire.run()
    assert of_request(asked.id).state == State.SKIPPED
    assert asked.state() == "cancelled"
    assert not DeadLetter.objects.filter(type=CANCELLED).exists()
    assert Message.objects.count() == 2
