"""Mistakes that one makes easily, and that the other tests of this folder catch."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from relay.brokers.base import Depth
from relay.resending import turns
from relay.resending.policy import Place, Step, next_step
from tests.relay.resending import test_turns
from tests.relay.resending.test_turns import Scene, scene

__all__ = ["scene"]
pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


def blind(place: Place, resends: int, most: int, depth: Depth | None, before: int | None) -> Step:
    """Does not ask how many wait in the queue."""
    return next_step(place, resends, most, None, before)


def hasty(place: Place, resends: int, most: int, depth: Depth | None, before: int | None) -> Step:
    """Sends what the relay has yet to publish."""
    return next_step(Place.PUBLISHED, resends, most, depth, before)


def a_backlog(scene: Scene) -> None:
    depth = Depth(ready=3, consumers=1)
    test_turns.test_a_backlog_is_said_and_nothing_is_sent(scene, depth, "backlog")


@pytest.mark.parametrize(
    ("mistake", "caught"),
    [
        (blind, a_backlog),
        (hasty, test_turns.test_what_is_not_published_is_not_sent_again),
    ],
)
def test_something_is_sent_that_is_not_lost(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    mistake: Callable[..., Step],
    caught: Callable[[Scene], None],
) -> None:
    monkeypatch.setattr(turns, "next_step", mistake)
    with pytest.raises(AssertionError):
        caught(scene)


def test_resends_are_not_counted(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def again(step: Step, now: datetime, within: timedelta, resends: int) -> dict[str, object]:
        return before(step, now, within, 0)

    before = turns.changes
    monkeypatch.setattr(turns, "changes", again)
    with pytest.raises(AssertionError):
        test_turns.test_after_the_last_resend_it_is_missing(scene)
