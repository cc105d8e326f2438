"""How far whoever answers has come: the newest of what it has said, as long as nobody has ended it.

It is what somebody says, and nothing follows from it. So it is a part of the request that is
written over, with one statement, and no row that stays.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Q

from outbox.database import instants
from outbox.error_text import storable
from outbox.exceptions import InvalidEvent

MAX_TEXT = 255
"""Characters of what is said about progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a request has come: `done` of 1, None if nobody knows; what is said of it; when."""

    done: float | None
    text: str
    at: datetime


def check(done: object, text: object) -> None:
    """Raise InvalidEvent for what is no progress."""
    if done is not None and not is_share(done):
        raise InvalidEvent(f"progress is a number from 0 to 1, or None, not {done!r}")
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        raise InvalidEvent(f"progress says at most {MAX_TEXT} characters of text")
    if done is None and not text:
        raise InvalidEvent("progress is a number from 0 to 1, or a text, or both")


def is_share(value: object) -> bool:
    """Tell whether a value is a number from 0 to 1."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def note(request_id: str, event: object, at: datetime | None, *, using: str) -> bool:
    """Keep what somebody has said at a time about a pending request; tell whether it is the newest.

    What is no progress is left alone; so is what came late. A time that is still to come is now,
    lest nothing could be newer.
    """
    from outbox.models import Request  # noqa: PLC0415 - models are not loaded at import

    said = event if isinstance(event, dict) else {}
    done, text = said.get("done"), said.get("text")
    done = float(done) if done is not None and is_share(done) else None
    text = storable(text, MAX_TEXT) if isinstance(text, str) else ""
    try:
        wanted = UUID(request_id)
    except ValueError:
        return False
    if done is None and not text:
        return False
    now = instants.now()
    said_at = now if at is None else min(at, now)
    pending = Request.objects.using(using).filter(message_id=wanted, settlement__isnull=True)
    older = pending.filter(Q(progress_at__isnull=True) | Q(progress_at__lte=said_at))
    return bool(older.update(progress=done, progress_text=text, progress_at=said_at))
