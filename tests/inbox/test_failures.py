"""What has failed here, grouped; and a group that is tried again, one first."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.core.signing import BadSignature
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from inbox import Reject, RetryPolicy, operator
from inbox.failures import LetterFailures, ReceiptFailures
from inbox.models import DeadLetter, Receipt
from outbox.extensions.failures import Came, FailureSource
from outbox.failures import grouping, runs
from outbox.failures.grouping import Found, find, fingerprint
from outbox.failures.runs import Run, Standing
from outbox.message.envelope import Envelope
from tests.inbox.support import Handling, happened, postgresql, receive, record, turn

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

RECEIPTS, LETTERS = ReceiptFailures(), LetterFailures()
ONCE = RetryPolicy(attempts=1)


class Shop:
    """A handler that somebody mends: it fails on the numbers in `fails`."""

    def __init__(self, fails: Collection[int]) -> None:
        self.fails: Collection[int] = fails

    def __call__(self, event: Any, message: Envelope) -> None:
        if event.number in self.fails:
            self.look_up(event.number)
        record(event, message)

    def look_up(self, number: int) -> None:
        raise LookupError(f"no price for {number}")


@pytest.fixture
def shop(handling: Handling) -> Shop:
    found = Shop(range(100))
    handling(found, retry=ONCE)
    return found


def dead(*numbers: int) -> None:
    for number in numbers:
        receive(happened(number, id=f"m{number}", key=f"k{number}"))


def groups(source: FailureSource = RECEIPTS, **options: Any) -> Found:
    return find(source, "default", **options)


def retry(numbers: Sequence[int]) -> Collection[int]:
    return operator.retry(numbers, using="default").changed


def begun(source: FailureSource = RECEIPTS) -> Run:
    [only] = groups(source).groups
    run = runs.begin(source, "default", lambda: groups(source), only.fingerprint, lambda _: "what")
    assert run is not None
    return run


def step(run: Run, source: FailureSource = RECEIPTS, act: Any = retry) -> Run:
    # What a browser carries from page to page.
    return Run.of(runs.go_on(run, source, "default", act).token())


def came(run: Run, source: FailureSource = RECEIPTS) -> Came:
    return source.came(run.pending, "default")


def standing(run: Run) -> Standing:
    return run.standing(came(run))


def states() -> dict[int, str]:
    rows = Receipt.objects.values_list("message_id", "state")
    return {int(message_id.removeprefix("m")): state for message_id, state in rows}


# --- Grouping ------------------------------------------------------------------------------------


def test_receipts_are_grouped_by_handler_class_and_place(shop: Shop, handling: Handling) -> None:
    """What the error says about one message makes no difference."""
    handling(lambda event, message: shop.look_up(event.number), name="other", retry=ONCE)
    dead(1, 2, 30)

    found = groups().groups

    assert sorted((each.newest.by, each.count) for each in found) == [("other", 3), ("record", 3)]
    for group in found:
        assert group.newest.error_class == "LookupError"
        assert group.message == "no price for …"
        assert group.states == {"dead": 3}
        assert group.frame is not None
        assert (group.frame.file, group.frame.function, group.frame.code) == (
            "inbox/test_failures.py",
            "look_up",
            'raise LookupError(f"no price for {number}")',
        )


def test_two_places_are_two_groups(handling: Handling) -> None:
    """Even if they say the same."""

    def either(event: Any, message: Envelope) -> None:
        if event.number % 2:
            raise ValueError("no luck")
        raise ValueError("no luck")  # the same words on a line of their own

    handling(either, retry=ONCE)
    dead(1, 2, 3)

    assert sorted(each.count for each in groups().groups) == [1, 2]


def test_what_retries_belongs_to_it_and_what_is_over_does_not(
    shop: Shop, handling: Handling
) -> None:
    """Nor what waits behind another, or came again and was not tried."""
    dead(1, 2, 3)
    Receipt.objects.filter(key="k1").update(state="retrying")
    Receipt.objects.filter(key="k2").update(state="discarded")
    receive(happened(200, key="k200"))
    Receipt.objects.create(
        **{"handler": "h", "source": "/", "message_id": "w", "type": "t"},
        **{"state": "waiting", "error": "Behind another message of its key."},
    )
    Receipt.objects.create(
        **{"handler": "h", "source": "/", "message_id": "r", "type": "t"},
        **{"state": "retrying", "reason": "redelivered"},
    )

    [only] = groups().groups
    assert only.states == {"retrying": 1, "dead": 1}


def test_verdicts_and_data_that_does_not_fit_have_groups(handling: Handling) -> None:
    """By the reason, for want of a class."""

    def refuse(event: Any, message: Envelope) -> None:
        raise Reject(f"Order: {event.number} is too old")

    handling(refuse)
    dead(1, 2)
    receive(happened(3, data=b'{"key": "k"}'), happened(4, data=b'{"key": "k"}'))

    found = {each.newest.error_class: each for each in groups().groups}
    assert set(found) == {"rejected", "invalid_data"}
    assert found["rejected"].message == "Order: … is too old"
    assert (found["rejected"].count, found["rejected"].frame) == (2, None)
    assert found["invalid_data"].count == 2


def test_dead_letters_are_grouped_by_group_reason_and_text() -> None:
    """What was received again and is over is none of them."""
    receive(*(happened(number, type="tests.unknown") for number in range(3)), group="g")
    DeadLetter.objects.filter(pk=DeadLetter.objects.earliest("pk").pk).update(state="discarded")

    [only] = groups(LETTERS).groups

    assert (only.newest.by, only.newest.error_class, only.count) == ("g", "unknown_type", 2)
    assert "tests.unknown" in only.message


def test_the_newest_of_each_state_are_read(shop: Shop) -> None:
    """And it is said that there are more."""
    dead(*range(5))
    Receipt.objects.filter(key__in=["k0", "k1"]).update(state="retrying")

    assert not groups(limit=3).cut
    found = groups(limit=2)
    assert found.cut
    assert found.groups[0].states == {"dead": 2, "retrying": 2}
    assert not groups(LETTERS, limit=2).cut
    receive(*(happened(number, type="tests.unknown") for number in range(3)))
    found = groups(LETTERS, limit=2)
    assert (found.cut, found.groups[0].count) == (True, 2)


def test_a_bounded_number_of_tracebacks_is_read(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In as many statements for one as for many; the rest has the place of its neighbours."""
    monkeypatch.setattr(grouping.to_read, "__defaults__", (2,))
    with CaptureQueriesContext(connection) as one:
        dead(1)
        before = len(one)
        groups()
        few = len(one) - before
    dead(*range(2, 8))
    with CaptureQueriesContext(connection) as many:
        [only] = groups().groups

    assert (few, len(many)) == (3, 3)
    assert (only.count, only.estimated) == (7, False)


