"""What has become of a message: derived from the checkpoints, stored nowhere.

    pending ──▶ published
    skipped

A relay's cursor, its newest checkpoint in the lane, decides: a message that it covers is
published, unless the relay started from "now" and the message was there before.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from django.db import connections
from django.db.models import CharField, F, Func, Q, QuerySet, TextChoices, Value
from django.utils.translation import gettext_lazy as _

from outbox.fields import TransactionIdField
from outbox.models import Message
from relay import sql
from relay.conf import relay_settings
from relay.models import Checkpoint
from relay.snapshots import parse


class State(TextChoices):
    PENDING = "pending", _("pending")
    PUBLISHED = "published", _("published")
    SKIPPED = "skipped", _("before its start")


def cursors(using: str) -> list[Checkpoint]:
    """Return the newest checkpoint of every relay and lane, ordered by both. One statement."""
    return list(Checkpoint.objects.using(using).raw(sql.CURSORS))


def relay_names(found: Iterable[Checkpoint]) -> list[str]:
    """Return the relays of RELAYS, then those that only have checkpoints."""
    return list(dict.fromkeys([*relay_settings(), *(cursor.relay for cursor in found)]))


def states(
    positions: Sequence[int], relays: Sequence[str], using: str
) -> Mapping[int, dict[str, State]]:
    """Return the state of each message for each relay, by position. One statement."""
    columns = [StateOf(relay) for relay in relays]
    rows = Message.objects.using(using).filter(pk__in=positions).values_list("pk", *columns)
    return {
        position: dict(zip(relays, map(State, values), strict=True)) for position, *values in rows
    }


class StateOf(Func):
    """The State of a message for one relay, as an expression on messages."""

    output_field = CharField()

    def __init__(self, relay: str, **extra: Any) -> None:
        super().__init__(F("lane"), F("transaction_id"), F("position"), **extra)
        self.relay = relay

    def as_postgresql(
        self, compiler: Any, connection: Any, **_: Any
    ) -> tuple[str, tuple[str, ...]]:
        columns = [compiler.compile(source)[0] for source in self.get_source_expressions()]
        names = dict(zip(("lane", "transaction_id", "position"), columns, strict=True))
        covers, skips = conditions(connection.vendor, **names)
        statement = sql.STATE.format(covers=covers, skips=skips, lane=names["lane"])
        return statement, (self.relay, self.relay)

    def as_sqlite(self, compiler: Any, connection: Any, **_: Any) -> tuple[str, tuple[str, ...]]:
        return self.as_postgresql(compiler, connection)


def conditions(vendor: str, **names: str) -> tuple[str, str]:
    """Return the SQL for "checkpoint c covers the message" and "first checkpoint c skips it"."""
    if vendor == "postgresql":
        return sql.PG_COVERS.format(**names), sql.PG_SKIPS.format(**names)
    return sql.SQLITE_COVERS.format(**names), sql.SQLITE_SKIPS.format(**names)


def pending(queryset: QuerySet[Message], found: Sequence[Checkpoint]) -> QuerySet[Message]:
    """Return the messages that a relay has yet to publish; `found` are the relay's cursors.

    Every condition is a range of an index that starts with the lane, so the cost is that of the
    pending messages, not of the published ones.
    """
    condition = _unread_lanes([cursor.lane for cursor in found])
    vendor = connections[queryset.db].vendor
    for cursor in found:
        condition |= _behind(cursor) if vendor == "postgresql" else _above(cursor)
    return queryset.filter(condition)


def published(
    queryset: QuerySet[Message], relay: str, found: Sequence[Checkpoint]
) -> QuerySet[Message]:
    """Return the messages that a relay has published; `found` are the relay's cursors.

    They are dense up to the highest position that a cursor can have published, so a walk by
    position from there finds them at once, however much is pending above.
    """
    # Rows that a floor sees were there before `sequence` was read; those of the cursor's own
    # window are published in the order of their positions, up to its own.
    highest = max((max(cursor.position, cursor.sequence) for cursor in found), default=0)
    return queryset.alias(state=StateOf(relay)).filter(
        position__lte=highest, state=Value(State.PUBLISHED.value)
    )


def _behind(cursor: Checkpoint) -> Q:
    """Return the condition for PostgreSQL: not seen by the ceiling, or left over in its window."""
    condition = _unseen(cursor.lane, cursor.ceiling)
    if not cursor.complete:
        condition |= _unseen(cursor.lane, cursor.floor) & Q(position__gt=cursor.position)
    return condition


def _unseen(lane: int, text: str) -> Q:
    snapshot = parse(text)
    condition = Q(lane=lane, transaction_id__gte=TransactionId(snapshot.xmax))
    if snapshot.in_flight:
        flying = [TransactionId(xid) for xid in sorted(snapshot.in_flight)]
        condition |= Q(lane=lane, transaction_id__in=flying)
    return condition


def _above(cursor: Checkpoint) -> Q:
    """Return the condition for SQLite, where position order is commit order."""
    return Q(lane=cursor.lane, position__gt=cursor.position)


def _unread_lanes(read: list[int]) -> Q:
    """Return a condition for all lanes but these, as ranges: an index cannot find "not in"."""
    bounds = [-1, *sorted(read)]
    condition = Q(lane__gt=bounds[-1])
    for low, high in pairwise(bounds):
        if high - low > 1:
            condition |= Q(lane__gt=low, lane__lt=high)
    return condition


class TransactionId(Value):
    """A transaction id to compare with; PostgreSQL compares xid8 with nothing but xid8."""

    def __init__(self, value: int) -> None:
        super().__init__(value, output_field=TransactionIdField())

    def as_postgresql(self, compiler: Any, connection: Any, **_: Any) -> tuple[str, list[Any]]:
        return "%s::xid8", [str(self.value)]
