"""Messages of several services in one line of time."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from outbox.flow.conversation import Sent
from outbox.flow.timeline import timeline
from tests.outbox.flow.test_conversation import sent

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


def at(name: str, seconds: float, cause: str | None = None, source: str = "/shop") -> Sent:
    return replace(sent(name, cause, source=source), time=NOON + timedelta(seconds=seconds))


def names(*logs: list[Sent]) -> str:
    return "".join(each.id for each in timeline(logs[0], logs[1:]))


def test_by_time() -> None:
    """Across services."""
    assert names([at("a", 0), at("c", 2)], [at("b", 1, source="/far"), at("d", 3)]) == "abcd"


def test_a_log_keeps_its_order() -> None:
    """A clock that was put back does not change what came first."""
    assert names([at("a", 10), at("b", 5)], [at("c", 7)]) == "cab"


def test_a_message_stands_behind_its_cause() -> None:
    """Whatever the clock of the other service says."""
    assert names([at("a", 0)], [at("b", -100, "a"), at("c", -50, "b")]) == "abc"


def test_what_our_log_says_stands() -> None:
    """Of a message that another service tells of as well."""
    assert timeline([at("a", 0)], [[at("a", 50)]]) == [at("a", 0)]


def test_whatever_is_told() -> None:
    """Each message is there once, circles of causes or not."""
    rng = random.Random(3)
    for _ in range(200):
        ids = [f"m{n}" for n in range(rng.randrange(1, 12))]
        logs = [
            [
                replace(
                    at(name, rng.randrange(9), rng.choice([*ids, None]), source),
                    **({"time": None} if rng.random() < 0.1 else {}),
                )
                for name in ids
                if rng.random() < 0.7
            ]
            for source in ("/a", "/b")
        ]
        found = timeline(logs[0], logs[1:])
        places = [(each.source, each.id) for each in found]

        assert sorted(places) == sorted((each.source, each.id) for log in logs for each in log)
