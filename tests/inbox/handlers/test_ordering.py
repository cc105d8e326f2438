"""Handlers that keep an order: lines, sequences, gaps, and several consumers at once."""

import threading
from typing import Any

import pytest

from inbox import Reject
from inbox.handlers.ordering import (
    BEHIND,
    HANDLE,
    STALE,
    Decision,
    Line,
    LineKey,
    describe,
    follow,
    place_stored,
    stored_place,
)
from inbox.models import Receipt
from inbox.states import State
from outbox.message.envelope import Envelope
from tests.inbox.handlers.support import Breakable, drain, numbered
from tests.inbox.support import (
    Handling,
    effects,
    happened,
    in_thread,
    make_due,
    postgresql,
    receive,
    states,
    turn,
    waiting_for_lock,
)
from tests.kit.database import statements
from tests.kit.sessions import sessions
from tests.kit.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


# --- Policy --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("done", "sequence", "start", "decision"),
    [
        (None, 1, 1, HANDLE),
        (None, 2, 1, Decision("gap", range(1, 2))),
        (None, 0, 1, STALE),
        (None, 57, None, HANDLE),
        (None, 0, 0, HANDLE),
        (3, 4, 1, HANDLE),
        (3, 7, 1, Decision("gap", range(4, 7))),
        (3, 3, 1, STALE),
        (3, 2, None, STALE),
    ],
)
def test_a_number_follows_is_missed_or_is_late(
    done: int | None, sequence: int, start: int | None, decision: Decision
) -> None:
    """What is done decides, and the first number expected if nothing is."""
    assert follow(done, sequence, start) == decision


def test_missing_numbers_are_told_as_people_would() -> None:
    """One alone, or the first and the last."""
    assert (describe(range(4, 5)), describe(range(4, 7))) == ("4", "4 to 6")


def test_a_line_knows_behind_what_it_waits() -> None:
    """A failure holds up what comes behind it, what waits for a gap does not."""
    line = Line(LineKey("h", "/s", "k"), done=1)
    line.put(State.WAITING, 3)
    assert line.decide(2, 1) is HANDLE
    line.put(State.RETRYING, 2)
    assert (line.decide(4, 1), line.head, line.last) == (BEHIND, 2, 3)


def test_two_lines_have_two_locks() -> None:
    """Where the parts end is part of the number, and it fits the database's 64 bits."""
    keys = [LineKey("a", "b", "c"), LineKey("a", "bc", ""), LineKey("ab", "", "c")]
    locks = {key.lock() for key in keys}

    assert len(locks) == 3
    assert all(-(2**63) <= lock < 2**63 for lock in locks)


# --- ordered=True --------------------------------------------------------------------------------


@pytest.mark.sqlite
def test_later_messages_of_a_key_wait_behind_a_failure(handling: Handling) -> None:
    """In the same batch and in later ones; other keys, and messages without one, pass."""
    handling(Breakable(1), ordered=True)
    batch = [
        *numbered(1, 2),
        *numbered(3, key="other"),
        happened(4, key=None, data=b'{"key":"","number":4}'),
    ]

    results = receive(*batch)
    [later] = receive(*numbered(5))

    assert effects() == [3, 4]
    assert states() == ["retrying", "waiting", "processed", "processed", "waiting"]
    assert [(r.retrying, r.waiting) for r in [*results, later]] == [
        (1, 0), (0, 1), (0, 0), (0, 0), (0, 1),
    ]  # fmt: skip
    waiting = Receipt.objects.filter(state="waiting").order_by("place")
    assert [(each.place, each.reason, each.attempts) for each in waiting] == [
        (2, "behind", 0),
        (3, "behind", 0),
    ]


@pytest.mark.sqlite
def test_the_followers_run_in_order_when_the_head_is_processed(handling: Handling) -> None:
    """In the same turn."""
    broken = Breakable(1)
    handling(broken, ordered=True)
    receive(*numbered(1, 2, 3))
    receive(*numbered(4, 5))
    broken.broken.clear()
    make_due()

    found = turn()

    assert found.handled == 5
    assert effects() == [1, 2, 3, 4, 5]
    receive(*numbered(6))
    assert effects() == [1, 2, 3, 4, 5, 6]


@pytest.mark.sqlite
def test_a_follower_that_fails_becomes_the_head(handling: Handling) -> None:
    """What is behind it waits on, without being tried."""
    broken = Breakable(1, 3)
    handling(broken, ordered=True)
    receive(*numbered(1, 2, 3, 4))
    broken.broken = {3}
    make_due()

    turn()

    assert states() == ["processed", "processed", "retrying", "waiting"]
    assert broken.calls == [1, 1, 2, 3]
    assert drain() == 0 or states()[3] == "waiting"


@pytest.mark.sqlite
def test_a_dead_head_holds_its_key(handling: Handling) -> None:
    """It waits for a person, and so do the later ones."""
    handling(Breakable(1, exc=Reject), ordered=True)
    receive(*numbered(1, 2))
    receive(*numbered(3))
    make_due()

    assert turn().settled == 0
    assert states() == ["dead", "waiting", "waiting"]


@pytest.mark.sqlite
def test_unordered_a_failure_holds_nothing(handling: Handling) -> None:
    """The default: later messages of the key are handled all the same."""
    handling(Breakable(1))

    receive(*numbered(1, 2))

    assert effects() == [2]


