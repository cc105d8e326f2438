"""What is noted before handlers are called, and what follows if their process ends in a call."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import OperationalError, ProgrammingError, connection
from django.test import override_settings
from django.utils import timezone

from inbox import operator
from inbox.delivery import LARGE, Delivery
from inbox.ledger.ledger import Ledger
from inbox.models import Receipt
from inbox.receiving import retries
from inbox.receiving.retries import Retries
from inbox.verdicts import RetryPolicy
from outbox.database.failures import is_unready
from outbox.message.envelope import Envelope
from tests.inbox.support import (
    Handling,
    effects,
    fail,
    happened,
    in_thread,
    make_due,
    postgresql,
    receive,
    record,
    records,
    states,
    turn,
)

pytestmark = pytest.mark.django_db(transaction=True)


def redelivered(message: Envelope) -> Delivery:
    return replace(Delivery.of(message), redelivered=True)


def drain() -> None:
    """Take turns until nothing is due."""
    for _ in range(20):
        found = turn()
        if not found.settled and not found.more:
            return
    raise AssertionError("it never ends")


def die(*messages: Envelope, times: int = 1, ago: float = 5) -> None:
    """Leave what a process leaves that ends while it handles messages."""
    begun_at = timezone.now() - timedelta(seconds=ago)
    found = Receipt.objects.filter(message_id__in=[each.id for each in messages])
    found.update(begun=times, begun_at=begun_at)


def failed(handling: Handling, count: int, **options: Any) -> list[Envelope]:
    """Messages that are due again; then their handler is mended."""
    handling(fail, **options)
    messages = [happened(number) for number in range(count)]
    receive(*messages)
    handling.forget()
    handling(**options)
    make_due()
    return messages


# --- What was delivered before ---------------------------------------------------------------


@pytest.mark.sqlite
def test_what_is_redelivered_is_kept_before_it_is_handled(handling: Handling) -> None:
    """It may have ended a process: that it is tried again has to be on record first."""
    handling()
    [result] = receive(redelivered(happened(7)))

    assert (result.retrying, result.failures, effects()) == (1, {}, [])
    assert Receipt.objects.get().reason == "redelivered"
    assert turn().handled == 1
    assert (states(), effects()) == (["processed"], [7])
    assert Receipt.objects.get().attempts == 1


@pytest.mark.sqlite
def test_what_is_redelivered_keeps_its_order(handling: Handling) -> None:
    """With an order, the later messages of its key wait for it; without, the oldest goes first."""
    handling(partial(record, name="in order"), name="in order", ordered=True)
    handling(partial(record, name="as it comes"), name="as it comes")
    receive(*[redelivered(happened(number)) for number in range(3)], happened(3))

    assert effects("in order") == []
    while turn().settled:
        pass
    assert effects("in order") == [0, 1, 2, 3]
    assert effects("as it comes") == [3, 0, 1, 2]


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("before", "large", "since"),
    [((4,), 9, (5, 6, 7, 8)), ((4, 6), 5, ()), ((4,), 5, (6,)), ((4, 6), 8, (5, 7)), ((), 4, (5,))],
)
def test_a_large_one_that_is_redelivered_keeps_its_place_in_a_sequence(
    before: tuple[int, ...], large: int, since: tuple[int, ...], handling: Handling
) -> None:
    """Though its number is read only later, when it is handled alone."""
    handling(ordered=True, sequence="number", sequence_start=4, gap_timeout=600)
    receive(*map(happened, before))
    body = happened(large).data + b" " * LARGE

    receive(redelivered(happened(large, data=body)), *map(happened, since[:1]))
    drain()
    receive(*map(happened, since[1:]))
    drain()

    numbers = sorted({*before, large, *since})
    assert effects() == numbers
    assert set(Receipt.objects.values_list("state", flat=True)) == {"processed"}


@pytest.mark.sqlite
def test_a_large_one_that_is_redelivered_waits_for_what_is_missing(handling: Handling) -> None:
    """As long as any other, and is passed on the record then."""
    handling(ordered=True, sequence="number", sequence_start=1, gap_timeout=600)
    receive(redelivered(happened(3, data=happened(3).data + b" " * LARGE)))
    drain()

    waiting = Receipt.objects.get()
    assert (waiting.state, waiting.reason, waiting.place) == ("waiting", "gap", 3)
    assert waiting.next_attempt_at is not None

    make_due()
    assert turn().handled == 1
    assert Receipt.objects.get().error == "It went on without 1 to 2 of its sequence."


@postgresql
def test_a_suspect_that_cannot_be_called_holds_up_nobody_else(handling: Handling) -> None:
    """It waits for a number; other keys and handlers have their turn."""
    handling(partial(record, name="s"), name="s", ordered=True, sequence="number", gap_timeout=600)
    handling(partial(fail), name="r")
    receive(happened(1, "k"))
    Receipt.objects.all().delete()
    held = happened(3, "k")
    receive(held)
    other = happened(9, "other")
    receive(other)
    handling.forget()
    handling(partial(record, name="s"), name="s", ordered=True, sequence="number", gap_timeout=600)
    handling(partial(record, name="r"), name="r")
    make_due()
    # Its own time is not over, but somebody looks at its line; and a process died of it.
    Receipt.objects.filter(handler="s", message_id=held.id).update(
        next_attempt_at=timezone.now() + timedelta(hours=1)
    )
    behind = Receipt.objects.get(handler="s", message_id=held.id)
    behind.pk, behind.message_id, behind.place, behind.state = None, held.id + "x", 5, "retrying"
    behind.next_attempt_at = timezone.now() - timedelta(hours=1)
    behind.save()
    die(held)

    retries = Retries("default")
    turns = [retries.turn() for _ in range(3)]

    assert sum(each.handled for each in turns) >= 1
    assert 9 in effects("r")
    assert Receipt.objects.get(handler="s", message_id=held.id).begun == 1


def test_a_duplicate_that_is_redelivered_is_no_more_than_a_duplicate(handling: Handling) -> None:
    """The process died after the commit."""
    handling()
    message = happened()
    receive(message)

    [result] = receive(redelivered(message))

    assert (result.duplicates, result.retrying) == (1, 0)


# --- The note ---------------------------------------------------------------------------------


@postgresql
def test_a_handler_finds_it_noted_and_committed_that_it_begins(handling: Handling) -> None:
    """Whoever looks from outside sees it, also when this process is no more."""
    seen: list[Any] = []

    def look() -> None:
        seen.extend(Receipt.objects.values_list("begun", flat=True))

    def from_outside(event: Any, message: Envelope) -> None:
        with in_thread(look):
            pass

    failed(handling, 1)
    handling.forget()
    handling(from_outside)

    assert turn().handled == 1
    assert seen == [1]


@pytest.mark.sqlite
@pytest.mark.parametrize("function", [record, fail], ids=["handled", "failed"])
def test_the_note_goes_with_the_outcome(function: Callable[..., None], handling: Handling) -> None:
    """A handler that raises has not ended its process."""
    failed(handling, 1)
    handling.forget()
    handling(function)

    assert turn().settled == 1
    assert Receipt.objects.values_list("begun", "begun_at").get() == (None, None)


@pytest.mark.sqlite
@pytest.mark.parametrize("ordered", [False, True], ids=["free", "ordered"])
def test_what_a_turn_does_not_come_to_is_not_noted_after_it(
    ordered: bool, handling: Handling
) -> None:
    """Its time was over, and nothing has happened to what it had not begun."""
    failed(handling, 3, ordered=ordered)

    assert turn(seconds=0).settled == 1
    assert set(Receipt.objects.values_list("begun", flat=True)) == {None}


def lose_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


@postgresql
def test_a_database_that_is_lost_between_the_calls_is_held_against_nobody(
    handling: Handling, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next turn takes the notes back."""
    failed(handling, 2)
    again = Retries("default", "g")
    with monkeypatch.context() as breaking, pytest.raises(OperationalError):
        breaking.setattr(Ledger, "settle", lambda *_: lose_database())
        again.turn()
    connection.close()
    assert set(Receipt.objects.values_list("begun", flat=True)) == {1}

    assert again.turn().handled == 2
    assert records(caplog, "Handler record may have begun") == []


