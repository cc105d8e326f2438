"""Findings, examiners, and what the outbox examines about itself."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import override_settings

import outbox
from outbox import examination, health
from outbox.health import EXIT_CODES, Finding, Level, examine, register_examiner, worst
from tests.outbox.helpers import Placed

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No examiners but those of the test."""
    monkeypatch.setattr(health, "_examiners", {})


def finding(level: Level, id: str = "tests.thing") -> Finding:
    return Finding(level=level, id=id, title="A thing", text="It is.")


def found(id: str) -> Finding:
    [one] = [each for each in examination.examine("default") if each.id == id]
    return one


def test_the_worst_decides():
    """Errors before warnings before the rest; nothing found is fine."""
    assert worst([]) == Level.OK
    assert worst(map(finding, (Level.OK, Level.ERROR, Level.WARNING))) == Level.ERROR
    assert [EXIT_CODES[level] for level in Level] == [0, 0, 1, 2]


def test_examiners_are_asked_in_turn(alone: None):
    """Each for the database in question."""
    asked = []

    def first(using: str) -> Iterator[Finding]:
        asked.append(using)
        yield finding(Level.OK, "a.one")

    register_examiner("a", first)
    register_examiner("b", lambda using: [finding(Level.INFO, "b.two")])

    assert [each.id for each in examine("default")] == ["a.one", "b.two"]
    assert asked == ["default"]


def test_an_examiner_that_fails_says_so(alone: None):
    """What it had found before stays; the others are asked all the same."""

    def broken(using: str) -> Iterator[Finding]:
        yield finding(Level.OK, "a.one")
        raise outbox.ConfigurationError("no such thing")

    register_examiner("a", broken)
    register_examiner("b", lambda using: [finding(Level.INFO, "b.two")])
    ids = [each.id for each in examine("default")]

    assert ids == ["a.one", "a.unexamined", "b.two"]
    assert "no such thing" in examine("default")[1].text


def test_settings_are_checked():
    """The system checks of all three apps, with their own ids."""
    assert found("outbox.settings").level == Level.OK
    with override_settings(OUTBOX={"NOPE": 1}):
        assert found("outbox.E001").level == Level.ERROR
    with override_settings(RELAYS={}):
        assert found("relay.W001").level == Level.WARNING


def test_the_database_is_named():
    """With its version; SQLite is worth a word."""
    one = found("outbox.database")

    assert one.level == (Level.OK if connection.vendor == "postgresql" else Level.INFO)
    assert "default" in one.text


@pytest.mark.parametrize("hours", [-3, 3])
def test_clocks_that_differ(monkeypatch: pytest.MonkeyPatch, hours: int):
    """By how much, and which one is ahead."""
    assert found("outbox.clock").level == Level.OK

    def elsewhere(using: str) -> datetime:
        return datetime.now(UTC) + timedelta(hours=hours)

    monkeypatch.setattr(examination, "database_now", elsewhere)
    one = found("outbox.clock")
    assert one.level == Level.WARNING
    assert ("ahead of" if hours > 0 else "behind") in one.text
    assert one.figures["ahead"] == pytest.approx(hours * 3600, abs=10)


def test_scheduled_messages_that_are_overdue():
    """Nobody delivers them: how many, and for how long."""

    def schedule(**options: Any) -> None:
        with transaction.atomic():
            outbox.emit(Placed(1), **options)

    schedule(delay=600)
    assert found("outbox.scheduled").level == Level.OK
    schedule(deliver_at=datetime.now(UTC) - timedelta(hours=1))
    one = found("outbox.scheduled")

    assert one.level == Level.WARNING
    assert one.figures["due"] == 1
    assert one.figures["overdue"] == pytest.approx(3600, abs=30)
