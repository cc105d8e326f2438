"""What has become of a message: derived from the checkpoints, stored nowhere.

    pending ──▶ published
       ╰──────▶ parked, waiting, dead ──▶ published, discarded
    skipped

A relay's cursor, its newest checkpoint in the lane, decides: a message that it covers is
published, unless the relay started from "now" and the message was there before: the relay's
first checkpoint, whatever its lane, says so for all lanes. Or unless the relay has parked it.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from django.db import connections
from django.db.models import (
    CharField,
    F,
    Func,
    Max,
    Q,
    QuerySet,
    TextChoices,
    Value,
)
from django.db.models.lookups import Exact
from django.utils.translation import gettext_lazy as _

from outbox.database.fields import TransactionIdField
from outbox.filtering.qualifiers import Condition, Reach
from outbox.models import Message
from relay.conf import relay_settings
from relay.models import Checkpoint, Parked
from relay.snapshots import EMPTY, Snapshot, parse
from relay.sql import reports as sql
from relay.states import ParkedState


class State(TextChoices):
    PENDING = "pending", _("pending")
    PUBLISHED = "published", _("published")
    SKIPPED = "skipped", _("skipped")
    PARKED = ParkedState.PARKED.value, ParkedState.PARKED.label
    WAITING = ParkedState.WAITING.value, ParkedState.WAITING.label
    DEAD = ParkedState.DEAD.value, ParkedState.DEAD.label
    DISCARDED = ParkedState.DISCARDED.value, ParkedState.DISCARDED.label


OUT_OF_THE_FLOW = (State.PARKED, State.WAITING, State.DEAD, State.DISCARDED)
"""States that a parked message has, which the cursor has passed."""


def cursors(using: str) -> list[Checkpoint]:
    """Return the newest checkpoint of every relay and lane, ordered by both. One statement."""
    statement = sql.cursors(connections[using].vendor)
    return list(Checkpoint.objects.using(using).raw(statement))


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
        state = sql.state(connection.vendor, **names)
        return state, (self.relay,) * state.count("%s")

    def as_sqlite(self, compiler: Any, connection: Any, **_: Any) -> tuple[str, tuple[str, ...]]:
        return self.as_postgresql(compiler, connection)


def is_pending(relay: str) -> Q:
    """Return the condition that a relay has yet to publish a message; no index finds it."""
    return Q(Exact(StateOf(relay), State.PENDING.value))


def selected(
    state: State, relay: str, found: Iterable[Checkpoint], limit: int, using: str
) -> Condition:
    """Return the condition that a message is in a state for a relay; of parked ones, the newest.

    `found` are cursors, of other relays as well.
    """
    own = [cursor for cursor in found if cursor.relay == relay]
    if state in OUT_OF_THE_FLOW:
        return Condition(out_of_the_flow(relay, state, limit, using), Reach.PART)
    if state is State.PUBLISHED:
        return Condition(is_published(relay, own, using), Reach.PART)
    assert state is State.PENDING
    positions = few_pending(Message.objects.using(using).all(), own, limit)
    if positions is None:
        return Condition(is_pending(relay))
    return Condition(Q(pk__in=positions), Reach.PART)


def out_of_the_flow(relay: str, state: State, limit: int, using: str) -> Q:
    """Return the condition that a relay has parked a message, which is in a state: the newest."""
    rows = Parked.objects.using(using).filter(relay=relay, state=state.value)
    newest = rows.order_by("-position").values_list("position", flat=True)[:limit]
    return Q(pk__in=list(newest))


def few_pending(
    queryset: QuerySet[Message], found: Sequence[Checkpoint], limit: int
) -> list[int] | None:
    """Return the positions of what a relay has yet to publish; None if they are more than `limit`.

    `found` are the relay's cursors.
    """
    positions = some_pending(queryset, found, limit + 1)
    return None if len(positions) > limit else positions


def some_pending(queryset: QuerySet[Message], found: Sequence[Checkpoint], limit: int) -> list[int]:
    """Return the positions of what a relay has yet to publish, at most `limit` of them.

    The cost is that of the pending messages, not of the published ones: each part is one range of
    one index, in the order of that index, and stops at the limit. Asked for everything at once,
    the planner may prefer to walk the whole table.
    """
    started = _start(found, queryset.db)
    parts = [] if started else _unread(queryset, [cursor.lane for cursor in found])
    for cursor in [*found, *(_yet_to_read(found, started, queryset.db) if started else ())]:
        parts += _behind(queryset.filter(lane=cursor.lane), cursor)
    return _at_most(limit, parts)


def pending_in_lane(lane: int, found: Sequence[Checkpoint], limit: int, using: str) -> list[int]:
    """Return the positions of what a relay has yet to publish in one lane, at most `limit` of them.

    `found` are the relay's cursors, of whatever lanes. Asked for other lanes as well, the planner
    would walk the whole table to find that nothing is in two lanes.
    """
    log = Message.objects.using(using).filter(lane=lane)
    cursor = next((each for each in found if each.lane == lane), None)
    if cursor is None and (start := _start(found, using)) is not None:
        cursor = _as_started(start, lane)
    return _at_most(limit, _behind(log, cursor) if cursor else [log.order_by("position")])


def published(
    queryset: QuerySet[Message], relay: str, found: Sequence[Checkpoint]
) -> QuerySet[Message]:
    """Return the messages that a relay has published; `found` are the relay's cursors."""
    return queryset.filter(is_published(relay, found, queryset.db))


