"""What follows when a group has not acknowledged in time: every case, without a database."""

import pytest

from outbox.states import Hold
from relay.brokers.base import Depth
from relay.resending.policy import MISS, SEND, Action, Place, Step, held_by, next_step

IDLE = Depth(ready=0, consumers=1)


@pytest.mark.parametrize(
    ("depth", "before", "hold"),
    [
        (Depth(exists=False), None, Hold.NO_QUEUE),
        (Depth(ready=0, consumers=0), None, Hold.NO_CONSUMER),
        (Depth(ready=9, consumers=0), 20, Hold.NO_CONSUMER),
        (Depth(ready=9, consumers=1), None, Hold.BACKLOG),
        (Depth(ready=9, consumers=1), 9, Hold.BACKLOG),
        (Depth(ready=9, consumers=1), 3, Hold.BACKLOG),
        (Depth(ready=9, consumers=1), 10, None),
        (IDLE, None, None),
        (IDLE, 5, None),
    ],
)
def test_a_group_that_is_behind_or_away_gets_nothing_again(
    depth: Depth, before: int | None, hold: Hold | None
) -> None:
    assert held_by(depth, before) is hold
    expected = SEND if hold is None else Step(Action.HOLD, hold)
    assert next_step(Place.PUBLISHED, 0, 5, depth, before) == expected


def test_it_is_sent_as_often_as_is_allowed() -> None:
    """Then it is missing; without any resends, at once."""
    steps = [next_step(Place.PUBLISHED, resends, 2, IDLE, None) for resends in range(4)]
    assert steps == [SEND, SEND, MISS, MISS]
    assert next_step(Place.PUBLISHED, 0, 0, IDLE, None) == MISS


@pytest.mark.parametrize(("resends", "most"), [(1, 5), (5, 5), (0, 0)])
def test_a_backlog_that_is_worked_off_gets_one_copy_of_a_message(resends: int, most: int) -> None:
    """Not one with each look, until it is said to be missing while it waits in there."""
    shrinking = Depth(ready=1000, consumers=1)
    held = Step(Action.HOLD, Hold.BACKLOG)
    assert next_step(Place.PUBLISHED, resends, most, shrinking, 2000) == held
    assert next_step(Place.PUBLISHED, 0, 5, shrinking, 2000) == SEND


def test_it_is_not_missing_while_the_group_is_away() -> None:
    assert next_step(Place.PUBLISHED, 5, 5, Depth(), None) == Step(Action.HOLD, Hold.NO_CONSUMER)


def test_what_is_not_published_is_not_lost() -> None:
    assert next_step(Place.PENDING, 5, 5, None, None) == Step(Action.HOLD, Hold.UNPUBLISHED)


def test_what_is_gone_is_given_up() -> None:
    assert next_step(Place.GONE, 0, 5, None, None) == Step(Action.GIVE_UP, Hold.GONE)


def test_a_broker_that_may_not_be_asked_holds_nothing_back() -> None:
    assert next_step(Place.PUBLISHED, 0, 5, None, None) == SEND
