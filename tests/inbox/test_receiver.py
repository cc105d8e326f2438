"""Receiving a batch: claims, savepoints, duplicates and what failures leave behind."""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from django.db import (
    IntegrityError,
    OperationalError,
    close_old_connections,
    connection,
    connections,
    transaction,
)
from django.test.utils import CaptureQueriesContext

import outbox
from inbox.delivery import Delivery
from inbox.models import DeadLetter, Receipt
from outbox.context import current_context
from outbox.envelope import Envelope
from outbox.models import Message
from tests.inbox.support import (
    HAPPENED,
    Handling,
    Mended,
    effects,
    happened,
    in_thread,
    make_due,
    postgresql,
    receive,
    record,
    records,
    turn,
    until,
    waiting_for_lock,
)
from tests.sessions import sessions
from tests.support import Counted, Registered
from tests.testapp.events import Happened
from tests.testapp.models import Effect

pytestmark = pytest.mark.django_db(transaction=True)


def named(name: str) -> Callable[[Any, Envelope], None]:
    """A handler that records its name."""
    return lambda event, message: record(event, message, name)


def receipts() -> set[tuple[str, str]]:
    return set(Receipt.objects.filter(state="processed").values_list("handler", "message_id"))


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


# --- Rollback and failure ----------------------------------------------------------------------


@pytest.mark.sqlite
def test_rollback_frees_the_claim(handling: Handling) -> None:
    """What was received in a transaction that rolls back is received anew."""
    handling()
    message = happened()
    with transaction.atomic():
        receive(message)
        transaction.set_rollback(True)
    assert (effects(), receipts()) == ([], set())

    [result] = receive(message)

    assert result.handled == 1
    assert effects() == [1]


def fail(event: Happened, message: Envelope) -> None:
    record(event, message, "fail")
    raise ValueError("no luck")


@pytest.mark.sqlite
def test_a_failing_handler_leaves_nothing(handling: Handling) -> None:
    """No effects remain, the receipt says that it is to be called again, and the reason is told."""
    handling(fail, name="fail")

    [result] = receive(happened())

    assert (result.handled, result.retrying) == (0, 1)
    assert result.failures == {"fail": "ValueError: no luck"}
    assert (effects(), receipts()) == ([], set())
    assert Receipt.objects.get().state == "retrying"


@pytest.mark.sqlite
def test_the_neighbours_of_a_failure_commit(handling: Handling) -> None:
    """One message of a batch fails, those before and behind it are handled."""

    def refuse_two(event: Happened, message: Envelope) -> None:
        record(event, message)
        if event.number == 2:
            raise ValueError

    handling(refuse_two)

    results = receive(*[happened(number) for number in (1, 2, 3)])

    assert [not result.failures for result in results] == [True, False, True]
    assert effects() == [1, 3]
    assert len(receipts()) == 2


@pytest.mark.sqlite
def test_the_other_handlers_of_a_failed_message_keep_their_receipts(handling: Handling) -> None:
    """Only the handler that failed is called again."""
    attempts = []

    def fail_once(event: Happened, message: Envelope) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError
        record(event, message, "b")

    handling(named("a"), name="a")
    handling(fail_once, name="b")
    handling(named("c"), name="c")
    message = happened()

    [first] = receive(message)
    make_due()
    second = turn()

    assert (first.handled, first.retrying) == (2, 1)
    assert (second.handled, second.retrying) == (1, 0)
    assert [effects(name) for name in "abc"] == [[1], [1], [1]]


@pytest.mark.sqlite
def test_a_copy_of_a_failed_message_is_a_duplicate(handling: Handling) -> None:
    """In the same batch and in a later one: the first is in the inbox's care."""
    handling(Mended())
    message = happened()

    first, second = receive(message, message)
    [third] = receive(message)

    assert (first.retrying, second.duplicates, third.duplicates) == (1, 1, 1)
    make_due()
    turn()
    assert effects() == [1]


def violate_now(event: Happened, message: Envelope) -> None:
    Receipt.objects.create(handler="x", source="x", message_id="x", type="x")
    Receipt.objects.create(handler="x", source="x", message_id="x", type="x")


def swallow_error(event: Happened, message: Envelope) -> None:
    with contextlib.suppress(IntegrityError):
        violate_now(event, message)


def roll_back(event: Happened, message: Envelope) -> None:
    record(event, message, "rolled back")
    transaction.set_rollback(True)


