"""What people did to our rows, from Django's log of admin actions: what concerned many, as one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ObjectDoesNotExist
from django.db.models import Model, Q, prefetch_related_objects

from outbox.admin_support.keyset import Place, Reader
from outbox.database import instants

SHOWN = 50
"""Doings on a page."""
READ = 1_000
"""Entries that a page reads, at most: what is done to many rows leaves one for each."""
TOGETHER = timedelta(seconds=10)
"""How far apart the entries of one doing are, at most."""


@dataclass(slots=True)
class Doing:
    """What somebody did at once, to one row or to many; `entries` are the newest first."""

    entries: list[LogEntry] = field(default_factory=list)
    is_cut: bool = False
    """Whether it may go on where no more was read."""

    @property
    def last(self) -> LogEntry:
        return self.entries[0]

    @property
    def time(self) -> datetime:
        return instants.utc(self.last.action_time)

    def takes(self, entry: LogEntry) -> bool:
        """Tell whether an entry, the next older one, belongs to it."""
        return _what(entry) == _what(self.last) and (
            self.entries[-1].action_time - entry.action_time <= TOGETHER
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Doings:
    """A page of what people did, newest first, and the places of the pages next to it."""

    doings: Sequence[Doing]
    newer: Place | None
    older: Place | None


def doings(
    models: Sequence[type[Model]], place: Place | None = None, *, user: int | None = None
) -> Doings:
    """Return what people did to rows of some models, or one of them did. At most four statements.

    Where others have left much more in the log, a page looks at a part of it, and may be empty.
    """
    types = ContentType.objects.get_for_models(*models, for_concrete_models=False)
    known = {each.pk: each for each in types.values()}
    conditions = [Q(content_type__in=list(known))]
    conditions += [Q(user=user)] if user is not None else []
    entries = LogEntry.objects.all()
    reader = Reader(queryset=entries, size=READ, unindexed=conditions)
    page = reader.read(place)
    prefetch_related_objects(page.rows, "user")
    found: list[Doing] = []
    for entry in page.rows:
        entry.content_type = known[entry.content_type_id]
        if found and found[-1].takes(entry):
            found[-1].entries.append(entry)
        else:
            found.append(Doing([entry]))
    older = page.older
    if found and older and page.looked_to is None:
        found[-1].is_cut = True
    backwards = place is not None and place.side == "after"
    if len(found) > SHOWN and backwards:
        found = found[-SHOWN:]
        return Doings(doings=found, newer=Place("after", found[0].last.pk), older=older)
    if len(found) > SHOWN:
        found = found[:SHOWN]
        older = Place("before", found[-1].entries[-1].pk)
    return Doings(doings=found, newer=page.newer, older=older)


def who(entry: LogEntry) -> str:
    """Return the name of who did something; the key of a user who is not there any more."""
    try:
        return str(entry.user.get_username())
    except ObjectDoesNotExist:  # deleted without Django, or users have a database of their own
        return f"#{entry.user_id}"


def _what(entry: LogEntry) -> tuple[object, ...]:
    return entry.user_id, entry.content_type_id, entry.action_flag, entry.change_message