@pytest.mark.sqlite
def test_each_handler_and_source_has_a_line_of_its_own(handling: Handling) -> None:
    """Keys of two services are not the same, and one handler's trouble is not the other's."""
    handling(Breakable(1), name="a", ordered=True)
    handling(name="b", ordered=True)

    receive(happened(1), happened(2), happened(3, source="/third"))

    assert states(handler="a") == ["retrying", "waiting", "processed"]
    assert states(handler="b") == ["processed"] * 3


@pytest.mark.sqlite
def test_a_long_line_does_not_take_a_turn_for_each(handling: Handling) -> None:
    """A thousand waiting messages of a key: eleven turns, one at once after the other."""
    broken = Breakable(0)
    handling(broken, ordered=True)
    for start in range(0, 1000, 100):
        receive(*numbered(*range(start, start + 100)))
    broken.broken.clear()
    make_due()

    turns = 0
    while turn(seconds=60).more:
        turns += 1

    assert turns <= 11
    assert effects() == list(range(1000))


@pytest.mark.sqlite
def test_a_handler_that_becomes_ordered_waits_for_what_failed_before(handling: Handling) -> None:
    """And one that is ordered no more handles what waited."""
    broken = Breakable(1)
    handling(broken)
    receive(*numbered(1))
    handling.forget()
    handling(broken, ordered=True)
    receive(*numbered(2))
    assert effects() == []
    handling.forget()
    broken.broken.clear()
    handling(broken, ordered=True)
    make_due()
    drain()

    assert effects() == [1, 2]


@postgresql
def test_a_second_consumer_waits_for_the_first_with_a_line(handling: Handling) -> None:
    """A later message is not handled beside an earlier one that may yet fail."""
    handling(Breakable(1), ordered=True)

    with sessions(1) as [first]:
        first.begin()
        first.run(lambda: receive(*numbered(1)))
        with in_thread(lambda: receive(*numbered(2))) as second:
            until(waiting_for_lock)
            assert second.running
            first.commit()
    second.get()

    assert states() == ["retrying", "waiting"]


@postgresql
def test_consumers_with_the_same_keys_never_deadlock(handling: Handling) -> None:
    """Two batches with the keys in opposite order, while turns are taken."""
    handling(ordered=True)
    handling(Breakable(*range(0, 300, 7)), name="broken", ordered=True)
    for _ in range(5):
        barrier = threading.Barrier(3)
        keys = [f"k{number}" for number in range(30)]

        def consume(batch: list[Envelope], barrier: threading.Barrier = barrier) -> Any:
            barrier.wait(10)
            return receive(*batch)

        def turns(barrier: threading.Barrier = barrier) -> None:
            barrier.wait(10)
            for _ in range(10):
                make_due()
                turn()

        one = [happened(number, key) for number, key in enumerate(keys)]
        two = [happened(100 + number, key) for number, key in enumerate(keys)]
        with (
            in_thread(lambda c=consume, m=one: c(m)) as a,
            in_thread(lambda c=consume, m=two: c(m[::-1])) as b,
            in_thread(turns) as c,
        ):
            pass
        for each in (a, b, c):
            each.get()

    assert len(effects("record")) >= 300


@postgresql
def test_a_turn_passes_by_a_line_that_is_in_work(handling: Handling) -> None:
    """It does not wait for another process, it takes the other lines."""
    broken = Breakable(1, 2)
    handling(broken, ordered=True)
    receive(happened(1, "a"), happened(2, "b"))
    broken.broken.clear()
    make_due()

    with sessions(1) as [first]:
        first.begin()
        first.run(lambda: receive(happened(3, "a")))
        assert turn().handled == 1
        assert effects() == [2]
        first.commit()
    assert turn().handled == 2

    assert effects() == [2, 1, 3]


# --- Cost ----------------------------------------------------------------------------------------

CLAIM, CHECK, LOCK, ENDS, KEEP, ADVANCE = 1, 2, 1, 1, 1, 1


@postgresql
@pytest.mark.parametrize("count", [1, 10, 100])
@pytest.mark.parametrize("keys", [1, 100])
def test_an_ordered_batch_costs_two_statements_more(
    count: int, keys: int, handling: Handling
) -> None:
    """Locks for all lines, and where they end, whatever their number."""
    handling(lambda event, message: None, ordered=True)
    batch = [happened(number, f"k{number % keys}") for number in range(count)]

    assert len(statements(lambda: receive(*batch))) == CLAIM + CHECK + LOCK + ENDS


@postgresql
@pytest.mark.parametrize("count", [1, 10, 100])
def test_a_sequenced_batch_costs_three(count: int, handling: Handling) -> None:
    """How far the keys have come is written at once."""
    handling(lambda event, message: None, ordered=True, sequence="number")
    batch = [happened(1, f"k{number}") for number in range(count)]

    assert len(statements(lambda: receive(*batch))) == CLAIM + CHECK + LOCK + ENDS + ADVANCE


@postgresql
def test_a_batch_of_waiting_messages_costs_one_update(handling: Handling) -> None:
    """However many of them wait."""
    handling(Breakable(0), ordered=True)
    receive(*numbered(0))
    batch = numbered(*range(1, 100))

    assert len(statements(lambda: receive(*batch))) == CLAIM + LOCK + ENDS + KEEP


def test_a_place_of_a_line_is_never_stored_as_zero() -> None:
    """Zero is for handlers without an order. The order of the places stays."""
    places = [-(2**63) + 1, -2, -1, 0, 1, 2, 2**63 - 1]
    stored = [stored_place(each) for each in places]

    assert 0 not in stored
    assert stored == sorted(stored)
    assert [place_stored(each) for each in stored] == places
    assert stored_place(-(2**63)) == -(2**63)
