"""Handlers with a sequence: messages in the order of their numbers."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from inbox import operator
from inbox.models import KeySequence, Receipt
from inbox.receiving.retries import Retries
from inbox.verdicts import RetryPolicy
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
    records,
    states,
    turn,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def sequenced(handling: Handling) -> Callable[..., Breakable]:
    """Register a handler that goes by the event's number."""

    def register(*broken: int, **options: Any) -> Breakable:
        found = Breakable(*broken)
        options = {"sequence": "number", "ordered": True, "gap_timeout": 600.0, **options}
        handling(found, **options)
        return found

    return register


@pytest.mark.sqlite
def test_messages_are_handled_in_the_order_of_their_numbers(
    sequenced: Callable[..., Breakable],
) -> None:
    """However they come, in batches of any size, each once."""
    sequenced()
    messages = numbered(*range(1, 41))
    random.Random(7).shuffle(messages)
    for start in range(0, 40, 6):
        receive(*messages[start : start + 6])
        drain()

    assert effects() == list(range(1, 41))
    assert set(states()) == {"processed"}
    assert KeySequence.objects.get().last == 40


@pytest.mark.sqlite
def test_a_gap_waits_for_a_time(sequenced: Callable[..., Breakable]) -> None:
    """The one that came too early says what it waits for, and how long."""
    sequenced()
    receive(*numbered(1, 4))

    waiting = Receipt.objects.get(state="waiting")
    assert (waiting.reason, waiting.place) == ("gap", 4)
    assert waiting.error == "Waits for 2 to 3 of its sequence, at most 600 s."
    assert waiting.next_attempt_at is not None
    assert turn().settled == 0
    assert effects() == [1]


@pytest.mark.sqlite
def test_a_filled_gap_lets_the_rest_go_on_at_once(sequenced: Callable[..., Breakable]) -> None:
    """As far as the numbers follow each other; the next gap waits for a time of its own."""
    sequenced()
    receive(*numbered(2, 3, 5))
    receive(*numbered(1))

    assert turn().handled == 2
    assert effects() == [1, 2, 3]
    assert states(place=5) == ["waiting"]
    assert turn().settled == 0


@pytest.mark.sqlite
def test_after_its_time_a_gap_is_passed_on_the_record(
    sequenced: Callable[..., Breakable], caplog: pytest.LogCaptureFixture
) -> None:
    """With a warning, and a note in the receipt; what comes later than that is skipped."""
    sequenced()
    receive(*numbered(1, 4, 5))
    make_due()
    drain()
    late = numbered(3)
    [result] = receive(*late)

    assert effects() == [1, 4, 5]
    passed = Receipt.objects.get(reason="gap")
    assert (passed.state, passed.error) == (
        "processed",
        "It went on without 2 to 3 of its sequence.",
    )
    assert len(records(caplog, "Handler record has gone on")) == 1
    assert result.skipped == 1
    skipped = Receipt.objects.get(message_id=late[0].id)
    assert (skipped.state, skipped.reason, skipped.body) == ("skipped", "stale", None)


@pytest.mark.sqlite
def test_without_patience_a_gap_is_passed_at_once(sequenced: Callable[..., Breakable]) -> None:
    """gap_timeout=0, on the record as well."""
    sequenced(gap_timeout=0)

    receive(*numbered(3))

    assert effects() == [3]
    assert Receipt.objects.get().reason == "gap"


@pytest.mark.sqlite
@pytest.mark.parametrize("start", [None, 57])
def test_a_sequence_may_start_anywhere(
    start: int | None, sequenced: Callable[..., Breakable]
) -> None:
    """For who begins to listen late: from a number, or from the first that comes."""
    sequenced(sequence_start=start)

    receive(*numbered(57, 58))

    assert effects() == [57, 58]


@pytest.mark.sqlite
@pytest.mark.parametrize("start", [-2, -1, 0, 1])
def test_a_number_that_failed_is_followed_by_the_next_wherever_a_sequence_starts(
    start: int, sequenced: Callable[..., Breakable]
) -> None:
    """Zero and what is below it are numbers like any other: those of an event store, say."""
    broken = sequenced(start, sequence_start=start)
    receive(*numbered(start, start + 1))
    broken.broken.clear()
    make_due()
    turn()
    assert effects() == [start, start + 1]

    receive(*numbered(start + 2))

    assert effects() == [start, start + 1, start + 2]
    assert set(Receipt.objects.values_list("state", "reason")) == {("processed", None)}


@pytest.mark.sqlite
@pytest.mark.parametrize("start", [-1, 0, 1])
def test_what_waits_behind_a_number_goes_on_when_that_is_discarded(
    start: int, sequenced: Callable[..., Breakable]
) -> None:
    """Wherever the sequence starts."""
    sequenced(start, sequence_start=start, retry=RetryPolicy(attempts=1))
    receive(*numbered(start, start + 1))

    operator.discard([Receipt.objects.get(state="dead").pk], using="default")

    assert turn().handled == 1
    assert effects() == [start + 1]


@pytest.mark.sqlite
def test_what_was_given_up_is_restored_to_its_line(sequenced: Callable[..., Breakable]) -> None:
    """As long as its sequence has not gone past it: it is dead, and others wait behind it again."""
    broken = sequenced(1, retry=RetryPolicy(attempts=1))
    receive(*numbered(1))
    dead = Receipt.objects.get()
    operator.discard([dead.pk], using="default")

    assert operator.restore([dead.pk], using="default").changed == [dead.pk]

    receive(*numbered(2))
    assert turn().handled == 0
    assert states() == ["dead", "waiting"]
    broken.broken.clear()
    operator.retry([dead.pk], using="default")
    turn()
    turn()
    assert effects() == [1, 2]


