"""Exit codes of all commands: 0 done, 1 it could not be done, 2 the call cannot be meant."""

import io

import pytest
from django.core.management import CommandError, call_command

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]

UNKNOWN = "0199b2c0-0000-7000-8000-000000000000"

CODES = {
    # Nothing is chosen, or what contradicts itself.
    ("relay_replay",): 2,
    ("relay_replay", "--from-position", "9", "--to-position", "1"): 2,
    ("relay_requeue",): 2,
    ("inbox_retry",): 2,
    ("inbox_retry", "--dead-letters", "--state", "retrying"): 2,
    # A name that nobody knows.
    ("relay", "--once", "--relay", "nope"): 2,
    ("relay_replay", "--all", "--relay", "nope"): 2,
    ("relay_requeue", "--relay", "nope"): 2,
    ("relay_status", "--relay", "nope"): 2,
    ("consume", "--group", "nope"): 2,
    ("inbox_retry", "--handler", "nope"): 2,
    ("inbox_retry", "--type", "nope"): 2,
    ("inbox_retry", "--reason", "nope"): 2,
    ("inbox_bindings", "--group", "nope"): 2,
    ("inbox_bindings", "--forget", "nope"): 2,
    # Something is named, and there is nothing of it.
    ("relay_replay", "--key", "nobody"): 1,
    ("relay_requeue", "--key", "nobody"): 1,
    ("relay_requeue", "--id", UNKNOWN): 1,
    ("inbox_retry", "--id", UNKNOWN): 1,
    ("flow", "show", UNKNOWN): 1,
    ("flow", "show", "--key", "nobody"): 1,
    # All is asked for, and there is nothing.
    ("relay_replay", "--all"): 0,
    ("relay_requeue", "--all"): 0,
    ("relay_requeue", "--all", "--discard"): 0,
    ("inbox_retry", "--all"): 0,
    ("inbox_retry", "--all", "--dead-letters"): 0,
    ("inbox_bindings",): 0,
    ("inbox_bindings", "--replayed"): 0,
    ("outbox_prune",): 0,
    ("flow", "topology", "--drift"): 0,
    ("failures",): 0,
    ("failures", "--json"): 0,
    ("metrics",): 0,
    ("relay_status",): 0,
}


@pytest.mark.parametrize(("command", "code"), CODES.items(), ids=map(" ".join, CODES))
def test_the_exit_code(command: tuple[str, ...], code: int) -> None:
    """In a database in which there is nothing."""
    found = 0
    try:
        call_command(*command, stdout=io.StringIO())
    except CommandError as exc:
        found = exc.returncode

    assert found == code