def time_out(event: Happened, message: Envelope) -> None:
    record(event, message, "timed out")
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 20")
        cursor.execute("SELECT pg_sleep(10)")


def leave(event: Happened, message: Envelope) -> None:
    record(event, message, "left")
    raise SystemExit(3)


def close(event: Happened, message: Envelope) -> None:
    record(event, message, "closed")
    connection.close()


def close_all(event: Happened, message: Envelope) -> None:
    record(event, message, "closed all")
    connections.close_all()


def close_old(event: Happened, message: Envelope) -> None:
    record(event, message, "closed old")
    close_old_connections()


def close_driver(event: Happened, message: Envelope) -> None:
    record(event, message, "closed past Django")
    connection.connection.close()


def execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def end_transaction(event: Happened, message: Envelope) -> None:
    record(event, message, "ended")
    execute("ROLLBACK")


def end_in_driver(event: Happened, message: Envelope) -> None:
    record(event, message, "ended past Django")
    connection.connection.rollback()


def end_in_several(event: Happened, message: Envelope) -> None:
    record(event, message, "ended behind another statement")
    execute("DO $$ BEGIN END $$; ROLLBACK")


def commit_statement(event: Happened, message: Envelope) -> None:
    record(event, message, "refused")
    execute("COMMIT")


def commit_in_driver(event: Happened, message: Envelope) -> None:
    record(event, message, "committed")
    connection.connection.commit()


def commit_in_several(event: Happened, message: Envelope) -> None:
    record(event, message, "committed")
    execute("DO $$ BEGIN END $$; COMMIT")


def commit_and_go_on(event: Happened, message: Envelope) -> None:
    commit_in_driver(event, message)
    record(event, message, "behind the commit")


def commit_and_fail(event: Happened, message: Envelope) -> None:
    commit_in_driver(event, message)
    raise ValueError("no luck")


def commit_and_close(event: Happened, message: Envelope) -> None:
    commit_in_driver(event, message)
    connection.connection.close()


COMMITTING = [
    commit_in_driver,
    commit_in_several,
    commit_and_go_on,
    commit_and_fail,
    commit_and_close,
]


@pytest.mark.sqlite
@pytest.mark.parametrize(
    "breaking",
    [
        violate_now,
        pytest.param(swallow_error, marks=postgresql),
        roll_back,
        pytest.param(time_out, marks=postgresql),
        leave,
        close,
        close_all,
        pytest.param(close_old, marks=postgresql),  # SQLite's is never too old
        pytest.param(close_driver, marks=postgresql),
        pytest.param(end_transaction, marks=postgresql),
        pytest.param(end_in_driver, marks=postgresql),
        pytest.param(end_in_several, marks=postgresql),
        pytest.param(commit_statement, marks=postgresql),
    ],
)
def test_a_handler_that_breaks_its_transaction_harms_only_itself(
    breaking: Callable[..., None], handling: Handling, caplog: pytest.LogCaptureFixture
) -> None:
    """However it breaks it, the other handlers and messages of the batch commit, once."""
    handling(named("before"), name="before")
    handling(breaking, name="breaking")
    handling(named("behind"), name="behind")
    batch = [happened(1), happened(2)]

    results = receive(*batch)

    assert [list(result.failures) for result in results] == [["breaking"]] * 2
    assert (effects("before"), effects("behind")) == ([1, 2], [1, 2])
    assert len(effects()) == 4
    assert {handler for handler, _ in receipts()} == {"before", "behind"}
    assert [r.split(";")[0] for r in records(caplog, "Handler")] == [
        f"Handler breaking failed on {HAPPENED} {message.id}" for message in batch
    ]


