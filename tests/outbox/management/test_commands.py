"""What the commands share: a wrong alias and a database without tables are told in words."""

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from outbox.runtime.arguments import database_errors_explained
from tests.inbox.support import postgresql
from tests.kit.processes import run

COMMANDS = [
    ("relay", "--once"),
    ("relay_status",),
    ("relay_requeue", "--all"),
    ("relay_replay", "--all"),
    ("consume",),
    ("inbox_retry", "--all"),
    ("inbox_bindings",),
    ("outbox_prune",),
    ("doctor",),
]


@pytest.mark.sqlite
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_an_unknown_database_is_a_clear_error(command: tuple[str, ...]) -> None:
    """The alias is checked before anything else, and the known ones are named."""
    with pytest.raises(CommandError, match=r"there is no 'nope' in DATABASES; known: default"):
        call_command(*command, "--database", "nope")


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ("relay_requeue", "--all"),
        ("relay_replay", "--all"),
        ("inbox_retry", "--all"),
        ("inbox_bindings",),
    ],
)
def test_without_migrations_they_say_what_to_do(command: tuple[str, ...]) -> None:
    """A database that was not migrated is a clear error, not a traceback."""
    code, output = run(*command, DATABASE_URL="sqlite://:memory:")

    assert code != 0
    assert "manage.py migrate" in output or "away" in output
    assert "Traceback" not in output


@pytest.mark.django_db
@postgresql
def test_a_missing_privilege_is_told_from_a_missing_migration() -> None:
    """The hint is to grant it, not to migrate."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE outsider")
        cursor.execute("SET LOCAL ROLE outsider")
        with (
            pytest.raises(CommandError, match=r"permission denied.*\nGrant it"),
            database_errors_explained(),
        ):
            cursor.execute("SELECT 1 FROM django_outbox_message")