@postgresql
def test_they_are_found_by_an_index() -> None:
    """Beside any number of receipts that are processed."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO django_inbox_receipt "
            "(handler, source, message_id, type, state, changed, attempts, error) "
            "SELECT 'h', '/', n::text, 't', "
            "CASE WHEN n % 500 = 0 THEN 'dead' ELSE 'processed' END, now(), 1, "
            "CASE WHEN n % 500 = 0 THEN 'ValueError: no' END "
            "FROM generate_series(1, 20000) AS n"
        )
        cursor.execute("ANALYZE django_inbox_receipt")
        with CaptureQueriesContext(connection) as captured:
            assert groups().groups[0].count == 40
            RECEIPTS.between(0, 10**9, most=10, using="default")
        for statement in [each["sql"] for each in captured.captured_queries]:
            cursor.execute(f"EXPLAIN {statement}")
            plan = "\n".join(row[0] for row in cursor.fetchall())
            assert "inbox_state" in plan, plan
            assert "Seq Scan" not in plan, plan


def test_an_example_has_no_secrets(shop: Shop) -> None:
    """As on the page of the receipt; what is gone has none."""
    dead(1)
    Receipt.objects.update(error="ValueError: password=hunter2", traceback="token='abc123'")
    found = RECEIPTS.example(Receipt.objects.get().pk, "default")

    assert found is not None
    assert "hunter2" not in found.error
    assert "abc123" not in found.traceback
    assert RECEIPTS.example(0, "default") is None
    assert LETTERS.example(0, "default") is None


# --- Runs ----------------------------------------------------------------------------------------


def test_the_rest_is_tried_when_the_first_one_was_handled(shop: Shop) -> None:
    """The oldest one first, then all that had failed."""
    dead(*range(1, 6))
    shop.fails = ()
    run = step(begun())

    assert states() == {1: "retrying", 2: "dead", 3: "dead", 4: "dead", 5: "dead"}
    assert (came(run).untried, standing(run)) == (1, Standing.WAITING)
    assert step(run) == run  # nobody has handled it yet
    turn()
    assert standing(run) is Standing.READY
    run = step(run)
    assert (run.handled, len(run.pending)) == (1, 4)
    turn()

    assert set(states().values()) == {"processed"}
    assert standing(run) is Standing.OVER
    assert step(run) == run


def test_nothing_else_is_tried_if_the_first_one_fails_again(shop: Shop) -> None:
    """And it is said why."""
    dead(1, 2, 3)
    run = step(begun())
    turn()

    assert (came(run).failed, standing(run)) == (1, Standing.STOPPED)
    assert came(run).error == "LookupError: no price for 1"
    assert step(run) == run
    assert states() == {1: "dead", 2: "dead", 3: "dead"}
    assert Receipt.objects.get(key="k2").attempts == 1


def test_it_stops_when_a_later_one_fails_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the step in which that happens; the steps are bounded."""
    monkeypatch.setattr(RECEIPTS, "step", 2)
    dead(*range(1, 8))
    shop.fails = {5}
    run = step(begun())
    handled = []
    while standing(run) is not Standing.STOPPED:
        turn()
        handled.append(run.handled)
        run = step(run)

    assert handled == [0, 1, 3]
    assert states() == {1: "processed", 2: "processed", 3: "processed", 4: "processed"} | {
        5: "dead",
        6: "dead",
        7: "dead",
    }


