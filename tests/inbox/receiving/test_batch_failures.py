"""A handler that fails, or breaks its transaction, harms only itself."""

import contextlib
from collections.abc import Callable

import pytest
from django.db import (
    IntegrityError,
    OperationalError,
    close_old_connections,
    connection,
    connections,
    transaction,
)

from inbox.models import Receipt
from outbox.message.envelope import Envelope
from tests.inbox.receiving.support import fail, named, receipts
from tests.inbox.support import (
    HAPPENED,
    Handling,
    Mended,
    effects,
    happened,
    make_due,
    postgresql,
    receive,
    record,
    records,
    turn,
)
from tests.kit.database import execute
from tests.kit.sessions import sessions
from tests.testapp.events import Happened
from tests.testapp.models import Effect

pytestmark = pytest.mark.django_db(transaction=True)


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
