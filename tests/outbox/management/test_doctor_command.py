"""manage.py doctor."""

import json
import signal
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from outbox.extensions import diagnosis
from outbox.extensions.diagnosis import Finding, Level, register_examiner
from tests.kit.processes import run, running

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]


def doctor(*arguments: str) -> tuple[int, str]:
    output = StringIO()
    try:
        call_command("doctor", *arguments, stdout=output, no_color=True)
    except SystemExit as exc:
        return int(exc.code or 0), output.getvalue()
    return 0, output.getvalue()


@pytest.mark.parametrize(
    ("levels", "code"),
    [
        ((), 0),
        ((Level.OK, Level.INFO), 0),
        ((Level.WARNING, Level.OK), 1),
        ((Level.WARNING, Level.ERROR, Level.INFO), 2),
    ],
)
def test_the_exit_code_is_that_of_the_worst(
    monkeypatch: pytest.MonkeyPatch, levels: tuple[Level, ...], code: int
):
    """0, 1 with warnings, 2 with errors; in words and as JSON."""
    monkeypatch.setattr(diagnosis, "_examiners", {})
    findings = [
        Finding(level=each, id="tests.x", title="Title", text="Text.", hint="Do this.")
        for each in levels
    ]
    register_examiner("tests", lambda using: findings)
    assert doctor()[0] == code
    assert doctor("--json")[0] == code

    found: dict[str, Any] = json.loads(doctor("--json")[1])
    assert [each["level"] for each in found["findings"]] == list(levels)
    if levels:
        assert "Title (tests.x): Text." in doctor()[1]
        assert "Do this." in doctor()[1]


def test_what_strangers_have_sent_moves_no_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it begin a line, as another finding would."""
    monkeypatch.setattr(diagnosis, "_examiners", {})
    evil = "\x1b[2J\x1b]0;x\x07\u202e\r\nOK       Broker (relay.broker): fine"
    finding = Finding(level=Level.ERROR, id="tests.x", title=evil, text=evil, hint=evil)
    register_examiner("tests", lambda using: [finding])
    lines = doctor()[1].splitlines()
    assert not [line for line in lines if line.startswith("OK")]
    assert all(line.isprintable() for line in lines)
    assert r"\x1b[2J" in lines[0]


def test_all_three_apps_are_examined():
    """With a local relay and an empty log there is nothing to complain about."""
    with override_settings(RELAYS={"default": {"BACKEND": "relay.brokers.local.LocalBroker"}}):
        code, output = doctor("--json")
    ids = {each["id"] for each in json.loads(output)["findings"]}

    assert code == 0, output
    assert {"outbox.clock", "outbox.scheduled", "relay.progress", "relay.retention"} <= ids
    assert {"inbox.dead", "inbox.queue"} <= ids


@pytest.mark.slow
def test_without_migrations_it_says_what_to_do():
    """A database that was not migrated is an error with a hint, not a traceback."""
    code, output = run("doctor", DATABASE_URL="sqlite://:memory:", BROKER_URL="")

    assert code == 2
    assert "manage.py migrate" in output
    assert "Traceback" not in output


def test_broken_settings_are_a_finding():
    """What would keep the relay from starting is told, not raised."""
    with override_settings(OUTBOX={"NOPE": 1}):
        code, output = doctor()

    assert code == 2
    assert "NOPE" in output


@pytest.mark.slow
def test_it_watches_until_it_is_stopped():
    """A database that was not migrated is told once, however often it looks."""
    away = {"DATABASE_URL": "sqlite://:memory:", "BROKER_URL": ""}
    with running("doctor", "--watch", "0.05", "--json", **away) as process:
        process.wait_for(lambda: '{"raised":' in process.output)
        process.send(signal.SIGTERM)
        assert process.wait() == 0
        lines = [json.loads(line) for line in process.output.splitlines()]
    ids = [line["raised"]["id"] for line in lines]
    assert "outbox.unexamined" in ids
    assert len(ids) == len(set(ids))


def test_it_looks_every_so_many_seconds():
    """Not all the time, and not never."""
    with pytest.raises(CommandError, match="must be a positive number of seconds"):
        call_command("doctor", "--watch", "0")
