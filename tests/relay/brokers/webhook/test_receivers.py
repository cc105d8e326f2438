"""A receiver that is away is left alone; others are not touched by it."""

import pytest

from relay.brokers.base import CONFIRMED, Outcome, Status
from relay.brokers.webhook.answers import Answer
from relay.brokers.webhook.receivers import Receiver

pytestmark = pytest.mark.sqlite

AWAY = Answer(Outcome(Status.REFUSED, "answered 503"), away=True)
ASKS = Answer(Outcome(Status.REFUSED, "answered 429", after=600.0), away=True)
FAULTY = Answer(Outcome(Status.REFUSED, "answered 400"))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def land(receiver: Receiver, answer: Answer) -> None:
    receiver.flying += 1
    receiver.landed(answer)


def test_it_has_room_for_some() -> None:
    receiver = Receiver(2)

    assert receiver.has_room
    receiver.flying = 2
    assert not receiver.has_room
    assert not receiver.is_idle


def test_one_that_is_away_is_left_alone_and_then_tried_with_one() -> None:
    clock = Clock()
    receiver = Receiver(4, clock)
    for _ in range(20):  # the pauses are random, up to longer and longer
        land(receiver, AWAY)

    refusal = receiver.refusal()
    assert refusal is not None
    assert refusal.status is Status.REFUSED
    assert "answered 503" in refusal.reason
    assert 0 < refusal.after <= 300

    clock.now += 300
    assert receiver.refusal() is None
    receiver.flying = 1
    assert not receiver.has_room


@pytest.mark.parametrize("answer", [Answer(CONFIRMED), FAULTY])
def test_any_answer_but_that_it_is_away_ends_that(answer: Answer) -> None:
    """Also a refusal: it is the callback's fault."""
    receiver = Receiver(4)
    land(receiver, AWAY)

    land(receiver, answer)

    assert receiver.refusal() is None
    assert receiver.has_room
    assert receiver.is_idle


def test_a_pause_that_it_asks_for_is_kept() -> None:
    """Whatever else is under way meanwhile."""
    clock = Clock()
    receiver = Receiver(4, clock)
    land(receiver, ASKS)
    land(receiver, Answer(CONFIRMED))

    clock.now += 599
    refusal = receiver.refusal()
    assert refusal is not None
    assert refusal.after == pytest.approx(1)
    clock.now += 1
    assert receiver.refusal() is None
