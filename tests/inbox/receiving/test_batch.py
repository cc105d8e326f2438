"""Receiving a batch: claims, savepoints, duplicates and what failures leave behind."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
from django.db import (
    connection,
    transaction,
)
from django.test.utils import CaptureQueriesContext

import outbox
from inbox.delivery import Delivery
from inbox.models import DeadLetter, Receipt
from inbox.receiving.batch import Batch
from outbox.message.context import current_context
from outbox.message.envelope import Envelope
from outbox.models import Message
from tests.inbox.receiving.support import fail, named, receipts
from tests.inbox.support import (
    HAPPENED,
    Clock,
    Handling,
    effects,
    happened,
    in_thread,
    postgresql,
    receive,
    record,
    waiting_for_lock,
)
from tests.kit.database import statements
from tests.kit.sessions import sessions
from tests.kit.support import Counted, Registered
from tests.kit.waiting import until
from tests.testapp.events import Happened

pytestmark = pytest.mark.django_db(transaction=True)


# --- Once ------------------------------------------------------------------------------------


@pytest.mark.sqlite
def test_a_message_is_handled_and_its_receipt_kept(handling: Handling) -> None:
    """Effect and receipt commit together; the receipt says whose, what and in which flow."""
    handling()
    message = happened(7, correlation_id="flow")

    [result] = receive(message)

    assert (result.handled, result.duplicates, not result.failures) == (1, 0, True)
    assert effects() == [7]
    receipt = Receipt.objects.get()
    assert (receipt.handler, receipt.source, receipt.message_id) == (
        "record",
        "/elsewhere",
        message.id,
    )
    assert (receipt.type, receipt.correlation_id) == (HAPPENED, "flow")


@pytest.mark.sqlite
def test_a_duplicate_in_a_later_batch_is_suppressed(handling: Handling) -> None:
    """A message that comes again is settled without being handled."""
    handling()
    message = happened()
    receive(message)

    [result] = receive(message)

    assert (result.handled, result.duplicates, not result.failures) == (0, 1, True)
    assert effects() == [1]


@pytest.mark.sqlite
def test_a_duplicate_in_the_same_batch_is_suppressed(handling: Handling) -> None:
    """Of two copies in one batch the first is handled."""
    handling()
    message = happened()

    first, second = receive(message, message)

    assert (first.handled, second.handled, second.duplicates) == (1, 0, 1)
    assert effects() == [1]


@pytest.mark.sqlite
def test_each_handler_has_its_own_ledger(handling: Handling) -> None:
    """A handler that comes later handles what another has handled already."""
    handling(named("a"), name="a")
    message = happened()
    receive(message)
    handling(named("b"), name="b")

    [result] = receive(message)

    assert (result.handled, result.duplicates) == (1, 1)
    assert (effects("a"), effects("b")) == ([1], [1])


@pytest.mark.sqlite
def test_messages_of_two_sources_may_have_one_id(handling: Handling) -> None:
    """An id is unique within its source only, as CloudEvents says."""
    handling()

    receive(happened(1, id="1", source="/a"), happened(2, id="1", source="/b"))

    assert effects() == [1, 2]


@pytest.mark.sqlite
def test_only_the_handlers_of_the_group_are_called(handling: Handling) -> None:
    """A queue's messages are not for the handlers of another group."""
    handling(named("a"), name="a")
    handling(named("b"), name="b", declared_group="other")

    receive(happened())

    assert (effects("a"), effects("b")) == ([1], [])


@postgresql
def test_a_concurrent_duplicate_waits_and_is_skipped(handling: Handling) -> None:
    """Two consumers with one message: the second waits for the first's commit."""
    handling()
    message = happened()

    with sessions(1) as [first]:
        first.begin()
        first.run(receive, message)
        with in_thread(lambda: receive(message)) as second:
            until(waiting_for_lock)
            assert second.running
            first.commit()
    [result] = second.get()

    assert (result.handled, result.duplicates) == (0, 1)
    assert effects() == [1]


@postgresql
def test_a_concurrent_duplicate_is_handled_when_the_first_rolls_back(handling: Handling) -> None:
    """The first consumer rolls back: the one that waited handles the message."""
    handling()
    message = happened()

    with sessions(1) as [first]:
        first.begin()
        first.run(receive, message)
        with in_thread(lambda: receive(message)) as second:
            until(waiting_for_lock)
            first.rollback()
    [result] = second.get()

    assert (result.handled, result.duplicates) == (1, 0)
    assert effects() == [1]