@pytest.mark.sqlite
def test_what_its_sequence_has_gone_past_is_not_restored(
    sequenced: Callable[..., Breakable],
) -> None:
    """It could only be skipped, and would hold up the others until somebody looked."""
    sequenced(1, retry=RetryPolicy(attempts=1))
    receive(*numbered(1, 2))
    dead = Receipt.objects.get(state="dead")
    operator.discard([dead.pk], using="default")
    turn()
    assert effects() == [2]

    done = operator.restore([dead.pk], using="default")

    assert (done.changed, done.left) == ([], [dead.pk])
    assert states() == ["discarded", "processed"]


@pytest.mark.sqlite
def test_a_failure_holds_up_its_sequence(sequenced: Callable[..., Breakable]) -> None:
    """Later numbers wait behind it and for nothing else, and follow it in order."""
    broken = sequenced(2)
    receive(*numbered(1, 2, 3))
    receive(*numbered(5, 4))
    make_due(state="waiting")
    turn()
    assert effects() == [1]
    assert not Receipt.objects.filter(state="waiting", next_attempt_at__isnull=False).exists()
    broken.broken.clear()
    make_due()

    turn()

    assert effects() == [1, 2, 3, 4, 5]


@pytest.mark.sqlite
def test_a_number_that_comes_twice_is_skipped(sequenced: Callable[..., Breakable]) -> None:
    """Another message with the number of one that is handled: the key has gone past it."""
    sequenced()

    receive(*numbered(1, 1, 2))

    assert effects() == [1, 2]
    assert states() == ["processed", "skipped", "processed"]


@pytest.mark.sqlite
def test_keys_count_for_themselves(sequenced: Callable[..., Breakable]) -> None:
    """Each begins at its first number; without a key there is nothing to count by."""
    sequenced()

    receive(
        *numbered(1, key="a"),
        *numbered(1, key="b"),
        happened(9, key=None, data=b'{"key":"","number":9}'),
    )

    assert effects() == [1, 1, 9]
    assert dict(KeySequence.objects.values_list("key", "last")) == {"a": 1, "b": 1}


@pytest.mark.sqlite
@pytest.mark.parametrize("number", [b"null", b'"7"', b"1.5", b"true", b"9223372036854775808"])
def test_what_has_no_number_is_dead(number: bytes, handling: Handling) -> None:
    """The error says so; it holds up its key, since nobody knows whose place it has."""
    handling(pattern="tests.plain", sequence="number", ordered=True)
    plain = {"type": "tests.plain", "topic": "tests.plain"}

    [result] = receive(happened(data=b'{"number":' + number + b"}", **plain))

    assert result.dead == 1
    receipt = Receipt.objects.get()
    assert receipt.reason == "invalid_data"
    assert "no whole number of 64 bits" in (receipt.error or "")


@pytest.mark.sqlite
def test_a_number_can_be_computed(handling: Handling) -> None:
    """From the event; a function that raises makes the message dead."""
    handling(Breakable(), sequence=lambda event: 10 // event.number, ordered=True, sequence_start=5)

    receive(happened(2), happened(0))

    assert effects() == [2]
    assert "ZeroDivisionError" in (Receipt.objects.get(state="dead").error or "")


@postgresql
@pytest.mark.sqlite
def test_numbers_at_the_end_of_all_numbers(sequenced: Callable[..., Breakable]) -> None:
    """What comes behind the last number there is, and a gap of nearly all numbers."""
    sequenced(sequence_start=None)
    last = 2**63 - 1
    receive(*numbered(-10, last))
    waiting = Receipt.objects.get(state="waiting")
    assert waiting.error.startswith(f"Waits for -9 to {last - 1} of its sequence")
    [unreadable] = receive(happened(7, data=b'{"key": "k", "number": "x"}'))
    assert unreadable.dead == 1

    make_due()
    drain()
    [again] = receive(happened(7, data=b'{"key": "k", "number": "y"}'))

    assert (again.dead, states().count("dead")) == (1, 2)


@pytest.mark.sqlite
@pytest.mark.parametrize("limit", [1, 100])
def test_one_that_has_waited_for_long_enough_is_seen_behind_many(
    limit: int, sequenced: Callable[..., Breakable]
) -> None:
    """Nothing before it waits any longer, however few rows a turn reads."""
    sequenced()
    receive(*numbered(7))
    make_due()
    receive(*numbered(3, 5))

    while Retries("default").turn(limit=limit).settled:
        pass

    assert effects() == [3, 5, 7]


def test_two_consumers_keep_a_sequence(sequenced: Callable[..., Breakable]) -> None:
    """Messages scattered over four consumers are handled in the order of their numbers."""
    sequenced()
    shuffled = numbered(*range(1, 201))
    random.Random(1).shuffle(shuffled)
    parts = [shuffled[n::4] for n in range(4)]

    def consume(part: list[Envelope]) -> None:
        for start in range(0, len(part), 5):
            receive(*part[start : start + 5])
            turn()

    with (
        in_thread(lambda: consume(parts[0])) as a,
        in_thread(lambda: consume(parts[1])) as b,
        in_thread(lambda: consume(parts[2])) as c,
        in_thread(lambda: consume(parts[3])) as d,
    ):
        pass
    for each in (a, b, c, d):
        each.get()
    drain()

    assert effects() == list(range(1, 201))
