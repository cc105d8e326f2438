"""How fast messages of a type come to a handler, and how long they take: of the newest receipts."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import QuerySet

from inbox.models import Receipt
from inbox.states import State
from outbox.database import instants
from outbox.message.ids import time_of
from outbox.models import Message
from outbox.producer.writing import write_database

SAMPLED = 1_000
"""Receipts that are looked at."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Messages in a second of late; the time that the slowest of twenty took to be handled."""

    rate: float | None = None
    p95: timedelta | None = None


UNKNOWN = Pace()


def of(receipts: QuerySet[Receipt]) -> Mapping[tuple[str, str], Pace]:
    """Return the pace by handler and type. Two statements, whatever there is; pass a bounded range.

    The time begins with that of a message in our log, else with that in its id, if it is a UUIDv7.
    """
    columns = receipts.values_list("handler", "type", "message_id", "state", "changed")
    rows = list(columns.order_by("-pk")[:SAMPLED])
    if not rows:
        return {}
    span = (instants.now() - min(changed for *_, changed in rows)).total_seconds()
    began = _times([message_id for _, _, message_id, _, _ in rows])
    counts: dict[tuple[str, str], int] = defaultdict(int)
    took: dict[tuple[str, str], list[timedelta]] = defaultdict(list)
    for handler, name, message_id, state, changed in rows:
        counts[handler, name] += 1
        if state == State.PROCESSED and (start := began.get(message_id)) is not None:
            took[handler, name].append(max(changed - start, timedelta(0)))
    return {
        place: Pace(count / max(span, 1.0), slowest_of_twenty(took[place]))
        for place, count in counts.items()
    }


def slowest_of_twenty(lengths: Sequence[timedelta]) -> timedelta | None:
    """Return the length that 95 % do not exceed (nearest rank); None of none."""
    ordered = sorted(lengths)
    return ordered[-(-95 * len(ordered) // 100) - 1] if ordered else None


def _times(message_ids: Iterable[str]) -> dict[str, datetime]:
    """Return when messages were emitted; a scheduled one, when it was due."""
    uuids = {each: found for each in message_ids if (found := _uuid(each)) is not None}
    times = {each: moment for each in uuids if (moment := time_of(each)) is not None}
    log = Message.objects.using(write_database())
    own = log.filter(message_id__in=set(uuids.values())).values_list("message_id", "time")
    return times | {str(pk): time for pk, time in own}


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
