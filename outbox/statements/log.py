"""What the log has in a range of time: totals and ids. Memory is bounded by pages and buckets."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox.message.kinds import KINDS
from outbox.models import Message
from outbox.statements import sql
from outbox.statements.buckets import bound
from outbox.statements.topics import regex_of, selects
from outbox.statements.totals import Total, total_up

PAGE = 5000
"""Ids that are read at once."""
RESERVED = sorted({kind.type for kind in KINDS if kind.type})
"""Types of what is no event, which no statement tells of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Messages of one source, by the times of their ids: from `since` until before `until`.

    Those of which the type is selected by one of `types` and one of `handles`, and the topic by one
    of `topics`.
    """

    since: int
    until: int
    source: str
    types: Collection[str]
    handles: Collection[str]
    topics: Collection[str]


def totals(wanted: Range, width: int, using: str) -> list[Total]:
    """Return count and digest of each type and bucket, in order. One statement on PostgreSQL."""
    connection = connections[using]
    if connection.vendor != "postgresql":
        return total_up(_rows(wanted, connection), width)
    with connection.cursor() as cursor:
        cursor.execute(sql.PG_TOTALS, _parameters(wanted, connection) | {"width": width})
        found = [Total(*row) for row in cursor.fetchall()]
    return [each for each in found if _is_wanted(wanted, each.type)]


def ids(wanted: Range, using: str) -> Iterator[str]:
    """Yield message ids in order, page by page."""
    for message_id, _ in _rows(wanted, connections[using]):
        yield str(message_id)


def known(message_ids: Collection[str], using: str) -> set[str]:
    """Return which of these ids are in the log, of whatever type they are."""
    wanted = [UUID(each) for each in message_ids]
    found: set[str] = set()
    for start in range(0, len(wanted), 500):
        rows = Message.objects.using(using).filter(message_id__in=wanted[start : start + 500])
        found.update(map(str, rows.values_list("message_id", flat=True)))
    return found


def _rows(wanted: Range, connection: BaseDatabaseWrapper) -> Iterator[tuple[UUID, str]]:
    is_pg = connection.vendor == "postgresql"
    values = _parameters(wanted, connection)
    after: Any = None
    while True:
        if after is None:
            # Nothing has this id: its version is 0.
            after = values["low"] if is_pg else ""
        with connection.cursor() as cursor:
            statement = sql.PG_IDS if is_pg else sql.SQLITE_IDS
            cursor.execute(statement, values | {"after": after, "limit": PAGE})
            rows = cursor.fetchall()
        for message_id, event_type in rows:
            found = message_id if isinstance(message_id, UUID) else UUID(message_id)
            if event_type not in RESERVED:
                yield found, event_type
        if len(rows) < PAGE:
            return
        after = rows[-1][0]


def _parameters(wanted: Range, connection: BaseDatabaseWrapper) -> dict[str, Any]:
    low, high = bound(wanted.since), bound(wanted.until)
    is_pg = connection.vendor == "postgresql"
    found: dict[str, Any] = {
        "low": low if is_pg else low.hex,
        "high": high if is_pg else high.hex,
        "source": wanted.source,
        "types": regex_of(wanted.types),
        "handles": regex_of(wanted.handles),
        "topics": regex_of(wanted.topics),
    }
    return found | {"all": "#" in wanted.topics} if is_pg else found


def _is_wanted(wanted: Range, type_: str) -> bool:
    chosen = selects(wanted.types, type_) and selects(wanted.handles, type_)
    return chosen and type_ not in RESERVED