@postgresql
def test_overlapping_batches_never_deadlock(handling: Handling) -> None:
    """Two consumers with the same messages in opposite order: each is handled once."""
    handling()
    strange = [outbox.Envelope(id=str(n), source="/x", type="tests.odd", data=b"") for n in "123"]
    for _ in range(20):
        messages = [*[happened(number) for number in range(30)], *strange]
        barrier = threading.Barrier(2)

        def consume(batch: list[Envelope], barrier: threading.Barrier = barrier) -> Any:
            barrier.wait(10)
            return receive(*batch)

        with (
            in_thread(lambda c=consume, m=messages: c(m)) as one,
            in_thread(lambda c=consume, m=messages: c(m[::-1])) as two,
        ):
            pass
        handled = sum(r.handled for r in [*one.get(), *two.get()])
        assert handled == 30
    assert len(effects()) == 20 * 30


@postgresql
def test_dead_letters_are_inserted_in_one_order(handling: Handling) -> None:
    """However a batch is ordered, its dead letters are: two consumers cannot deadlock on them."""
    bodies = [b"a", b"b", b"c", b"d"]

    def digests(batch: list[bytes]) -> list[str]:
        DeadLetter.objects.all().delete()
        receive(*[happened(type="tests.unknown", data=body, id=body.decode()) for body in batch])
        return list(DeadLetter.objects.order_by("id").values_list("digest", flat=True))

    assert digests(bodies) == digests(bodies[::-1]) == sorted(digests(bodies))


# --- What a handler does besides -------------------------------------------------------------


@pytest.mark.sqlite
def test_what_a_handler_emits_inherits_the_flow(handling: Handling) -> None:
    """Correlation and trace go on, and the message handled is the cause."""
    handling(lambda event, message: outbox.emit(Counted("k", 1)))
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    message = happened(correlation_id="flow", trace_parent=trace, trace_state="a=b")

    receive(message)

    emitted = Message.objects.get()
    assert (emitted.correlation_id, emitted.causation_id) == ("flow", message.id)
    assert (emitted.trace_parent, emitted.trace_state) == (trace, "a=b")


@pytest.mark.sqlite
def test_without_a_correlation_id_the_message_starts_the_flow(handling: Handling) -> None:
    """What it causes is correlated by its id."""
    handling(lambda event, message: outbox.emit(Counted("k", 1)))
    message = happened(correlation_id=None)

    receive(message)

    assert Message.objects.get().correlation_id == message.id
    assert Receipt.objects.get().correlation_id is None


@pytest.mark.sqlite
@pytest.mark.parametrize("attribute", ["traceparent", "tracestate", "correlationid"])
def test_an_empty_attribute_does_not_stop_what_a_handler_emits(
    attribute: str, handling: Handling
) -> None:
    """Some senders write an empty header where they have nothing to say."""
    handling(lambda event, message: outbox.emit(Counted("k", 1)))
    message = Delivery.of(happened())

    [result] = receive(replace(message, headers={**message.headers, f"ce-{attribute}": ""}))

    assert not result.failures
    assert Message.objects.get().causation_id


@pytest.mark.sqlite
def test_the_context_of_a_message_ends_with_its_handler(handling: Handling) -> None:
    """Also when the handler fails, nothing of its flow is left for others."""
    handling(fail, name="fail")

    receive(happened(correlation_id="flow"))

    assert current_context().correlation_id is None


@pytest.mark.sqlite
@postgresql
def test_a_batch_of_handlers_that_emit_wakes_the_relay_once(handling: Handling) -> None:
    """Though each of their hooks is wrapped, to fail alone."""
    handling(lambda event, message: outbox.emit(Counted("k", event.number)))

    with CaptureQueriesContext(connection) as captured:
        receive(*map(happened, range(10)))

    assert Message.objects.count() == 10
    assert len([each for each in captured.captured_queries if "pg_notify" in each["sql"]]) == 1


def test_what_a_failing_handler_emits_is_not_published(handling: Handling) -> None:
    """Events are in the handler's transaction, so they go with it."""

    def emit_and_fail(event: Happened, message: Envelope) -> None:
        outbox.emit(Counted("k", event.number))
        if event.number == 1:
            raise ValueError

    handling(emit_and_fail)

    receive(happened(1), happened(2))

    assert [bytes(m.data) for m in Message.objects.all()] == [b'{"key":"k","number":2}']


