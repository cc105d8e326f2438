"""Findings, examiners, and what the outbox examines about itself."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import override_settings

import outbox
from outbox import doctor
from outbox.extensions import diagnosis
from outbox.extensions.diagnosis import (
    EXIT_CODES,
    Finding,
    Level,
    examine,
    register_examiner,
    worst,
)
from tests.outbox.placed import Placed

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No examiners but those of the test."""
    monkeypatch.setattr(diagnosis, "_examiners", {})


def finding(level: Level, id: str = "tests.thing") -> Finding:
    return Finding(level=level, id=id, title="A thing", text="It is.")


def found(id: str) -> Finding:
    [one] = [each for each in doctor.examine("default") if each.id == id]
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
    with override_settings(RELAYS={"default": {}}):
        assert found("relay.E001").level == Level.ERROR


@pytest.mark.parametrize("delay", [None, timedelta(days=1)])
def test_a_service_that_only_consumes_needs_no_relay(delay: timedelta | None):
    """RELAYS = {} says so; the doctor tells if something is emitted all the same."""
    with override_settings(RELAYS={}):
        assert found("outbox.settings").level == Level.OK
        assert not [each for each in doctor.examine("default") if each.id == "outbox.unread"]
        with transaction.atomic():
            outbox.emit(Placed(order_id=1), delay=delay)
        assert found("outbox.unread").level == Level.WARNING

    assert not [each for each in doctor.examine("default") if each.id == "outbox.unread"]


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

    monkeypatch.setattr(doctor, "database_now", elsewhere)
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


def peers_at(*ports: int) -> dict[str, Any]:
    return {
        "PEERS": {
            f"p{number}": {"URL": f"http://127.0.0.1:{port}/flow/", "TOKEN": "t0ken"}
            for number, port in enumerate(ports)
        }
    }


def test_peers_that_do_not_answer_are_named_within_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One hangs, one is not there, one refuses the token: all are asked at once."""
    monkeypatch.setattr(doctor, "_settings", lambda using: ())  # they take longer
    with (
        socket.create_server(("127.0.0.1", 0)) as hangs,
        socket.create_server(("127.0.0.1", 0)) as gone,
        refusing() as refuses,
    ):
        ports = [each.getsockname()[1] for each in (hangs, gone)]
        gone.close()
        started = time.monotonic()
        with override_settings(FLOW=peers_at(*ports, refuses)):
            asked = [each for each in doctor.examine("default") if each.id == "outbox.peer"]
        assert time.monotonic() - started < 2.5

    assert [(each.level, each.about) for each in asked] == [
        (Level.WARNING, name) for name in ("p0", "p1", "p2")
    ]
    assert "it did not answer in time" in asked[0].text
    assert "ConnectionRefusedError" in asked[1].text
    assert "it refuses our token" in asked[2].text
    assert not [each for each in asked if "t0ken" in f"{each}"]


@contextmanager
def refusing() -> Iterator[int]:
    """Yield the port of a service that knows another token."""

    class Refuse(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Refuse) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_without_peers_and_with_unusable_ones_nobody_is_asked() -> None:
    """The latter is for the check of the settings to tell."""
    for flow in ({}, {"PEERS": {"billing": {"URL": "x", "TOKEN": ""}}}):
        with override_settings(FLOW=flow):
            findings = list(doctor.examine("default"))
        assert not [each for each in findings if each.id == "outbox.peer"]
    assert [each for each in findings if each.id == "outbox.E007"]
