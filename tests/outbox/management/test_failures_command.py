"""manage.py failures: what fails, in groups."""

import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from inbox.models import Receipt
from outbox.failures.grouping import find
from outbox.models import FailureNote
from tests.inbox.support import Handling, happened, receive
from tests.inbox.test_failures import ONCE, RECEIPTS, Shop, dead

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def shop(handling: Handling) -> Shop:
    found = Shop(range(100))
    handling(found, retry=ONCE)
    return found


def told(*options: str) -> str:
    out = io.StringIO()
    call_command("failures", *options, stdout=out)
    return out.getvalue()


def as_json(*options: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(told("--json", *options))
    return found


def test_groups_are_shown_with_their_notes() -> None:
    """And it is said of what kind there is nothing."""
    dead(1, 2)
    receive(happened(1, type="tests.unknown"))
    [group] = find(RECEIPTS, "default").groups
    FailureNote.objects.create(fingerprint=group.fingerprint, text="Ann mends it")

    lines = told().splitlines()

    assert "Parked messages: No message is parked." in lines
    assert "Receipts: 1 group" in lines
    place = lines.index("  record  LookupError  no price for …")
    assert lines[place + 1].startswith("    2 dead  2")
    assert lines[place + 2].startswith("    inbox/test_failures.py:")
    assert lines[place + 3] == "    Note: Ann mends it"
    assert "unknown_type" in "\n".join(lines[place + 4 :])


def test_json_has_all_of_it() -> None:
    """Of the kinds that are asked for."""
    dead(1, 2)
    found = as_json("--kind", "receipts", "--kind", "letters")

    assert set(found) == {"receipts", "letters"}
    assert found["letters"] == {"sample": False, "groups": []}
    [group] = found["receipts"]["groups"]
    assert (group["by"], group["error_class"], group["count"]) == ("record", "LookupError", 2)
    assert group["states"] == {"dead": 2}
    assert group["newest"] == Receipt.objects.latest("pk").pk
    assert group["frame"].endswith(" look_up")
    assert (group["note"], group["estimated"]) == (None, False)


def test_a_part_of_the_rows_is_called_so() -> None:
    """With a limit, or where there are more than are read."""
    dead(1, 2, 3)

    assert "of the newest rows; there are more" in told("--limit", "2")
    assert as_json("--limit", "2")["receipts"]["sample"]


def test_what_a_terminal_would_obey_and_secrets_are_not_shown() -> None:
    """Whatever an error says."""
    dead(1)
    Receipt.objects.update(error="ValueError: \x1b[2J token=abcdef", traceback=None)
    text = told()

    assert "\x1b" not in text
    assert "abcdef" not in text


def test_a_kind_that_there_is_not_is_refused() -> None:
    """Before anything is read."""
    with pytest.raises(CommandError, match="invalid choice"):
        told("--kind", "nothing")
