"""What comes from whom nobody expects, and what nobody here expects."""

from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from datetime import timedelta
from uuid import UUID

from django.db import DatabaseError, connections
from django.db.transaction import atomic

from inbox.conf import local_relays
from inbox.findings.dead import COUNTED, NAMED
from inbox.handlers.registry import handlers
from inbox.models import DeadLetter, Receipt
from inbox.states import State
from outbox.conf import outbox_settings
from outbox.database import instants
from outbox.extensions.diagnosis import Finding, Level
from outbox.message.ids import time_of
from outbox.message.kinds import EVENT, kind_of
from outbox.message.requests import is_address
from outbox.models import Message
from outbox.nouns import counted
from outbox.producer.writing import write_database

LOOKED_AT = 500
"""Newest receipts that are looked at for what they say about senders."""
LEEWAY = timedelta(hours=1)
"""How far clocks and housekeeping may be off."""


def strangers(using: str) -> Iterator[Finding]:
    """Tell of messages on our queues that we have not asked for: somebody shares the queue."""
    letters = DeadLetter.objects.using(using).filter(
        state=State.DEAD, reason=DeadLetter.Reason.UNKNOWN_TYPE
    )
    newest = letters.order_by("-pk").values_list("group", "type", "source")[:COUNTED]
    strange: dict[str, Counter[tuple[str, str]]] = {}
    for group, event_type, source in newest:
        if not handlers.for_type(event_type, group):
            strange.setdefault(group, Counter())[event_type, source] += 1
    for group, found in sorted(strange.items()):
        shown = ", ".join(f"{kind} of {source}" for (kind, source), _ in found.most_common(NAMED))
        yield Finding(
            level=Level.WARNING,
            id="inbox.strangers",
            title=f"Group {group!r} gets events that no handler of it asked for",
            text=f"{counted(found.total(), 'dead letter')}: {shown}.",
            hint="If another service consumes from this queue as well, each gets a part of what "
            "the other should get: give each its own OUTBOX['SOURCE'], INBOX['GROUP'] or "
            "QUEUE_PREFIX. If a handler was removed, unbind what it was for.",
            figures={"count": found.total()},
        )


def same_source(using: str) -> Iterator[Finding]:
    """Tell of messages that bear our own SOURCE, and are not in our log: another service has it."""
    conf = outbox_settings()
    newest = Receipt.objects.using(using).order_by("-pk").values_list("source", "message_id")
    # What is older than that may have been deleted from the log.
    since = instants.now() - conf.retention + LEEWAY if conf.retention is not None else None
    ids = {
        UUID(text)
        for source, text in newest[:LOOKED_AT]
        if source == conf.source
        and (made := time_of(text)) is not None
        and (since is None or made > since)
    }
    missing = ids - _in_logs(ids)
    if not missing:
        return
    yield Finding(
        level=Level.WARNING,
        id="inbox.source",
        title=f"Another service seems to have the SOURCE {conf.source!r}",
        text=f"{counted(len(missing), 'message bears', 'messages bear')} it among the newest "
        f"{LOOKED_AT} receipts, and this service has not emitted them, {min(missing)} for one.",
        hint="Give each service a SOURCE of its own, in OUTBOX: receivers tell messages apart by "
        "source and id. (After the log was restored from a backup this means nothing.)",
        figures={"count": len(missing)},
    )


def _in_logs(ids: set[UUID]) -> set[UUID]:
    """Return which messages are in a log of ours: that of the outbox, or another that there is."""
    home = write_database()
    found: set[UUID] = set()
    for alias in (home, *(each for each in connections if each != home)):
        if left := ids - found:
            with suppress(DatabaseError) if alias != home else nullcontext(), atomic(using=alias):
                rows = Message.objects.using(alias).filter(message_id__in=left)
                found |= set(rows.values_list("message_id", flat=True))
    return found


def unhandled(using: str) -> Iterator[Finding]:
    """Tell which events the local broker drops, since nobody handles them."""
    if not any(local_relays()):
        return
    newest = Message.objects.using(using).order_by("-position")
    types = set(newest.values_list("type", "content_type", "topic")[:COUNTED])
    dropped = sorted(
        {
            event_type
            for event_type, content_type, topic in types
            if kind_of(content_type) is EVENT
            and not is_address(topic)
            and not handlers.for_type(event_type)
        }
    )
    if dropped:
        more = f" and {len(dropped) - NAMED} more" if len(dropped) > NAMED else ""
        yield Finding(
            level=Level.INFO,
            id="inbox.unhandled",
            title="Nobody handles some events",
            text=f"The local broker drops them, which counts as published: "
            f"{', '.join(dropped[:NAMED])}{more}.",
            hint="Write a handler in the handlers.py of an app in INSTALLED_APPS. What came before "
            "it, manage.py relay_replay publishes again.",
            figures={"types": len(dropped)},
        )
