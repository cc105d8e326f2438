"""Notes on groups of failures: who may write them, and who has."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django.contrib.admin.models import ADDITION, CHANGE, DELETION
from django.db import IntegrityError, transaction

from outbox.database.clock import database_now
from outbox.models import FailureNote
from outbox.operations import allow, name_of, write_down
from outbox.producer.writing import write_database

MAX_NOTE = 2_000
"""Characters of a note."""
PERMISSION = "django_outbox.change_failurenote"


def notes(fingerprints: Iterable[str], using: str | None = None) -> Mapping[str, FailureNote]:
    """Return the notes on groups by their fingerprints. One statement, or none."""
    wanted = list(fingerprints)
    if not wanted:
        return {}
    rows = FailureNote.objects.using(using or write_database()).filter(fingerprint__in=wanted)
    return {note.fingerprint: note for note in rows}


def write_note(
    fingerprint: str, text: str, *, user: Any, seen: datetime | None, reason: str = ""
) -> bool:
    """Keep what a user has to say about a group; a blank text takes the note away.

    `seen` is when the note was changed that he has seen, None if there was none. Return False, and
    do nothing, if somebody else has written since. Raises PermissionDenied if the user may not.
    """
    allow(user, PERMISSION)
    using = write_database()
    text = text.replace("\0", "").replace("\r\n", "\n").strip()[:MAX_NOTE]
    values = {"text": text, "author": name_of(user), "changed": database_now(using)}
    with transaction.atomic(using=using):
        rows = FailureNote.objects.using(using).select_for_update()
        note = rows.filter(fingerprint=fingerprint).first()
        if (note.changed if note else None) != seen:
            return False
        if note is None:
            return not text or _create(fingerprint, values, user, reason, using)
        if text:
            rows.filter(pk=note.pk).update(**values)
            note.text = text
        flag = CHANGE if text else DELETION
        what = f"Has written: {text}" if text else "Has deleted the note."
        write_down([note], what, user=user, reason=reason, flag=flag)
        if not text:
            note.delete()
    return True


def _create(fingerprint: str, values: dict[str, Any], user: Any, reason: str, using: str) -> bool:
    try:
        with transaction.atomic(using=using):
            note = FailureNote.objects.using(using).create(fingerprint=fingerprint, **values)
    except IntegrityError:  # somebody else was faster
        return False
    what = f"Has written: {note.text}"
    write_down([note], what, user=user, reason=reason, flag=ADDITION)
    return True
