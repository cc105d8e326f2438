"""What people do about messages, and what comes of it."""

import threading
from typing import Any

import pytest

from inbox import RetryPolicy, followup, operator
from inbox.followup import Came, Left, follow
from inbox.models import DeadLetter, Receipt
from inbox.states import State
from outbox.message.envelope import Envelope
from tests.inbox.support import (
    Handling,
    Mended,
    fail,
    happened,
    in_thread,
    postgresql,
    receive,
    record,
    turn,
)

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

ONCE = RetryPolicy(attempts=1)


def numbers(**about: Any) -> list[int]:
    return list(Receipt.objects.filter(**about).order_by("pk").values_list("pk", flat=True))


def test_what_is_left_says_why(handling: Handling) -> None:
    """Waiting, over, or no longer there; what is changed is told apart."""
    handling(fail, ordered=True, retry=ONCE)
    handling(record, name="works")
    receive(happened(1), happened(2))
    [dead], [waiting] = numbers(state="dead"), numbers(state="waiting")
    processed = numbers(state="processed")

    done = operator.retry([dead, waiting, *processed, 99_999], using="default")

    assert (done.changed, done.came.untried) == ([dead], 1)
    assert done.why == {
        waiting: Left.WAITING,
        **dict.fromkeys(processed, Left.OVER),
        99_999: Left.GONE,
    }
    assert sorted(done.left) == sorted(done.why)


def test_a_letter_that_is_left_says_why(handling: Handling) -> None:
    """Of no use still, only a head, or over."""
    for number in range(3):
        receive(happened(number, type="tests.unknown"))
    unusable, head, over = DeadLetter.objects.order_by("pk")
    DeadLetter.objects.filter(pk=head.pk).update(size=10**9, sha256="0" * 64)
    operator.discard_letters([over.pk], using="default")

    done = operator.retry_letters([unusable.pk, head.pk, over.pk], using="default")

    assert done.changed == []
    assert done.why == {
        unusable.pk: Left.UNUSABLE,
        head.pk: Left.ONLY_HEAD,
        over.pk: Left.OVER,
    }


def test_discarding_says_so() -> None:
    """In the word of the state."""
    receive(happened(1, type="tests.unknown"))
    done = operator.discard_letters([DeadLetter.objects.get().pk], using="default")

    assert str(done.came) == "1 discarded"
    assert done.came.failed == 0


def test_what_has_come_of_receipts_is_told_by_state(handling: Handling) -> None:
    """Those that failed again with the error of their handler, equal ones together."""

    def picky(event: Any, message: Envelope) -> None:
        if mended and event.number < 3:
            return
        raise ValueError("no luck" if event.number < 5 else "bad luck")

    mended: list[bool] = []
    handling(picky, retry=ONCE)
    receive(*[happened(number) for number in range(6)])
    found = numbers()
    came = operator.retry(found, using="default").came
    assert (came.untried, came.failed, dict(came.states)) == (6, 0, {})

    mended.append(True)
    turn()
    came = follow(found, using="default")

    assert str(came) == "3 processed, 3 dead"
    assert came.failed == 3
    assert came.errors == {
        ("record", "ValueError: no luck"): 2,
        ("record", "ValueError: bad luck"): 1,
    }


def test_many_are_looked_at_in_parts(handling: Handling, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is counted twice."""
    monkeypatch.setattr(followup, "PART", 2)
    handling(Mended())
    receive(*[happened(number) for number in range(5)])

    assert follow(numbers(), using="default") == Came(
        states={State.RETRYING: 5}, errors={("record", "ValueError: no luck"): 5}
    )


@postgresql
def test_it_waits_for_as_long_as_there_is_progress(handling: Handling) -> None:
    """Each of a consumer's turns takes it further, however long all of them last."""
    handling(Mended(), retry=ONCE)
    receive(*[happened(number) for number in range(8)])
    found = numbers()
    operator.retry(found, using="default")
    over = threading.Event()

    def consume() -> None:
        while not over.wait(0.4):
            turn(limit=1)

    with in_thread(consume):
        try:
            came = follow(found, using="default", seconds=2.0)
        finally:
            over.set()

    assert (came.untried, dict(came.states)) == (0, {State.PROCESSED: 8})
