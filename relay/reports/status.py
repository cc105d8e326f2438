"""How far each relay is in each lane: backlog, age, rate; by index, and bounded."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from django.db import connections
from django.db.models import Count, Min

from outbox.conf import outbox_settings
from outbox.database.clock import database_now
from outbox.database.limits import in_index_order
from outbox.models import Message
from relay.conf import relay_settings
from relay.models import Checkpoint
from relay.parking.store import open_rows
from relay.reports.state import cursors, pending_in_lane
from relay.sql.reports import PG_ELSEWHERE
from relay.sql.retention import LANES_OF_LOG
from relay.states import ParkedState

COUNTED = 10_000
"""Pending messages of a lane that are counted at most; more are more than that."""

STALLED_SECONDS = 30.0
"""A lane with something pending, and without a checkpoint, for longer than this is stalled."""

RATE_SECONDS = 60.0
RATE_CHECKPOINTS = 100
"""The rate is that of the last minute, or of so many checkpoints if they are younger."""

AGED = 200
"""Of a large backlog, the first messages, among which the oldest is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneStatus:
    """One relay in one lane. Ages are in seconds, the rate is messages per second.

    `backlog` counts to COUNTED, and one more stands for more; None if it cannot be told, because
    the cursor belongs to another database cluster (`moved`). `parked`, `waiting` and `dead` count
    what has left the flow and is still owed. `published_by` wrote the last checkpoint.
    """

    relay: str
    lane: int
    configured: bool
    backlog: int | None
    oldest_pending: float | None
    last_checkpoint: float | None
    rate: float
    parked: int = 0
    waiting: int = 0
    dead: int = 0
    moved: bool = False
    published_by: str = ""

    @property
    def more(self) -> bool:
        """Whether the backlog is larger than what was counted."""
        return self.backlog is not None and self.backlog > COUNTED

    @property
    def stalled(self) -> bool:
        """Whether something is pending that has not moved for a while."""
        return (
            (self.oldest_pending or 0) > STALLED_SECONDS
            and (self.last_checkpoint is None or self.last_checkpoint > STALLED_SECONDS)
            and bool(self.backlog)
        )

    @property
    def in_the_way(self) -> str:
        """What keeps this lane from being published, in words; "" if nothing does."""
        if not self.configured:
            return ""
        if self.moved:
            return "its cursor belongs to another database cluster"
        if self.stalled:
            return f"pending for {self.oldest_pending:.0f} s, and nothing moves"
        if self.dead or self.parked or self.waiting:
            return f"{self.parked} parked, {self.dead} dead, {self.waiting} wait behind them"
        return ""


def lanes(
    using: str, relay: str | None = None, *, most_parked: int | None = None
) -> list[LaneStatus]:
    """Return the status of every relay, or one, that is configured or has checkpoints.

    A few statements for each lane, whatever the size of log and history. What is parked is counted
    to its end, unless `most_parked` says how many rows of a relay are looked at.
    """
    with in_index_order(using):
        return _lanes(using, relay, most_parked)


def _lanes(using: str, relay: str | None, most_parked: int | None) -> list[LaneStatus]:
    found = {(each.relay, each.lane): each for each in cursors(using)}
    names = list(dict.fromkeys([*relay_settings(), *(name for name, _ in found)]))
    every = sorted({*range(outbox_settings().LANES), *_lanes_of_log(using)})
    now, elsewhere = database_now(using), _moved(using, found.values())
    chains = {name: [each for each in found.values() if each.relay == name] for name in names}
    owed = parked_counts(using) if most_parked is None else _some_parked(using, names, most_parked)
    return [
        _with_parked(
            _status(using, name, lane, chains[name], now, elsewhere), owed.get((name, lane), {})
        )
        for name in names
        if relay in (None, name)
        for lane in sorted({*every, *(lane for owner, lane in found if owner == name)})
    ]


def _with_parked(status: LaneStatus, counts: Mapping[str, int]) -> LaneStatus:
    return replace(
        status,
        parked=counts.get(ParkedState.PARKED, 0),
        waiting=counts.get(ParkedState.WAITING, 0),
        dead=counts.get(ParkedState.DEAD, 0),
    )


def parked_counts(using: str) -> dict[tuple[str, int], dict[str, int]]:
    """Return how many messages are parked, waiting and dead, by relay and lane. One statement."""
    counts: dict[tuple[str, int], dict[str, int]] = {}
    rows = open_rows(using).values_list("relay", "lane", "state").annotate(count=Count("pk"))
    for relay, lane, state, count in rows:
        counts.setdefault((relay, lane), {})[state] = count
    return counts


def _some_parked(
    using: str, names: Iterable[str], most: int
) -> dict[tuple[str, int], dict[str, int]]:
    """Return the same of some messages of each relay. A statement for each, in the index' order."""
    counts: dict[tuple[str, int], dict[str, int]] = {}
    for relay in names:
        rows = open_rows(using).filter(relay=relay).order_by("key", "position")
        some = Counter(rows.values_list("lane", "state")[:most])
        for (lane, state), count in some.items():
            counts.setdefault((relay, lane), {})[state] = count
    return counts


def _status(
    using: str,
    relay: str,
    lane: int,
    chains: list[Checkpoint],
    now: datetime,
    elsewhere: Collection[int],
) -> LaneStatus:
    cursor = next((each for each in chains if each.lane == lane), None)
    conf = relay_settings().get(relay)
    moved = cursor is not None and cursor.pk in elsewhere
    log = Message.objects.using(using).filter(lane=lane)
    owes = conf is None or conf.START == "beginning" or bool(chains)
    pending: list[int] = []
    if owes and not moved:
        # A lane without a chain is where the relay has started, which any chain of it leads to.
        pending = pending_in_lane(lane, chains, COUNTED + 1, using)
    oldest = log.filter(pk__in=pending[:AGED]).aggregate(at=Min("time"))["at"] if pending else None
    return LaneStatus(
        relay=relay,
        lane=lane,
        configured=conf is not None,
        backlog=None if moved else len(pending),
        oldest_pending=_age(oldest, now),
        last_checkpoint=_age(cursor.created if cursor else None, now),
        rate=_rate(using, relay, lane, now) if cursor else 0.0,
        moved=moved,
        published_by=cursor.published_by if cursor else "",
    )


def _rate(using: str, relay: str, lane: int, now: datetime) -> float:
    chain = Checkpoint.objects.using(using).filter(relay=relay, lane=lane).order_by("-previous")
    newest = chain.values_list("created", "count")[:RATE_CHECKPOINTS]
    ages = [((now - created).total_seconds(), count) for created, count in newest]
    recent = [(age, count) for age, count in ages if age <= RATE_SECONDS]
    full = len(recent) == RATE_CHECKPOINTS
    span = max(recent[-1][0], 1.0) if full else RATE_SECONDS
    return round(sum(count for _, count in recent) / span, 1)


def _age(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else max(0.0, round((now - moment).total_seconds(), 3))


def _moved(using: str, found: Iterable[Checkpoint]) -> set[int]:
    """Return which checkpoints were written in another database cluster; SQLite has none."""
    if connections[using].vendor != "postgresql":
        return set()
    with connections[using].cursor() as cursor:
        cursor.execute(PG_ELSEWHERE, {"ids": [each.pk for each in found]})
        return {row[0] for row in cursor.fetchall()}


def _lanes_of_log(using: str) -> list[int]:
    with connections[using].cursor() as cursor:
        cursor.execute(LANES_OF_LOG)
        return [row[0] for row in cursor.fetchall()]