@pytest.mark.sqlite
def test_hooks_run_after_the_commit_and_only_then(handling: Handling) -> None:
    """on_commit of a handler waits for the batch; that of a failed one never runs."""
    ran: list[tuple[int, bool]] = []

    def hook(event: Happened, message: Envelope) -> None:
        transaction.on_commit(lambda: ran.append((event.number, connection.in_atomic_block)))
        if event.number == 2:
            raise ValueError
        assert not ran

    handling(hook)

    receive(*[happened(number) for number in (1, 2, 3)])

    assert ran == [(1, False), (3, False)]


class FailingHook:
    """A callable that is no function, as functools.partial() makes them."""

    def __call__(self) -> None:
        raise ValueError("in a hook")


def fail_in_a_hook() -> None:
    raise ValueError("in a hook")


@pytest.mark.sqlite
@pytest.mark.parametrize(
    "failing",
    [fail_in_a_hook, FailingHook().__call__, FailingHook(), partial(fail_in_a_hook)],
    ids=["function", "method", "object", "partial"],
)
def test_a_hook_that_fails_harms_only_itself(
    failing: Callable[[], None], handling: Handling, caplog: pytest.LogCaptureFixture
) -> None:
    """The commit has happened: other hooks run, and the batch is settled."""
    ran = []

    def hook(event: Happened, message: Envelope) -> None:
        transaction.on_commit(failing if event.number == 1 else lambda: ran.append(event.number))

    handling(hook)

    results = receive(happened(1), happened(2))

    assert all(not result.failures for result in results)
    assert ran == [2]
    assert "in a hook" in caplog.text


# --- Decoding ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class HappenedAgain:
    n: int


@pytest.mark.sqlite
def test_handlers_get_the_class_of_their_version(
    handling: Handling, registered: Registered
) -> None:
    """Two versions of an event: each handler gets its own, decoded to the registered class."""
    got: list[tuple[str, Any]] = []
    registered("tests.happened", HappenedAgain, version=2)
    handling(lambda event, message: got.append(("v1", event)), name="v1", version=1)
    handling(lambda event, message: got.append(("v2", event)), name="v2", version=2)
    handling(lambda event, message: got.append(("all", event)), name="all")

    receive(happened(1), happened(2, version=2, data=b'{"n": 2}'))

    assert got == [
        ("v1", Happened("k", 1)),
        ("all", Happened("k", 1)),
        ("v2", HappenedAgain(2)),
        ("all", HappenedAgain(2)),
    ]


@pytest.mark.sqlite
def test_a_pattern_handler_gets_every_type_that_matches(handling: Handling) -> None:
    """Registered types come as their class, others as plain JSON, other content as bytes."""
    got: list[Any] = []
    handling(lambda event, message: got.append(event), pattern="tests.#")

    receive(
        happened(1),
        happened(type="tests.other.thing", data=b'{"a": [1]}'),
        happened(type="tests.picture", content_type="image/png", data=b"\x89PNG\x00\xff"),
    )

    assert got == [Happened("k", 1), {"a": [1]}, b"\x89PNG\x00\xff"]


@pytest.mark.sqlite
def test_the_envelope_is_handed_over_as_it_came(handling: Handling) -> None:
    """Also its data, byte for byte, and extensions nobody here knows."""
    got: list[Envelope] = []
    handling(lambda event, message: got.append(message))
    message = happened(subject="s", data=b'{ "number":1 ,"key":"k"}', attributes={"tenant": "blue"})

    receive(message)

    assert got == [message]


# --- Cost --------------------------------------------------------------------------------------

CLAIM, CHECK = 1, 2
"""One INSERT for all receipts; SET CONSTRAINTS ALL IMMEDIATE, and DEFERRED again."""


def nothing(event: object, message: Envelope) -> None:
    pass


@postgresql
@pytest.mark.parametrize("count", [1, 10, 100])
def test_a_batch_costs_a_constant_number_of_statements(count: int, handling: Handling) -> None:
    """Three, apart from savepoints: the claim, and the check of deferred constraints."""
    handling(nothing)

    assert len(statements(lambda: receive(*[happened(n) for n in range(count)]))) == CLAIM + CHECK


@postgresql
@pytest.mark.parametrize("count", [1, 10, 100])
def test_a_batch_of_duplicates_costs_one_statement(count: int, handling: Handling) -> None:
    """Where no handler ran, there is nothing to check."""
    handling(nothing)
    batch = [happened(n) for n in range(count)]
    receive(*batch)

    assert len(statements(lambda: receive(*batch))) == CLAIM


