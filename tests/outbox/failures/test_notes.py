"""Notes on groups of failures: who may write them, what is written down, how long they are kept."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.models import Permission, User
from django.core.exceptions import PermissionDenied
from django.core.management import call_command
from django.utils import timezone

from inbox import RetryPolicy
from inbox.models import Receipt
from outbox.extensions.failures import LIMIT, Sample
from outbox.failures.grouping import find
from outbox.failures.notes import MAX_NOTE, notes, write_note
from outbox.failures.retention import OldNotes, register
from outbox.models import FailureNote
from tests.inbox.support import Handling, happened, receive
from tests.inbox.test_failures import RECEIPTS, Shop
from tests.kit.api import Caller

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]
NAME, OTHER = "a" * 32, "b" * 32


@pytest.fixture
def ann() -> User:
    user = User.objects.create_user("ann")
    user.user_permissions.add(Permission.objects.get(codename="change_failurenote"))
    return User.objects.get(pk=user.pk)


@pytest.fixture
def failing(handling: Handling) -> str:
    """A group of which something fails; its fingerprint."""
    handling(Shop(range(100)), retry=RetryPolicy(attempts=1), name="tests.billing")
    receive(happened(1))
    [only] = find(RECEIPTS, "default").groups
    return only.fingerprint


def log() -> list[tuple[int, str]]:
    return list(LogEntry.objects.order_by("pk").values_list("action_flag", "change_message"))


def test_who_writes_has_seen_what_was_there(ann: User) -> None:
    """What somebody else has written meanwhile is not overwritten; all of it is in the log."""
    assert write_note(NAME, "  Mine.\r\n\0 ", user=ann, seen=None)
    assert not write_note(NAME, "Late.", user=ann, seen=None)
    note = notes([NAME])[NAME]
    assert (note.text, note.author) == ("Mine.", "ann")
    assert not write_note(NAME, "Stale.", user=ann, seen=note.changed - timedelta(seconds=1))
    assert write_note(NAME, "Again.", user=ann, seen=note.changed, reason="as Bob said")
    assert write_note(NAME, " ", user=ann, seen=notes([NAME])[NAME].changed)

    assert notes([NAME]) == {}
    assert log() == [
        (ADDITION, "Has written: Mine."),
        (CHANGE, "Has written: Again. as Bob said"),
        (DELETION, "Has deleted the note."),
    ]


def test_nothing_to_say_is_no_note(ann: User) -> None:
    """And leaves no trace; a long one is cut."""
    assert write_note(NAME, "", user=ann, seen=None)
    assert (notes([NAME]), log()) == ({}, [])
    write_note(NAME, "x" * (MAX_NOTE + 1), user=ann, seen=None)
    assert len(notes([NAME])[NAME].text) == MAX_NOTE


def test_it_takes_a_permission() -> None:
    """Whoever calls."""
    with pytest.raises(PermissionDenied):
        write_note(NAME, "No.", user=User.objects.create_user("bob"), seen=None)

    assert not FailureNote.objects.exists()


def test_an_old_note_goes_with_its_group(failing: str) -> None:
    """One on a group that fails still stays, and so does one that is not old."""
    now = timezone.now()
    for name, days in ((failing, 90), (NAME, 90), (OTHER, 1)):
        changed = now - timedelta(days=days)
        FailureNote.objects.create(fingerprint=name, text="x", author="ann", changed=changed)
    before = now - timedelta(days=30)

    assert OldNotes(delete=False)("default", before=before, limit=10) == 1
    housekeeping = OldNotes(delete=True)
    assert housekeeping("default", before=before, limit=10) == 1
    assert set(notes([failing, NAME, OTHER])) == {failing, OTHER}
    Receipt.objects.update(state="discarded", error=None)
    assert housekeeping("default", before=before, limit=10) == 0  # it has looked a moment ago
    assert OldNotes(delete=True)("default", before=before, limit=10) == 1
    assert set(notes([failing, NAME, OTHER])) == {OTHER}


def test_where_not_all_was_read_nothing_goes(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A note may belong to what was not looked at."""
    old = timezone.now() - timedelta(days=90)
    FailureNote.objects.create(fingerprint=NAME, text="x", author="ann", changed=old)
    whole = RECEIPTS.newest

    def newest(using: str, limit: int = LIMIT) -> Sample:
        return Sample(whole(using, limit).failures, cut=True)

    monkeypatch.setattr(type(RECEIPTS), "newest", lambda self, using, limit=LIMIT: newest(using))
    assert OldNotes(delete=True)("default", before=timezone.now(), limit=10) == 0


def test_the_command_deletes_them(capsys: pytest.CaptureFixture[str]) -> None:
    """As it does all that is kept for a time."""
    old = timezone.now() - timedelta(days=9)
    FailureNote.objects.create(fingerprint=NAME, text="x", author="ann", changed=old)
    register()  # as a process that has just begun
    call_command("outbox_prune", "--older-than", "7d")

    assert "failure notes: 1 deleted" in capsys.readouterr().out


def test_notes_by_the_api(failing: str) -> None:
    """Read, and written with what was seen; each by its permission."""
    place = f"failures/receipts/{failing}/note"
    Caller("eve").get(place, status=403)
    bob = Caller("bob", "django_inbox.view_receipt")
    assert bob.get(place) == {"text": None, "author": None, "changed": None}
    bob.put(place, {"text": "Mine."}, status=403)
    ann = Caller("ann", "django_inbox.view_receipt", "django_outbox.change_failurenote")
    made = ann.put(place, {"text": "Mine.", "reason": "as Bob said"})
    assert (made["text"], made["author"]) == ("Mine.", "ann")
    [kind] = bob.get("failures")["results"]
    assert kind["groups"][0]["note"] == "Mine."

    ann.put(place, {"text": "Late."}, status=409)
    assert ann.put(place, {"text": "Mine!", "seen": made["changed"]})["text"] == "Mine!"
    ann.put(place, {"text": "x" * (MAX_NOTE + 1)}, status=400)
    ann.put(place, {"text": "x", "seen": "yesterday"}, status=400)
    ann.get(f"failures/nothing/{failing}/note", status=404)
    ann.get("failures/receipts/xyz/note", status=404)
    assert [what for _, what in log()] == ["Has written: Mine. as Bob said", "Has written: Mine!"]