def is_published(relay: str, found: Sequence[Checkpoint], using: str) -> Q:
    """Return the condition that a relay has published a message; `found` are its cursors.

    They are dense between the bounds of what it can have published, so a walk by position finds
    them at once, however much is pending above or was there before the relay started.
    """
    # Rows that a floor sees were there before `sequence` was read; those of the cursor's own
    # window are published in the order of their positions, up to its own.
    highest = max((max(cursor.position, cursor.sequence) for cursor in found), default=0)
    start = _start(found, using)
    lowest = 0 if start is None else _lowest(start, using)
    condition = Exact(StateOf(relay), State.PUBLISHED.value)
    return Q(condition, position__range=(lowest, highest))


def _behind(lane: QuerySet[Message], cursor: Checkpoint) -> list[QuerySet[Message]]:
    """Return what the ceiling does not see, and what is left of its window."""
    if connections[lane.db].vendor != "postgresql":  # position order is commit order
        return [lane.filter(position__gt=cursor.position)]
    floor, ceiling = parse(cursor.floor), parse(cursor.ceiling)
    unseen = lane.filter(transaction_id__gte=TransactionId(ceiling.xmax))
    parts = [unseen.order_by("transaction_id", "position")]
    # In no order: one id alone would leave the order of positions, and an index for just that.
    if ceiling.in_flight:
        parts.append(lane.filter(transaction_id__in=_ids(ceiling)))
    if not cursor.complete:
        above = max(cursor.position, cursor.window_start)
        new = lane.filter(transaction_id__gte=TransactionId(floor.xmax), position__gt=above)
        parts.append(new.order_by("position"))
        landed = Q(transaction_id__in=_ids(floor), position__gt=cursor.position)
        parts += [lane.filter(landed)] if floor.in_flight else []
    return parts


def _start(found: Sequence[Checkpoint], using: str) -> Checkpoint | None:
    """Return the first checkpoint of a relay, given its cursors, if it started from "now"."""
    if not found:
        return None
    chains = Checkpoint.objects.using(using).filter(relay=found[0].relay, previous=0)
    first = chains.order_by("pk").first()
    return None if first is None or _from_the_beginning(first) else first


def _from_the_beginning(first: Checkpoint) -> bool:
    return first.floor == EMPTY or (first.floor == "" and first.window_start == 0)


def _lowest(start: Checkpoint, using: str) -> int:
    """Return a position that nothing stands below of what was not there at a relay's start.

    Ids above the start's own have positions above its `sequence` (see PostgreSQLLog). The others
    that its floor had not seen are few, and looked up.
    """
    connection = connections[using]
    if connection.vendor != "postgresql":
        return start.window_start + 1
    floor = parse(start.floor)
    parameters: dict[str, Any] = {
        "lanes": _lanes(using),
        "first": str(floor.xmax),
        "last": str(start.transaction_id),
        "in_flight": [str(xid) for xid in sorted(floor.in_flight)],
    }
    with connection.cursor() as cursor:
        cursor.execute(sql.PG_EARLIEST, parameters)
        [(earliest,)] = cursor.fetchall()
    above = start.sequence + 1
    return above if earliest is None else min(above, earliest)


def _lanes(using: str) -> list[int]:
    """Return the lanes in which there may be messages."""
    highest = Message.objects.using(using).aggregate(highest=Max("lane"))["highest"]
    return list(range(0 if highest is None else highest + 1))


def _yet_to_read(found: Sequence[Checkpoint], start: Checkpoint, using: str) -> list[Checkpoint]:
    """Return cursors of the lanes without one, as if they had come as far as the start."""
    read = {cursor.lane for cursor in found}
    return [_as_started(start, lane) for lane in _lanes(using) if lane not in read]


def _as_started(start: Checkpoint, lane: int) -> Checkpoint:
    """Return the cursor of a lane in which a relay has published nothing since its start."""
    return Checkpoint(
        lane=lane,
        floor=start.floor,
        ceiling=start.floor,
        position=start.window_start,
        complete=True,
    )


def _unread(queryset: QuerySet[Message], read: list[int]) -> list[QuerySet[Message]]:
    """Return what is in other lanes than these, as ranges: an index cannot find "not in"."""
    page = queryset.order_by("lane", "position")
    bounds = [-1, *sorted(read)]
    gaps = [(low, high) for low, high in pairwise(bounds) if high - low > 1]
    return [
        page.filter(lane__gt=bounds[-1]),
        *(page.filter(lane__gt=low, lane__lt=high) for low, high in gaps),
    ]


def _at_most(limit: int, parts: list[QuerySet[Message]]) -> list[int]:
    """Return the positions of all parts, at most `limit`, in one statement."""
    cut = [part.values_list("position", flat=True)[:limit] for part in parts]
    if connections[parts[0].db].features.supports_slicing_ordering_in_compound:
        found = set(cut[0].union(*cut[1:])[:limit])
    else:
        found = {position for part in cut for position in part}
    return sorted(found)[:limit]


def _ids(snapshot: Snapshot) -> list[Any]:
    return [TransactionId(xid) for xid in sorted(snapshot.in_flight)]


class TransactionId(Value):
    """A transaction id to compare with; PostgreSQL compares xid8 with nothing but xid8."""

    def __init__(self, value: int) -> None:
        super().__init__(value, output_field=TransactionIdField())

    def as_postgresql(self, compiler: Any, connection: Any, **_: Any) -> tuple[str, list[Any]]:
        return "%s::xid8", [str(self.value)]
