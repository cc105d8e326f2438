"""How one request stands, as whoever asked it by HTTP reads it."""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models import Func, QuerySet

from outbox.api.problems import DOCS
from outbox.database.fields import InstantField
from outbox.exceptions import InvalidEvent, UndecodableMessage
from outbox.message import codec
from outbox.message.event_types import registry
from outbox.models import Reply, Request
from outbox.replies.asked import event_of
from outbox.replies.patience import answer_times, pause
from outbox.states import PENDING, Outcome

ERRORS = {
    Outcome.FAILED: ("request-failed", "The request has failed"),
    Outcome.EXPIRED: ("request-expired", "Its deadline has passed"),
    Outcome.CANCELLED: ("request-cancelled", "It was cancelled"),
}
"""The problems of those that have ended without a result, by outcome."""
UNREADABLE = ("reply-unreadable", "The reply cannot be read")


@dataclass(frozen=True, slots=True)
class Standing:
    """A request as it is at a time by the clock of its database, with the replies that count."""

    request: Request
    now: datetime
    replies: list[Reply] = field(default_factory=list)

    @property
    def id(self) -> str:
        return str(self.request.message_id)

    @property
    def state(self) -> str:
        found = getattr(self.request, "settlement", None)
        return PENDING if found is None else Outcome(found.outcome).value

    @property
    def is_pending(self) -> bool:
        return self.state == PENDING

    def retry_after(self) -> int:
        """Return after how many seconds it is worth asking again."""
        row = self.request
        times = answer_times(row.type, row._state.db or "default")
        return pause(times, _seconds(self.now - row.asked_at), _seconds(row.deadline - self.now))

    def document(self) -> dict[str, Any]:
        """Return what is told of it; `accepted_schema` describes it."""
        row, end = self.request, getattr(self.request, "settlement", None)
        results, error = [], self._error()
        for each in self.replies:
            data, readable = _data(each)
            if not readable:
                error = _problem(*UNREADABLE, "It does not have the form of its type.")
            received = _instant(each.received_at)
            results.append(
                {"type": each.type, "version": each.version, "received_at": received, "data": data}
            )
        return {
            "id": self.id,
            "type": row.type,
            "state": self.state,
            "asked_at": _instant(row.asked_at),
            "deadline": _instant(row.deadline),
            "settled_at": _instant(end.settled_at) if end else None,
            "progress": self._progress(),
            "result": results if row.wanted > 1 else next(iter(results), None),
            "error": error,
        }

    def _progress(self) -> dict[str, Any] | None:
        row = self.request
        if row.progress_at is None:
            return None
        said = {"done": row.progress, "text": row.progress_text}
        return said | {"at": _instant(row.progress_at)}

    def _error(self) -> dict[str, str] | None:
        end = getattr(self.request, "settlement", None)
        told = ERRORS.get(Outcome(end.outcome)) if end else None
        return _problem(*told, end.reason or f"It is {self.state}.") if end and told else None


def read(rows: QuerySet[Request], request_id: str) -> Standing | None:
    """Return how the request of an id stands that is among some; None if there is none."""
    try:
        wanted = UUID(request_id)
    except ValueError:
        return None
    rows = rows.filter(message_id=wanted).select_related("settlement")
    if connections[rows.db].vendor == "postgresql":
        clock = Func(function="clock_timestamp", output_field=InstantField())
        rows = rows.annotate(database_now=clock)
    row = rows.first()
    if row is None:
        return None
    now = getattr(row, "database_now", None) or datetime.now(UTC)
    if not hasattr(row, "settlement") and row.wanted == 1:
        return Standing(row, now)
    counted = Reply.objects.using(rows.db).filter(request=row, number__isnull=False)
    return Standing(row, now, list(counted.order_by("number")))


def etag_of(document: dict[str, Any]) -> str:
    """Return the ETag of a document: it changes with what is told, and with nothing else."""
    text = json.dumps(document, sort_keys=True)
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def _data(reply: Reply) -> tuple[Any, bool]:
    """Return what a reply says, as far as its class knows it, and whether it can be read."""
    try:
        event = event_of(reply)
        if isinstance(event, bytes):
            return None, not event
        event_type = registry.find(reply.type, reply.version)
        if event_type is None or event_type.schema is None:
            return event, True
        return json.loads(codec.encode(event, event_type)), True
    except (UndecodableMessage, InvalidEvent):
        return None, False


def _problem(name: str, title: str, detail: str) -> dict[str, str]:
    return {"type": DOCS + name, "title": title, "detail": detail}


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _seconds(length: timedelta) -> float:
    return length / timedelta(seconds=1)
