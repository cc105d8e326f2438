"""The way of a message: steps by their causes, and what is said of the time between them."""

from datetime import UTC, datetime, timedelta

import pytest

from outbox.admin_support.timeline import Stage, Step, placed

pytestmark = pytest.mark.sqlite

NOON = datetime(2031, 5, 6, 12, tzinfo=UTC)


def step(stage: Stage, seconds: float | None, what: str, actor: str = "", caused: str = "") -> Step:
    at = None if seconds is None else NOON + timedelta(seconds=seconds)
    return Step(stage=stage, at=at, what=what, actor=actor, caused=caused)


def shown(*steps: Step) -> list[tuple[str, str]]:
    return [(str(each.step.what), str(each.since)) for each in placed(steps)]


EMITTED = step(Stage.EMITTED, 0, "emitted", caused="emitted")


def test_steps_stand_behind_their_causes() -> None:
    """Emitted, published, handled; what is to come has no time, and stands last of its kind."""
    assert shown(
        step(Stage.HANDLED, 5, "processed", "billing"),
        step(Stage.PUBLISHED, None, "pending", "archive"),
        step(Stage.PUBLISHED, 2, "published", "default", caused="published"),
        EMITTED,
    ) == [
        ("emitted", ""),
        ("published", "2 s after it was emitted"),
        ("pending", ""),
        ("processed", "3 s after it was published"),
    ]


def test_what_one_has_done_stays_together() -> None:
    """Received, tried and processed by one handler, beside what another one does meanwhile."""
    assert shown(
        EMITTED,
        step(Stage.HANDLED, 2, "received", "a", caused="received"),
        step(Stage.HANDLED, 9, "processed", "a"),
        step(Stage.HANDLED, 3, "dead", "b"),
    ) == [
        ("emitted", ""),
        ("received", "2 s after it was emitted"),
        ("processed", "7 s after it was received"),
        ("dead", "3 s after it was emitted"),
    ]


def test_a_consumer_may_be_faster_than_the_relay_writes_it_down() -> None:
    """Then the time is since it was emitted."""
    assert shown(
        EMITTED,
        step(Stage.PUBLISHED, 2, "published", "default", caused="published"),
        step(Stage.HANDLED, 1, "processed", "a"),
    )[2] == ("processed", "1 s after it was emitted")


def test_clocks_that_disagree_change_no_order() -> None:
    """And no time is negative: it is said that they do."""
    found = shown(
        step(Stage.HANDLED, -3600, "processed", "a"),
        step(Stage.PUBLISHED, -60, "published", "default", caused="published"),
        EMITTED,
    )

    assert [what for what, _ in found] == ["emitted", "published", "processed"]
    assert {since for what, since in found if what != "emitted"} == {
        "by a clock that differs from that of the step before"
    }