def later_ones(shop: Shop) -> dict[int, str]:
    """Two have failed when a run begins; later a new one does, and an older one that has waited."""
    dead(1, 2, 3)
    Receipt.objects.filter(key="k2").update(state="waiting", next_attempt_at=None)
    run = begun()
    assert run.total == 2
    dead(4)
    now = timezone.now() + timedelta(seconds=1)
    Receipt.objects.filter(key="k2").update(state="dead", changed=now)

    shop.fails = ()
    run = step(run)
    turn()
    run = step(run)
    turn()

    assert standing(run) is Standing.OVER
    return states()


def test_what_fails_after_the_beginning_is_none_of_it(shop: Shop) -> None:
    """Neither a new row, nor an older one that fails only then."""
    assert later_ones(shop) == {1: "processed", 2: "dead", 3: "processed", 4: "dead"}


@pytest.mark.parametrize("mutant", ["without the clock", "without the number"])
def test_a_run_that_sweeps_in_later_ones_is_caught(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, mutant: str
) -> None:
    """By the test before this one: it would not be bound as it is."""
    if mutant == "without the clock":
        monkeypatch.setattr(
            Run, "takes", lambda run, each: fingerprint("receipts", each) == run.fingerprint
        )
        swept = {2}
    else:
        whole, between = 10**12, RECEIPTS.between
        monkeypatch.setattr(
            RECEIPTS, "between", lambda after, until, **more: between(after, whole, **more)
        )
        monkeypatch.setattr(
            Run, "takes", lambda run, each: fingerprint("receipts", each) == run.fingerprint
        )
        swept = {2, 4}

    found = later_ones(shop)
    assert {number for number in (2, 4) if found[number] == "processed"} == swept


def test_what_comes_after_the_beginning_is_none_of_it_by_any_clock(shop: Shop) -> None:
    """Numbers say so, where a clock was set back."""
    dead(1, 2)
    run = begun()
    dead(3)
    Receipt.objects.filter(message_id="m3").update(changed=run.started - timedelta(hours=1))

    shop.fails = ()
    run = step(run)
    turn()
    run = step(run)
    turn()

    assert standing(run) is Standing.OVER
    assert states() == {1: "processed", 2: "processed", 3: "dead"}


def test_other_groups_are_none_of_it(shop: Shop, handling: Handling) -> None:
    """Also one of the same handler and class."""
    dead(1, 2, 3)
    Receipt.objects.filter(key="k2").update(traceback=None, error="LookupError: another")
    [_, run_of] = sorted(groups().groups, key=lambda each: each.count)
    run = runs.begin(RECEIPTS, "default", groups, run_of.fingerprint, lambda _: "what")
    assert run is not None

    shop.fails = ()
    run = step(run)
    turn()
    turn() if step(run).pending else None

    assert states() == {1: "processed", 2: "dead", 3: "processed"}


def test_what_is_in_work_is_left_for_the_next_one(shop: Shop) -> None:
    """The first one that can be tried is the canary."""
    dead(1, 2, 3)
    first = Receipt.objects.earliest("pk").pk
    run = step(begun(), act=lambda numbers: [] if numbers == [first] else retry(numbers))

    assert states() == {1: "dead", 2: "retrying", 3: "dead"}
    assert standing(run) is Standing.WAITING
    run = step(begun(), act=lambda numbers: [])
    assert (run.pending, standing(run)) == ([], Standing.OVER)


