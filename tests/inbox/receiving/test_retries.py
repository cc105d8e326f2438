"""What is due: failed messages after their pause, and by whom they are handled."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.test import override_settings
from django.utils import timezone

import outbox
from inbox import Reject, Retry, RetryPolicy
from inbox.delivery import Delivery
from inbox.ledger.sql import lines, retention, stored, turns
from inbox.models import Receipt
from inbox.receiving.retries import Retries
from outbox.message.envelope import Envelope
from outbox.models import Message
from tests.inbox.support import (
    HAPPENED,
    Clock,
    Handling,
    Mended,
    effects,
    fail,
    happened,
    in_thread,
    make_due,
    postgresql,
    receive,
    record,
    records,
    slow_receipts,
    states,
    turn,
)
from tests.kit.database import execute, statements
from tests.kit.defaults import defaults
from tests.kit.sessions import sessions
from tests.kit.support import Counted
from tests.kit.waiting import until
from tests.testapp.events import Happened

pytestmark = pytest.mark.django_db(transaction=True)


def raising(exc: BaseException) -> Callable[..., None]:
    def function(event: Any, message: Envelope) -> None:
        record(event, message)
        raise exc

    return function


def seconds_left(receipt: Receipt) -> float:
    assert receipt.next_attempt_at is not None
    return (receipt.next_attempt_at - timezone.now()).total_seconds()


# --- A failure is stored -----------------------------------------------------------------------


@pytest.mark.sqlite
def test_a_failure_keeps_the_message_and_when_to_try_again(handling: Handling) -> None:
    """State, reason, error, attempts, the next one's time, and the message as it came."""
    handling(fail, retry=RetryPolicy(base=600, cap=600))
    message = happened(7, key="k", correlation_id="flow", attributes={"tenant": "blue"})

    receive(message)

    receipt = Receipt.objects.get()
    assert (receipt.state, receipt.reason, receipt.error) == (
        "retrying",
        "failed",
        "ValueError: no luck",
    )
    assert (receipt.attempts, receipt.key, receipt.place) == (1, "k", 0)
    assert receipt.received is not None
    assert -5 < seconds_left(receipt) <= 600
    kept = Delivery.from_stored(
        receipt.headers, receipt.body, receipt.content_type, receipt.topic
    ).decode()
    assert kept == message


@pytest.mark.sqlite
def test_once_processed_nothing_of_the_message_is_kept(handling: Handling) -> None:
    """A processed receipt is as small after retries as without; it tells how many there were."""
    handling(Mended(2))
    receive(happened(1))
    for _ in range(2):
        make_due()
        turn()

    receipt = Receipt.objects.get()
    assert (receipt.state, receipt.attempts) == ("processed", 3)
    columns = ("headers", "body", "content_type", "topic", "key", "place", "reason", "error")
    assert [getattr(receipt, name) for name in columns] == [None] * 8
    assert receipt.next_attempt_at is None
    assert effects() == [1]


@pytest.mark.sqlite
@pytest.mark.parametrize("after", [90, timedelta(seconds=90)])
def test_a_handler_can_say_when_to_try_again(
    after: Any, handling: Handling, caplog: pytest.LogCaptureFixture
) -> None:
    """Retry(after=...) takes the place of the policy's pause, and needs no traceback."""
    caplog.set_level(logging.INFO, "inbox")
    handling(raising(Retry(after, "the bank is closed")))

    receive(happened(1))

    receipt = Receipt.objects.get()
    assert (receipt.state, receipt.reason) == ("retrying", "retry")
    assert receipt.error == "the bank is closed"
    assert 80 < seconds_left(receipt) <= 90
    assert effects() == []
    assert [r.exc_info for r in caplog.records if r.msg.startswith("Handler")] == [None]


@pytest.mark.sqlite
def test_a_handler_can_reject_a_message(handling: Handling) -> None:
    """Dead at once: no other attempt would change it. Nothing of the call remains."""
    handling(raising(Reject("no such order")))

    [result] = receive(happened(1))

    receipt = Receipt.objects.get()
    assert (receipt.state, receipt.reason, receipt.error) == ("dead", "rejected", "no such order")
    assert (receipt.next_attempt_at, receipt.attempts) == (None, 1)
    assert result.dead == 1
    assert effects() == []


@pytest.mark.sqlite
@pytest.mark.parametrize("exc", [ValueError("x"), Retry(after=0)])
def test_after_the_last_attempt_it_is_dead(exc: BaseException, handling: Handling) -> None:
    """The policy's attempts count every call, also those that the handler asked for."""
    handling(raising(exc), retry=RetryPolicy(attempts=3))
    receive(happened(1))
    for _ in range(5):
        make_due()
        turn()

    receipt = Receipt.objects.get()
    assert (receipt.state, receipt.attempts, receipt.next_attempt_at) == ("dead", 3, None)
    assert receipt.body is not None


