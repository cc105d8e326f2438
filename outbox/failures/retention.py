"""How long notes on groups of failures are kept. Works without the admin."""

import time
from datetime import datetime

from django.db.models import Min

from outbox.extensions.failures import sources
from outbox.extensions.pruning import register_pruner
from outbox.failures.grouping import find
from outbox.models import FailureNote

LOOK_EVERY = 3600.0
"""Seconds between two looks at what fails."""
LOOKED_AT = 10_000
"""Old notes that are looked at in one turn."""


class OldNotes:
    """Deletes, or only counts, old notes on groups of which nothing fails any more.

    See extensions.pruning.Prune. To know what fails means to read all of it, so a housekeeping that
    comes round every minute does that every hour.
    """

    def __init__(self, *, delete: bool) -> None:
        self._delete = delete
        self._looked: float | None = None

    def __call__(self, using: str, *, before: datetime, limit: int) -> int:
        old = FailureNote.objects.using(using).filter(changed__lt=before).order_by("pk")
        names = dict(old.values_list("fingerprint", "pk")[:LOOKED_AT])
        now = time.monotonic()
        if not names or (self._looked is not None and now - self._looked < LOOK_EVERY):
            return 0
        gone = _of_nothing(names)[:limit]
        if len(gone) < limit:
            self._looked = now
        if self._delete:
            old.filter(pk__in=gone).delete()
        return len(gone)


def oldest(using: str) -> datetime | None:
    """Return when the note was changed that nobody has touched for the longest time."""
    found: datetime | None = FailureNote.objects.using(using).aggregate(m=Min("changed"))["m"]
    return found


def _of_nothing(names: dict[str, int]) -> list[int]:
    """Return the notes by whose fingerprints nothing fails; none if that cannot be told."""
    for source in sources():
        found = find(source, source.database())
        if found.cut:  # the group of a note may be among what was not read
            return []
        for group in found.groups:
            names.pop(group.fingerprint, None)
    return sorted(names.values())


def register() -> None:
    """Let outbox_prune and the housekeeping of relays delete notes."""
    register_pruner(
        "failure notes",
        OldNotes(delete=True),
        count=OldNotes(delete=False),
        oldest=oldest,
        place=200,
    )
