"""What a page's outcomes mean, and how long a parked message is tried."""

import pytest

from outbox.message.envelope import Envelope
from outbox.runtime.backoff import Backoff
from relay.brokers.base import CONFIRMED, UNSENT, Outcome, Status
from relay.judgement import Judgement, Patience, judge

NACKED = Outcome(Status.NACKED, "full")
FAILED = Outcome(Status.FAILED, "raised")
UNROUTABLE = Outcome(Status.UNROUTABLE, "no queue")
HELD = Outcome(Status.HELD, "behind")
UNKNOWN = Outcome(Status.UNKNOWN, "connection lost")


def messages(count: int, *, topics: int) -> list[Envelope]:
    return [
        Envelope(id=str(n), source="/t", type="t", data=b"", topic=f"t{n % topics}")
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("outcomes", "judgement"),
    [
        ([], Judgement(0)),
        ([CONFIRMED, CONFIRMED], Judgement(2)),
        ([UNKNOWN, UNKNOWN], Judgement(0, outage="connection lost")),
        ([CONFIRMED, UNKNOWN, CONFIRMED], Judgement(1, outage="connection lost")),
        ([UNKNOWN, NACKED], Judgement(0, outage="connection lost")),
        ([CONFIRMED, NACKED, UNKNOWN], Judgement(2, {1: NACKED}, "connection lost")),
        ([CONFIRMED, NACKED, CONFIRMED], Judgement(3, {1: NACKED})),
        ([UNROUTABLE, HELD, CONFIRMED], Judgement(3, {0: UNROUTABLE, 1: HELD})),
        ([UNROUTABLE, UNROUTABLE], Judgement(2, {0: UNROUTABLE, 1: UNROUTABLE})),
        ([FAILED, FAILED], Judgement(2, {0: FAILED, 1: FAILED})),
        ([NACKED], Judgement(1, {0: NACKED})),
        ([NACKED, HELD, HELD], Judgement(3, {0: NACKED, 1: HELD, 2: HELD})),
        ([NACKED, NACKED], Judgement(0, nacked="it refuses everything: full")),
        ([NACKED, HELD, HELD, NACKED], Judgement(0, nacked="it refuses everything: full")),
        ([CONFIRMED, UNSENT, CONFIRMED], Judgement(1)),
        ([NACKED, UNSENT], Judgement(1, {0: NACKED})),
        ([CONFIRMED, UNSENT, UNKNOWN], Judgement(1, outage="connection lost")),
        ([NACKED, NACKED, UNSENT], Judgement(0, nacked="it refuses everything: full")),
    ],
)
def test_an_outage_is_told_from_a_refusal(outcomes: list[Outcome], judgement: Judgement) -> None:
    """Unknown, or nacks whatever the topic: the broker is away. Else the refused are parked."""
    assert judge(messages(len(outcomes), topics=2), outcomes) == judgement


def test_one_queue_that_refuses_everything_is_no_outage() -> None:
    """Nacks for one topic alone are about its queue, and must not stop other topics."""
    assert judge(messages(2, topics=1), [NACKED, NACKED]) == Judgement(2, {0: NACKED, 1: NACKED})


def test_without_patience_nacks_are_about_the_messages() -> None:
    """A broker that goes on to refuse everything must not stop what is behind."""
    judgement = judge(messages(2, topics=2), [NACKED, NACKED], patient=False)

    assert judgement == Judgement(2, {0: NACKED, 1: NACKED})


def test_settled_messages_are_confirmed_or_parked() -> None:
    """The count of confirmed messages leaves out those that were parked."""
    assert judge(messages(3, topics=2), [CONFIRMED, NACKED, CONFIRMED]).confirmed == 2


def test_a_parked_message_is_given_up_after_so_many_refusals() -> None:
    """Pauses grow up to the cap; the last attempt has none after it."""
    patience = Patience(3, Backoff(base=1.0, cap=1.5))

    pauses = [patience.pause(Status.UNROUTABLE, attempts) for attempts in (1, 2, 3)]
    assert pauses[2] is None
    assert 0 <= pauses[0] <= 1.0  # type: ignore[operator]
    assert 0 <= pauses[1] <= 1.5  # type: ignore[operator]


def test_a_nack_is_never_given_up() -> None:
    """A full queue is no fault of the message."""
    assert Patience(3).pause(Status.NACKED, 1000) is not None