@pytest.mark.sqlite
def test_the_log_says_what_follows(handling: Handling, caplog: pytest.LogCaptureFixture) -> None:
    """Which attempt it was, when the next one is, or that there is none."""
    handling(fail, retry=RetryPolicy(attempts=2))
    message = happened(1)
    receive(message)
    make_due()
    turn()

    first, second = records(caplog, "Handler record failed on")
    assert f"{HAPPENED} {message.id}" in first
    assert "Attempt 1 of 2, the next one in" in first
    assert "dead after 2 attempts" in second


@pytest.mark.sqlite
def test_a_rolled_back_batch_tells_nothing(
    handling: Handling, caplog: pytest.LogCaptureFixture
) -> None:
    """What is in the log is in the database."""

    def leave(event: Happened, message: Envelope) -> None:
        if event.number == 2:
            raise KeyboardInterrupt
        raise ValueError

    handling(leave)

    with pytest.raises(KeyboardInterrupt):
        receive(happened(1), happened(2))

    assert records(caplog, "Handler") == []
    assert Receipt.objects.count() == 0


# --- Turns ---------------------------------------------------------------------------------------


@pytest.mark.sqlite
def test_what_is_not_due_is_left_alone(handling: Handling) -> None:
    """By the database's clock."""
    mended = Mended()
    handling(mended, retry=RetryPolicy(base=3600, cap=3600))
    receive(*[happened(number) for number in range(20)])
    Receipt.objects.update(next_attempt_at=timezone.now() + timedelta(seconds=30))

    assert turn().settled == 0
    assert len(mended.calls) == 20


@pytest.mark.sqlite
def test_a_retry_has_the_flow_of_its_message(handling: Handling) -> None:
    """What it emits is caused by the message and in its flow, as at the first attempt."""

    class Emitting(Mended):
        def __call__(self, event: Any, message: Envelope) -> None:
            super().__call__(event, message)
            outbox.emit(Counted("k", 1))

    handling(Emitting())
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    message = happened(correlation_id="flow", trace_parent=trace)
    receive(message)
    assert not Message.objects.exists()
    make_due()

    turn()

    emitted = Message.objects.get()
    assert (emitted.correlation_id, emitted.causation_id) == ("flow", message.id)
    assert emitted.trace_parent == trace


@pytest.mark.sqlite
def test_the_neighbours_of_a_failing_retry_commit(handling: Handling) -> None:
    """Each is in a savepoint of the turn's transaction."""
    mended = Mended()

    def function(event: Happened, message: Envelope) -> None:
        mended(event, message)
        if event.number == 2:
            raise ValueError

    handling(function)
    receive(*[happened(number) for number in (1, 2, 3)])
    make_due()

    found = turn()

    assert (found.handled, found.retrying) == (2, 1)
    assert sorted(effects()) == [1, 3]


@postgresql
@pytest.mark.parametrize(
    ("end", "error"),
    [
        (lambda: execute("ROLLBACK"), "must not end the transaction"),
        (lambda: execute("COMMIT"), "must not end the transaction"),
        (lambda: execute("DO $$ BEGIN END $$; ROLLBACK"), "ended the transaction"),
        (lambda: connection.connection.rollback(), "ended the transaction"),
    ],
    ids=["rollback", "commit", "several statements", "driver"],
)
def test_a_retry_that_ends_the_transaction_harms_only_itself(
    end: Callable[[], None], error: str, handling: Handling
) -> None:
    """It fails; if it could not be kept from it, the turn starts anew without it."""
    mended = Mended()

    def function(event: Happened, message: Envelope) -> None:
        if mended.calls.count(message.id) and event.number == 2:
            end()
        mended(event, message)

    handling(function)
    receive(*[happened(number) for number in (1, 2, 3)])
    make_due()

    turn()

    assert sorted(effects()) == [1, 3]
    assert states() == ["processed", "retrying", "processed"]
    assert error in (Receipt.objects.get(state="retrying").error or "")


COMMITS = pytest.mark.parametrize(
    "commit",
    [lambda: connection.connection.commit(), lambda: execute("DO $$ BEGIN END $$; COMMIT")],
    ids=["driver", "several statements"],
)