def test_one_that_waits_behind_another_says_nothing(shop: Shop, handling: Handling) -> None:
    """So the next one is tried alone as well."""
    dead(1, 2, 3, 4)
    run = replace(step(begun()))
    ahead = Receipt.objects.get(key="k2")
    Receipt.objects.filter(key="k1").update(state="waiting", error="Behind another.")

    assert came(run).behind == 1
    run = step(run)
    assert (run.behind, run.holds, run.pending) == (1, False, [ahead.pk])


def test_a_step_that_is_asked_for_twice_tries_nothing_twice(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody clicks twice, or two people go on with one run."""
    monkeypatch.setattr(RECEIPTS, "step", 2)
    tried: list[int] = []

    def noted(numbers: Sequence[int]) -> Collection[int]:
        tried.extend(numbers)
        return retry(numbers)

    dead(*range(1, 6))
    shop.fails = ()
    run = step(begun(), act=noted)
    turn()
    one, other = step(run, act=noted), step(run, act=noted)
    assert one == other
    assert len(tried) == 3
    turn()
    step(one, act=noted)
    turn()

    assert len(tried) == len(set(tried)) == 5
    assert set(states().values()) == {"processed"}


def test_nobody_else_can_make_a_run() -> None:
    """Its text is signed; so is that of numbers."""
    for token in ("", "x", "eyJhIjoxfQ:x:y"):
        with pytest.raises(BadSignature):
            Run.of(token)
        with pytest.raises(BadSignature):
            runs.unpack(token)

    numbers = [7, 8, 1_000_000, 10**12]
    assert runs.unpack(runs.pack(numbers[::-1])) == numbers
    assert len(runs.pack(range(10**9, 10**9 + 3_000, 3))) < 200


def test_a_group_that_is_gone_has_no_run(shop: Shop) -> None:
    """Somebody was faster."""
    assert runs.begin(RECEIPTS, "default", groups, "0" * 32, lambda _: "what") is None


def retry_letters(numbers: Sequence[int]) -> Collection[int]:
    return operator.retry_letters(numbers, using="default").changed


def test_dead_letters_are_tried_at_once(handling: Handling) -> None:
    """By the process that is asked: there is nothing to wait for."""
    receive(*(happened(number, type="tests.unknown") for number in range(3)))
    run = step(begun(LETTERS), LETTERS, retry_letters)
    assert (came(run, LETTERS).failed, run.standing(came(run, LETTERS))) == (1, Standing.STOPPED)

    handling(pattern="tests.unknown")
    run = step(begun(LETTERS), LETTERS, retry_letters)
    assert run.standing(came(run, LETTERS)) is Standing.READY
    run = step(run, LETTERS, retry_letters)

    assert (run.handled, came(run, LETTERS)) == (1, Came(handled=2))
    assert run.standing(came(run, LETTERS)) is Standing.OVER
    assert not groups(LETTERS).groups


def test_a_letter_whose_handler_fails_has_failed_again(handling: Handling) -> None:
    """It was of use, and its receipt is dead."""
    receive(*(happened(number, type="tests.unknown") for number in range(3)))
    shop = Shop(range(100))
    handling(
        lambda event, message: shop.look_up(1), pattern="tests.unknown", retry=ONCE, name="new"
    )
    run = step(begun(LETTERS), LETTERS, retry_letters)

    assert came(run, LETTERS).failed == 1
    assert came(run, LETTERS).error
    assert DeadLetter.objects.filter(state="dead").count() == 2


def test_what_somebody_gave_up_meanwhile_proves_nothing(shop: Shop) -> None:
    """The next one is tried alone, as if there had been none before it."""
    dead(*range(4))
    run = step(begun())
    assert len(run.pending) == 1
    Receipt.objects.filter(pk__in=run.pending).update(state="discarded", next_attempt_at=None)

    run = step(run)
    assert not run.holds
    assert len(run.pending) == 1


def test_what_other_groups_made_of_a_message_says_nothing_of_a_dead_letter(shop: Shop) -> None:
    """Their handlers may have failed on it long ago."""
    dead(1)
    letter = DeadLetter.objects.create(
        group="elsewhere",
        reason="unknown_type",
        state="processed",
        message_id="m1",
        source="/elsewhere",
        headers="{}",
        body=b"{}",
        digest="d",
    )

    assert LETTERS.came([letter.pk], "default").failed == 0
    DeadLetter.objects.filter(pk=letter.pk).update(group="g")
    assert LETTERS.came([letter.pk], "default").failed == 1
