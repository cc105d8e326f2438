"""What a group has had of a sender in a range of time: totals, and message by message."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from inbox.statements import sql
from inbox.states import CLOSED
from outbox.statements.buckets import MINUTE, bound
from outbox.statements.comparing import SETTLED
from outbox.statements.topics import regex_of, selects
from outbox.statements.totals import Total, total_up

PAGE = 5000
"""Messages that are read at once."""
WIDEST = 10 * MINUTE
"""Buckets that are wider may have more ids than fit into one text of the server."""
MOST_BUCKETS = 1500
"""Buckets that are looked at one by one."""
MOST_TWICE = 200
"""Messages of a range that were handled twice, at most; more are told when these are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Had:
    """What a group has had: of one source, of types that one of `types` selects, by its handlers.

    By the times of the ids, from `since` until before `until`.
    """

    since: int
    until: int
    source: str
    types: Collection[str]
    group: str
    handlers: Sequence[str]


def totals(had: Had, width: int, using: str) -> list[Total]:
    """Return count and digest of what is settled, by type and bucket."""
    connection = connections[using]
    if connection.vendor != "postgresql":
        settled = ((UUID(i), kind) for i, kind, state in _states(had, using) if state == SETTLED)
        return total_up(settled, width)
    if width <= WIDEST and (had.until - had.since) // width <= MOST_BUCKETS:
        found = _by_bucket(had, width, connection)
    else:
        found = _settled(_parameters(had, connection), width, connection)
    return [each for each in found if selects(had.types, each.type)]


def _by_bucket(had: Had, width: int, connection: BaseDatabaseWrapper) -> list[Total]:
    """Return the totals of all types; what is not plain is looked at message by message."""
    starts = range(had.since, had.until, width)
    values = _parameters(had, connection) | {
        "starts": list(starts),
        "lows": [str(bound(start)) for start in starts],
        "highs": [str(bound(start + width)) for start in starts],
    }
    with connection.cursor() as cursor:
        cursor.execute(sql.PG_TOTALS, values)
        rows = cursor.fetchall()
    odd = {start for start, _, _, digest in rows if digest is None}
    found = [Total(*row) for row in rows if row[0] not in odd]
    for start in odd:
        one = {"low": str(bound(start)), "high": str(bound(start + width))}
        found += _settled(values | one, width, connection)
    return sorted(found)


def _settled(values: dict[str, Any], width: int, connection: BaseDatabaseWrapper) -> list[Total]:
    with connection.cursor() as cursor:
        cursor.execute(sql.PG_SETTLED, values | {"width": width})
        return [Total(*row) for row in cursor.fetchall()]


def states(had: Had, using: str, *, most: int) -> dict[str, str] | None:
    """Return the states of messages by id; None if there are more than `most`."""
    found: dict[str, str] = {}
    for message_id, _, state in _states(had, using):
        if len(found) == most:
            return None
        found[message_id] = state
    return found


def settled(had: Had, using: str) -> list[str]:
    """Return the ids of all messages that are settled."""
    return [message_id for message_id, _, state in _states(had, using) if state == SETTLED]


def twice(had: Had, using: str) -> dict[str, str]:
    """Return the types, by id, of messages that a handler has handled twice."""
    connection = connections[using]
    values = _parameters(had, connection) | {"limit": MOST_TWICE}
    is_pg = connection.vendor == "postgresql"
    statement = sql.PG_TWICE if is_pg else sql.sqlite_twice(len(had.handlers))
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        rows = cursor.fetchall()
    return {message_id: kind for message_id, kind in rows if selects(had.types, kind)}


def _states(had: Had, using: str) -> Iterator[tuple[str, str, str]]:
    """Yield id, type and state of messages in the order of their ids, page by page."""
    connection = connections[using]
    values = _parameters(had, connection)
    is_pg = connection.vendor == "postgresql"
    statement = sql.PG_STATES if is_pg else sql.sqlite_states(len(had.handlers), len(CLOSED))
    after = ""
    while True:
        with connection.cursor() as cursor:
            cursor.execute(statement, values | {"after": after, "limit": PAGE})
            rows = cursor.fetchall()
        yield from rows
        if len(rows) < PAGE:
            return
        after = rows[-1][0]


def _parameters(had: Had, connection: BaseDatabaseWrapper) -> dict[str, Any]:
    found: dict[str, Any] = {
        "low": str(bound(had.since)),
        "high": str(bound(had.until)),
        "source": had.source,
        "types": regex_of(had.types),
        "group": had.group,
    }
    closed = [state.value for state in CLOSED]
    if connection.vendor == "postgresql":
        return found | {"handlers": list(had.handlers), "closed": closed}
    found |= {f"handler{number}": name for number, name in enumerate(had.handlers)}
    return found | {f"closed{number}": state for number, state in enumerate(closed)}