@postgresql
@COMMITS
def test_a_retry_that_commits_the_transaction_harms_no_other(
    commit: Callable[[], None], handling: Handling, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is handled once, and a failure beside it is one attempt."""
    mended = Mended()

    def function(event: Happened, message: Envelope) -> None:
        mended(event, message)
        if event.number in (2, 4):
            commit()
        if event.number == 5:
            raise ValueError

    handling(function)
    batch = [happened(number) for number in range(1, 7)]
    receive(*batch)
    make_due()

    found = turn()

    assert (found.handled, found.retrying) == (5, 1)
    assert sorted(effects()) == [1, 2, 3, 4, 6]
    assert states() == ["processed"] * 4 + ["retrying", "processed"]
    assert set(Receipt.objects.values_list("attempts", flat=True)) == {2}
    assert sorted(mended.calls) == sorted(message.id for message in batch * 2)
    told = records(caplog, "Handler record has committed")
    assert len(told) == 2
    assert all(any(message.id in text for text in told) for message in (batch[1], batch[3]))
    assert len(records(caplog, "Handler record failed")) == 7


@postgresql
@COMMITS
@pytest.mark.parametrize(
    "options",
    [{"ordered": True}, {"ordered": True, "sequence": "number"}],
    ids=["ordered", "sequence"],
)
def test_a_line_goes_on_behind_a_commit(
    commit: Callable[[], None], options: dict[str, Any], handling: Handling
) -> None:
    """In its order, without anything else having to come."""
    mended = Mended()

    def function(event: Happened, message: Envelope) -> None:
        if event.number == 1:
            mended(event, message)
        else:
            record(event, message)
        if event.number in (1, 3):
            commit()

    handling(function, **options)
    receive(*[happened(number) for number in (1, 2, 3, 4)])
    assert states() == ["retrying", "waiting", "waiting", "waiting"]
    make_due(state="retrying")

    assert turn().handled == 4

    assert effects() == [1, 2, 3, 4]
    assert states() == ["processed"] * 4


@pytest.mark.sqlite
def test_only_the_receipts_of_the_group_are_taken(handling: Handling) -> None:
    """The other group's consumers may have other code."""
    handling(Mended(), name="a")
    handling(Mended(), name="b", declared_group="other")
    receive(happened(1), group=None)
    make_due()

    assert turn("other").handled == 1
    assert states(handler="a") == ["retrying"]


@pytest.mark.sqlite
def test_what_belongs_to_no_handler_any_more_stays(handling: Handling) -> None:
    """Until there is a handler of its name again."""
    handling(Mended())
    receive(happened(1))
    handling.forget()
    make_due()

    assert turn(None).settled == 0
    assert states() == ["retrying"]


@pytest.mark.sqlite
def test_a_message_that_its_handler_no_longer_takes_is_dead(handling: Handling) -> None:
    """The handler has moved on to another version."""
    handling(Mended())
    receive(happened(1))
    handling.forget()
    handling(Mended(), version=2)
    make_due()

    assert turn().dead == 1
    assert "not for tests.happened v1 any more" in (Receipt.objects.get().error or "")


@postgresql
def test_each_receipt_has_one_taker(handling: Handling) -> None:
    """Two processes at once: what one has in work, the other does not even wait for."""
    handling(Mended())
    receive(*[happened(number) for number in range(10)])
    make_due()

    with sessions(1) as [first]:
        first.begin()
        assert first.run(lambda: turn(limit=4)).handled == 4
        assert turn().handled == 5  # the first holds one more, to know that there is one
        first.commit()
    assert turn().handled == 1

    assert sorted(effects()) == list(range(10))
    assert turn().settled == 0


@postgresql
def test_turns_of_many_processes_handle_each_once(handling: Handling) -> None:
    """Four at once, until nothing is due."""
    handling(Mended())
    for start in range(0, 400, 100):
        receive(*[happened(start + number) for number in range(100)])
    make_due()

    def drain() -> None:
        while turn(limit=10).settled:
            pass

    with in_thread(drain) as a, in_thread(drain) as b, in_thread(drain) as c, in_thread(drain) as d:
        pass
    for each in (a, b, c, d):
        each.get()
    until(lambda: not turn().settled)

    assert sorted(effects()) == list(range(400))


@pytest.mark.sqlite
def test_a_turn_is_limited_and_says_that_more_is_due(handling: Handling) -> None:
    """Fresh messages get their chance in between."""
    handling(Mended())
    receive(*[happened(number) for number in range(5)])
    make_due()

    found = [turn(limit=2) for _ in range(3)]

    assert [each.handled for each in found] == [2, 2, 1]
    assert [each.more for each in found] == [True, True, False]


@pytest.mark.sqlite
def test_a_turn_begins_nothing_more_when_its_time_is_over(handling: Handling) -> None:
    """Slow handlers do not hold up what comes in; one is handled, or none ever would be."""
    handling(Mended())
    receive(*[happened(number) for number in range(5)])
    make_due()

    assert turn(seconds=0).handled == 1
    assert turn().handled == 4


@pytest.mark.sqlite
def test_turns_of_slow_handlers_last_for_batch_seconds(handling: Handling) -> None:
    """A crash repeats so much at most; lines keep their order over several turns."""
    clock = Clock()

    def slow(event: Any, message: Envelope) -> None:
        if clock.now:
            clock.now += 0.25
            record(event, message)
        else:
            raise ValueError("no luck")

    handling(slow, ordered=True)
    receive(*[happened(number) for number in range(7)])
    make_due()
    clock.now = 1.0
    with override_settings(INBOX={"BATCH_SECONDS": 0.6}):
        retries = Retries("default", "g", clock=clock)
        found = [retries.turn() for _ in range(5)]

    assert [each.handled for each in found] == [3, 2, 2, 0, 0]
    assert [each.more for each in found][:2] == [True, True]
    assert effects() == list(range(7))


# --- Cost ----------------------------------------------------------------------------------------

DUE, NOTE, TAKE, READ, SETTLE, CHECK = 1, 1, 1, 1, 1, 2


def nothing(event: object, message: Envelope) -> None:
    pass


@postgresql
def test_a_turn_at_nothing_costs_one_statement(handling: Handling) -> None:
    """Whatever the number of handlers."""
    for number in range(10):
        handling(nothing, name=f"h{number}", ordered=number % 2 == 0)

    assert len(statements(turn)) == DUE


@postgresql
def test_a_turn_at_nothing_takes_no_transaction_id(handling: Handling) -> None:
    """Each would bring the next freeze of the whole cluster nearer."""
    handling(nothing)

    with transaction.atomic():
        turn()
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_current_xact_id_if_assigned()")
            assert cursor.fetchone() == (None,)


@postgresql
def test_what_is_not_due_yet_costs_nothing(handling: Handling) -> None:
    """What is due is a range of an index by handler and time, with an order and without."""
    statement = turns.due(1, "postgresql")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {statement}", ["record", 10, "record", 10])
        plan = [line for (line,) in cursor.fetchall()]

    conditions = [line for line in plan if "Index Cond" in line]
    assert len(conditions) == 2, plan
    for line in conditions:
        assert "next_attempt_at <= statement_timestamp()" in line


@postgresql
@pytest.mark.parametrize("count", [1, 10, 100])
def test_a_turn_costs_a_constant_number_of_statements(count: int, handling: Handling) -> None:
    """Find, note, take, read, write, and check deferred constraints, apart from savepoints."""
    handling(fail)
    receive(*[happened(number) for number in range(count)])
    handling.forget()
    handling(nothing)
    make_due()

    assert len(statements(turn)) == DUE + NOTE + TAKE + READ + SETTLE + CHECK
    assert set(states()) == {"processed"}


@postgresql
def test_large_messages_are_written_in_parts(handling: Handling) -> None:
    """A batch of failures is not one statement of hundreds of megabytes."""
    handling(fail, pattern="tests.large")
    large = [
        happened(type="tests.large", content_type="text/plain", data=b"x" * 3_000_000)
        for _ in range(5)
    ]

    found = [each for each in statements(lambda: receive(*large)) if "UPDATE" in each]

    assert len(found) == 3
    assert {len(bytes(body)) for body in Receipt.objects.values_list("body", flat=True)} == {
        3_000_000
    }


@postgresql
@pytest.mark.parametrize("what", ["due", "line", "ends", "closed"])
def test_what_is_open_is_found_by_an_index(what: str, handling: Handling) -> None:
    """However many receipts there are, and whatever the planner knows of them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO django_inbox_receipt (handler, source, message_id, type, state, changed, "
            "attempts) SELECT 'record', '/x', n::text, 't', 'processed', now(), 1 "
            "FROM generate_series(1, 20000) n"
        )
        cursor.execute("ANALYZE django_inbox_receipt")
        statement, values, index = {
            "due": (turns.due(1, "postgresql"), ["record", 10, "record", 10], "inbox_due"),
            "line": (stored.line("postgresql"), ["record", "/x", "k", 10], "inbox_line"),
            "ends": (lines.lines(1, "postgresql"), ["record", "/x", "k"], "inbox_line"),
            "closed": (
                retention.old_receipts("postgresql"),
                ["0001-01-01", timezone.now(), 10],
                "inbox_closed_receipt",
            ),
        }[what]
        cursor.execute(f"EXPLAIN {statement}", values)
        plan = "\n".join(row[0] for row in cursor.fetchall())

    assert index in plan
    assert "Seq Scan on django_inbox_receipt" not in plan


@postgresql
def test_a_turn_that_is_ended_each_time_is_tried_smaller(handling: Handling) -> None:
    """Its statements take time for each receipt: less of it passes the role's timeout."""
    handling(Mended())
    receive(*[happened(number) for number in range(16)])
    make_due()
    retries, lost = Retries("default", "g"), 0
    with slow_receipts("UPDATE", 0.02), defaults(statement_timeout="150ms"):
        for _ in range(20):
            try:
                retries.turn()
            except OperationalError as exc:
                lost += "statement timeout" in str(exc)

    assert sorted(effects()) == list(range(16))
    assert 0 < lost < 10