@postgresql
def test_what_loses_the_database_is_handled_alone(handling: Handling, caplog: Any) -> None:
    """Perhaps the server dies of a handler's statement: the others get on without it."""
    messages = failed(handling, 3)
    handling.forget()

    def function(event: Any, message: Envelope) -> None:
        if message.id == messages[1].id:
            lose_database()
        record(event, message)

    handling(function)
    lost = 0
    again = Retries("default", "g")
    for _ in range(12):
        try:
            again.turn()
        except OperationalError:
            lost += 1
            connection.close()
        Receipt.objects.filter(begun__gt=0).update(begun_at=timezone.now() - timedelta(seconds=5))

    assert lost == 3
    assert sorted(effects()) == [0, 2]
    assert states() == ["processed", "dead", "processed"]


@contextmanager
def column_away(name: str) -> Iterator[None]:
    """Let a column of receipts be missing, as before a migration."""
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE django_inbox_receipt RENAME {name} TO away")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE django_inbox_receipt RENAME away TO {name}")


@postgresql
@pytest.mark.parametrize("column", ["last_attempts", "traceback"], ids=["read", "written"])
@pytest.mark.parametrize("ordered", [False, True], ids=["free", "ordered"])
def test_a_missing_column_is_held_against_nobody(
    column: str, ordered: bool, handling: Handling
) -> None:
    """Of a process that was started before its migration no message is dead, but handled later."""
    failed(handling, 1, ordered=ordered)
    for _ in range(4):
        with column_away(column), pytest.raises(ProgrammingError, match=column) as raised:
            turn()  # of another process each time
        assert is_unready(raised.value)
        assert Receipt.objects.values_list("begun", "begun_at").get() == (None, None)

    assert turn().handled == 1
    assert (states(), effects()) == (["processed"], [0])