@postgresql
@pytest.mark.parametrize("count", [1, 10, 100])
def test_a_batch_of_dead_letters_costs_one_statement(count: int) -> None:
    """One INSERT for all of them."""
    batch = [happened(n, type="tests.unknown") for n in range(count)]

    assert len(statements(lambda: receive(*batch))) == 1


@postgresql
@pytest.mark.parametrize("count", [1, 10, 100])
def test_a_batch_of_failures_costs_two_statements(count: int, handling: Handling) -> None:
    """The claim, and one UPDATE that keeps all of it for another attempt."""

    def refuse(event: object, message: Envelope) -> None:
        raise ValueError

    handling(refuse)

    assert len(statements(lambda: receive(*[happened(n) for n in range(count)]))) == CLAIM + 1


@postgresql
@pytest.mark.parametrize("count", [1, 10, 100])
def test_each_handler_call_costs_one_savepoint(count: int, handling: Handling) -> None:
    """The end of one is sent with the begin of the next, so a call costs one statement more."""
    handling(nothing)
    with CaptureQueriesContext(connection) as captured:
        receive(*[happened(n) for n in range(count)])

    savepoints = [q for q in captured if "SAVEPOINT" in q["sql"]]
    assert len(savepoints) == count + 1


@pytest.mark.sqlite
def test_a_batch_may_be_larger_than_a_statement(handling: Handling) -> None:
    """Where the number of parameters is limited, a batch is claimed in slices."""
    handling(record)

    results = receive(*[happened(n) for n in range(400)])

    assert sum(result.handled for result in results) == 400
    assert Receipt.objects.count() == 400


# --- In time -------------------------------------------------------------------------------------


@pytest.mark.sqlite
def test_a_batch_ends_when_its_time_is_over(handling: Handling) -> None:
    """What it began is done; to the rest nothing has happened, and it is new to the next batch."""
    handling()
    handling(named("second"), name="second", ordered=True)
    page = [Delivery.of(happened(number)) for number in range(3)]

    assert len(Batch(page, using="default", group="g", seconds=0).receive()) == 1
    assert (effects("record"), effects("second")) == ([0], [0])
    assert len(receipts()) == 2

    assert [each.handled for each in receive(*page)] == [0, 2, 2]
    assert (effects("record"), effects("second")) == ([0, 1, 2], [0, 1, 2])


@pytest.mark.sqlite
def test_slow_handlers_get_batches_of_about_a_second_in_the_order_of_arrival(
    handling: Handling,
) -> None:
    """Nothing is written of what was not begun, also of keys whose order is kept."""
    clock = Clock()

    def slow(event: Any, message: Envelope) -> None:
        clock.now += 0.4
        record(event, message)

    handling(slow, ordered=True)
    rest = [Delivery.of(happened(number, key=f"k{number % 2}")) for number in range(7)]
    sizes = []

    while rest:
        batch = Batch(rest, using="default", group="g", seconds=1.0, clock=clock)
        sizes.append(len(batch.receive()))
        rest = rest[sizes[-1] :]
        assert Receipt.objects.count() == sum(sizes)

    assert sizes == [3, 3, 1]
    assert effects() == list(range(7))


@pytest.mark.sqlite
def test_what_there_was_no_time_for_is_no_dead_letter_yet(handling: Handling) -> None:
    """It is counted once, by the batch that gets to it."""
    handling()
    bad = Delivery(headers={}, body=b"no", content_type="text/plain", topic="x")
    page = [bad, Delivery.of(happened(1)), Delivery.of(happened(2)), replace(bad, body=b"nor this")]

    [first] = Batch(page, using="default", group="g", seconds=0).receive()
    assert (first.letters, DeadLetter.objects.count()) == (1, 1)
    one, two, last = receive(*page[1:])
    assert (one.handled, two.handled, last.letters) == (1, 1, 1)
    assert DeadLetter.objects.count() == 2


@postgresql
def test_a_batch_in_time_costs_no_statement_for_it(handling: Handling) -> None:
    """Only what is left to another batch costs one, however much that is."""
    handling(lambda event, message: None)
    page = [Delivery.of(happened(number)) for number in range(10)]

    def cost(seconds: float) -> int:
        with CaptureQueriesContext(connection) as captured:
            Batch(page, using="default", group="g", seconds=seconds).receive()
        return len([each for each in captured if "django_inbox_receipt" in each["sql"]])

    assert cost(0) == 2
    assert cost(3600) == 1
