"""manage.py doctor."""

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.test import override_settings

from outbox import health
from outbox.health import Finding, Level, register_examiner
from tests.processes import run

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
    monkeypatch.setattr(health, "_examiners", {})
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


def test_all_three_apps_are_examined():
    """With a local relay and an empty log there is nothing to complain about."""
    with override_settings(RELAYS={"default": {"BACKEND": "relay.brokers.local.LocalBroker"}}):
        code, output = doctor("--json")
    ids = {each["id"] for each in json.loads(output)["findings"]}

    assert code == 0, output
    assert {"outbox.clock", "outbox.scheduled", "relay.progress", "relay.retention"} <= ids
    assert {"inbox.dead", "inbox.queue"} <= ids


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