@postgresql
def test_a_mistake_in_a_statement_of_ours_is_held_against_nobody(
    handling: Handling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No handler was called."""
    failed(handling, 1)
    with monkeypatch.context() as breaking, pytest.raises(ProgrammingError, match="syntax"):
        breaking.setattr(Ledger, "stored", lambda *_: mistake())
        turn()

    assert Receipt.objects.get().begun is None


@postgresql
def test_what_fails_behind_a_call_is_held_against_it(
    handling: Handling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may come of what the handler did: it is handled alone in another process."""
    failed(handling, 1)
    with monkeypatch.context() as breaking, pytest.raises(ProgrammingError, match="syntax"):
        breaking.setattr(Ledger, "settle", lambda *_: mistake())
        turn()

    assert Receipt.objects.get().begun == 1


def mistake() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELEC")


# --- Whose process ended ------------------------------------------------------------------------


@pytest.mark.sqlite
@pytest.mark.parametrize("ordered", [False, True], ids=["free", "ordered"])
def test_what_a_dead_process_had_in_hand_is_handled_one_by_one(
    ordered: bool, handling: Handling, caplog: Any
) -> None:
    """So that the next death tells which of them it was."""
    die(*failed(handling, 3, ordered=ordered))

    found = [turn() for _ in range(3)]

    assert [each.handled for each in found] == [1, 1, 1]
    assert found[0].more
    assert (effects() if ordered else sorted(effects())) == [0, 1, 2]
    assert len(records(caplog, "Handler record may have begun with tests.happened")) == 3


@pytest.mark.sqlite
def test_a_note_of_this_moment_belongs_to_another_process(handling: Handling) -> None:
    """It has committed that it begins, and comes to lock what it handles."""
    die(*failed(handling, 1), ago=0)

    assert turn().settled == 0
    assert Ledger("default").resting(["record"])
    assert Receipt.objects.get().begun == 1


@pytest.mark.sqlite
@pytest.mark.parametrize("ordered", [False, True], ids=["free", "ordered"])
def test_a_message_that_has_ended_too_many_processes_is_dead(
    ordered: bool, handling: Handling, caplog: Any
) -> None:
    """Its handler is not called again, and others are."""
    first, *_ = failed(handling, 1, ordered=ordered)
    die(first, times=3)

    assert turn().dead == 1
    receipt = Receipt.objects.get(message_id=first.id)
    assert (receipt.state, receipt.reason, receipt.attempts) == ("dead", "crashed", 4)
    assert receipt.begun is None
    assert effects() == []
    assert records(caplog, f"Handler record failed on tests.happened {first.id}; it is dead")


@pytest.mark.sqlite
def test_the_number_of_processes_is_a_setting(handling: Handling) -> None:
    """INBOX["RETRY_CRASHES"]."""
    [message] = failed(handling, 1)
    die(message, times=3)

    with override_settings(INBOX={"RETRY_CRASHES": 4}):
        assert turn().handled == 1


@pytest.mark.sqlite
def test_a_person_who_retries_takes_the_note_away(handling: Handling) -> None:
    """What has been mended begins anew, with all its lives."""
    [message] = failed(handling, 1)
    die(message, times=3)
    turn()

    operator.retry(list(Receipt.objects.values_list("pk", flat=True)), using="default")

    assert turn().handled == 1


# --- Lines ----------------------------------------------------------------------------------------


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many receipts each turn has noted."""
    found: list[int] = []
    begin = Ledger.begin

    def count(self: Ledger, numbers: Sequence[int]) -> None:
        found.append(len(numbers))
        begin(self, numbers)

    monkeypatch.setattr(Ledger, "begin", count)
    return found


@pytest.mark.sqlite
def test_no_more_is_noted_than_a_turn_can_handle(handling: Handling, noted: list[int]) -> None:
    """However many lines there are, and however long they are."""
    handling(fail, ordered=True)
    for key in "abc":
        receive(*[happened(number, key) for number in range(4)])
    handling.forget()
    handling(ordered=True)
    make_due()

    found = [turn(limit=5) for _ in range(3)]

    assert [(each.handled, each.more) for each in found] == [(5, True), (5, True), (2, False)]
    assert max(noted) == 5
    assert set(Receipt.objects.values_list("begun", flat=True)) == {None}


@pytest.mark.sqlite
def test_what_is_behind_the_end_of_a_line_is_not_noted(
    handling: Handling, noted: list[int]
) -> None:
    """It is not called, and takes no place in the turn from others."""
    handling(fail, ordered=True, retry=RetryPolicy(attempts=1))
    for key in "abc":
        receive(happened(1, key), happened(2, key))
    handling.forget()
    handling(ordered=True)
    Receipt.objects.filter(state="dead", key="a").update(state="retrying")
    Receipt.objects.update(next_attempt_at=timezone.now() - timedelta(seconds=5))

    assert turn(limit=6).handled == 2
    assert noted == [2]
    assert Receipt.objects.filter(next_attempt_at=None, state="waiting").count() == 2


@pytest.mark.sqlite
def test_what_comes_to_a_line_during_a_turn_is_not_called_before_it_is_noted(
    handling: Handling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it ends its process, that is on record as well."""
    begin = retries.begin

    def late(*arguments: Any, **options: Any) -> Any:
        begun = begin(*arguments, **options)
        if not effects():
            receive(happened(2))
        return begun

    handling(fail, ordered=True)
    receive(happened(1))
    handling.forget()
    handling(ordered=True)
    make_due()
    monkeypatch.setattr(retries, "begin", late)

    assert turn().more
    assert effects() == [1]
    assert turn().handled == 1
    assert effects() == [1, 2]


@pytest.mark.sqlite
def test_a_line_that_cannot_go_on_is_not_looked_at_again_and_again(
    handling: Handling, noted: list[int]
) -> None:
    """Also where a turn has nothing else to do."""
    handling(fail, ordered=True, retry=RetryPolicy(attempts=1))
    receive(happened(1), happened(2))
    due = timezone.now() - timedelta(seconds=1)  # SQLite's clock has milliseconds only
    Receipt.objects.filter(state="waiting").update(next_attempt_at=due)

    assert turn().settled == 0
    assert noted == [0]
    assert not Receipt.objects.filter(next_attempt_at__isnull=False).exists()