@postgresql
@pytest.mark.parametrize("committing", COMMITTING)
def test_a_handler_that_commits_the_transaction_harms_no_other(
    committing: Callable[..., None], handling: Handling, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is lost, nothing happens twice; what it had done stays done, and it is told."""
    mended = Mended(name="mended")
    handling(named("before"), name="before")
    handling(mended, name="mended")
    handling(committing, name="committing")
    handling(named("behind"), name="behind")
    batch = [happened(1), happened(2)]

    results = receive(*batch, batch[0])

    names = ("before", "mended", "committing", "behind")
    # What failed before the commit is called again, as the batch is begun again.
    assert [(r.handled, r.retrying, r.duplicates) for r in results] == [
        (4, 0, 0),
        (4, 0, 0),
        (0, 0, 4),
    ]
    receive(*batch)
    for name in ("before", "mended", "committed", "behind"):
        assert sorted(effects(name)) == [1, 2]
    assert len(effects()) == 8
    assert receipts() == {(name, message.id) for name in names for message in batch}
    told = records(caplog, "Handler committing has committed")
    assert [message.id in text for message, text in zip(batch, told, strict=True)] == [True] * 2


@postgresql
def test_a_commit_by_a_handler_keeps_the_order(handling: Handling) -> None:
    """The numbers that were handled count, and what waits for them goes on."""

    def function(event: Happened, message: Envelope) -> None:
        record(event, message)
        if event.number == 2:
            connection.connection.commit()

    handling(function, ordered=True, sequence="number", gap_timeout=3600)
    messages = {number: happened(number) for number in (1, 2, 3, 4)}
    assert receive(messages[4])[0].waiting == 1

    assert [r.handled for r in receive(messages[1], messages[2])] == [1, 1]
    assert receive(messages[3])[0].handled == 1
    turn()

    assert effects() == [1, 2, 3, 4]
    assert {state for (state,) in Receipt.objects.values_list("state")} == {"processed"}


@postgresql
def test_a_commit_by_a_handler_wakes_what_waits(handling: Handling) -> None:
    """No other message of the key has to come for that."""

    def function(event: Happened, message: Envelope) -> None:
        record(event, message)
        if event.number == 2:
            connection.connection.commit()

    handling(function, ordered=True, sequence="number", gap_timeout=3600)
    receive(happened(3))
    receive(happened(1), happened(2))
    turn()

    assert effects() == [1, 2, 3]


@postgresql
def test_hooks_run_after_a_commit_by_another_handler(handling: Handling) -> None:
    """Once, though Django believes that the transaction was rolled back."""
    ran: list[int] = []

    def hook(event: Happened, message: Envelope) -> None:
        def run() -> None:
            ran.append(event.number)
            if event.number == 1:
                raise ValueError("in a hook")

        transaction.on_commit(run)

    handling(hook, name="hook")
    handling(commit_in_driver, name="committing")

    receive(happened(1), happened(2))

    assert ran == [1, 2]


@pytest.mark.sqlite
def test_a_constraint_checked_at_the_commit_harms_only_its_handler(handling: Handling) -> None:
    """A dangling foreign key would fail the whole batch at its commit, and for ever."""

    def dangle(event: Happened, message: Envelope) -> None:
        record(event, message)
        if event.number == 2:
            with connection.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO django_admin_log (action_time, object_repr, action_flag, "
                    "change_message, user_id) VALUES (CURRENT_TIMESTAMP, '', 1, '', 4711)"
                )

    handling(dangle)

    results = receive(*[happened(number) for number in (1, 2, 3)])

    assert [not result.failures for result in results] == [True, False, True]
    assert [result.handled for result in results] == [1, 0, 1]
    assert any("IntegrityError" in why for why in results[1].failures.values())
    assert sorted(effects()) == [1, 3]


@pytest.mark.sqlite
def test_ctrl_c_in_a_handler_ends_the_batch(handling: Handling) -> None:
    """KeyboardInterrupt is a person's wish: it goes up, and nothing of the batch remains."""

    def interrupt(event: Happened, message: Envelope) -> None:
        record(event, message)
        if event.number == 2:
            raise KeyboardInterrupt

    handling(interrupt)

    with pytest.raises(KeyboardInterrupt):
        receive(happened(1), happened(2))

    assert (effects(), receipts()) == ([], set())


@postgresql
@pytest.mark.parametrize("hide", [False, True], ids=["as it is", "as another error"])
def test_a_connection_lost_in_a_handler_undoes_the_batch(hide: bool, handling: Handling) -> None:
    """Nothing has happened, it counts as an outage, and afterwards each is handled once."""
    lost = []

    def lose_connection(event: Happened, message: Envelope) -> None:
        record(event, message)
        if event.number == 2 and not lost:
            lost.append(True)
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                pid = cursor.fetchone()[0]
            with sessions(1) as [other]:
                other.run(terminate, pid)
            try:
                Effect.objects.count()
            except OperationalError:
                if hide:
                    raise ValueError("something went wrong") from None
                raise

    handling(lose_connection)
    batch = [happened(number) for number in (1, 2, 3)]

    with pytest.raises(OperationalError):
        receive(*batch)
    connections["default"].close()
    assert (effects(), receipts()) == ([], set())
    results = receive(*batch)

    assert [result.handled for result in results] == [1, 1, 1]
    assert effects() == [1, 2, 3]


def terminate(pid: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("breaking", "error"),
    [
        (close, "must not close the database connection"),
        (close_all, "must not close the database connection"),
        (end_transaction, "must not end the transaction"),
        (commit_statement, "must not end the transaction"),
    ],
)
def test_a_handler_can_neither_close_the_connection_nor_end_the_transaction_of_the_caller(
    breaking: Callable[..., None], error: str, handling: Handling
) -> None:
    """A relay has its page in this transaction, and could not go on without."""
    handling(breaking, name="breaking")
    handling(named("behind"), name="behind")

    with transaction.atomic():
        [result] = receive(happened())

    assert error in result.failures["breaking"]
    assert effects() == [1]


@postgresql
@pytest.mark.parametrize("breaking", [close_driver, end_in_driver, end_in_several])
def test_a_handler_that_ends_the_transaction_of_the_caller_is_an_error(
    breaking: Callable[..., None], handling: Handling
) -> None:
    """What the caller did is gone as well, so nothing is reported as settled."""
    handling(breaking, name="breaking")

    with pytest.raises(OperationalError, match="while handler breaking ran"), transaction.atomic():
        receive(happened())
    connection.close()

    assert (effects(), receipts()) == ([], set())


@postgresql
@pytest.mark.parametrize("committing", COMMITTING)
def test_a_handler_that_commits_the_transaction_of_the_caller_is_an_error(
    committing: Callable[..., None], handling: Handling
) -> None:
    """What has happened stays so and is on record; the rest happens when it comes again."""
    handling(named("before"), name="before", ordered=True, sequence="number")
    handling(committing, name="committing")
    handling(named("behind"), name="behind")
    message = happened()

    with (
        pytest.raises(OperationalError, match="while handler committing ran"),
        transaction.atomic(),
    ):
        receive(message)
    assert {handler for handler, _ in receipts()} == {"before", "committing"}
    [result] = receive(message)

    assert (result.handled, result.duplicates) == (1, 2)
    assert [effects(name) for name in ("before", "committed", "behind")] == [[1]] * 3
    assert len(effects()) == 3
    assert receive(happened(2))[0].waiting == 0


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


@pytest.mark.sqlite
def test_a_hook_that_fails_harms_only_itself(
    handling: Handling, caplog: pytest.LogCaptureFixture
) -> None:
    """The commit has happened: other hooks run, and the batch is settled."""
    ran = []

    def hook(event: Happened, message: Envelope) -> None:
        def run() -> None:
            if event.number == 1:
                raise ValueError("in a hook")
            ran.append(event.number)

        transaction.on_commit(run)

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


def statements(*messages: Envelope) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        receive(*messages)
    ignored = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE", "ROLLBACK TO")
    return [q["sql"] for q in captured if not q["sql"].startswith(ignored)]


def nothing(event: object, message: Envelope) -> None:
    pass


@postgresql
@pytest.mark.parametrize("count", [1, 10, 100])
def test_a_batch_costs_a_constant_number_of_statements(count: int, handling: Handling) -> None:
    """Three, apart from savepoints: the claim, and the check of deferred constraints."""
    handling(nothing)

    assert len(statements(*[happened(n) for n in range(count)])) == CLAIM + CHECK


@postgresql
@pytest.mark.parametrize("count", [1, 10, 100])
def test_a_batch_of_duplicates_costs_one_statement(count: int, handling: Handling) -> None:
    """Where no handler ran, there is nothing to check."""
    handling(nothing)
    batch = [happened(n) for n in range(count)]
    receive(*batch)

    assert len(statements(*batch)) == CLAIM


@postgresql
@pytest.mark.parametrize("count", [1, 10, 100])
def test_a_batch_of_dead_letters_costs_one_statement(count: int) -> None:
    """One INSERT for all of them."""
    batch = [happened(n, type="tests.unknown") for n in range(count)]

    assert len(statements(*batch)) == 1


@postgresql
@pytest.mark.parametrize("count", [1, 10, 100])
def test_a_batch_of_failures_costs_two_statements(count: int, handling: Handling) -> None:
    """The claim, and one UPDATE that keeps all of it for another attempt."""

    def refuse(event: object, message: Envelope) -> None:
        raise ValueError

    handling(refuse)

    assert len(statements(*[happened(n) for n in range(count)])) == CLAIM + 1


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
