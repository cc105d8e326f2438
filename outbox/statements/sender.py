"""The sender's side: close buckets, keep their totals, and say what is to be stated next."""

import logging
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple

from django.db import connections
from django.db.models import Max
from django.db.models.functions import Now

from outbox.conf import outbox_settings
from outbox.database.clock import database_now
from outbox.failpoints import hit
from outbox.models import Break, BucketTotal, GroupTopic, Reconciliation, ToState
from outbox.statements import closing, log, measures
from outbox.statements.buckets import HOUR, ceiling, floor, joined, milliseconds, spans
from outbox.statements.conf import PeerSettings
from outbox.statements.topics import Topic, pieces
from outbox.statements.totals import Total, raised
from outbox.states import BreakState

logger = logging.getLogger("outbox")

UNRESOLVED = (BreakState.IN_TRANSIT, BreakState.OPEN)
BREAKS_LOOKED_AT = 5000
"""Breaks whose buckets one round states again, at most."""
PATIENCE = timedelta(seconds=10)
"""What has got no answer is stated again after three rounds, but not before this time."""
AT_ONCE = 1000
"""Rows that are written with one statement."""
CLOSE_SECONDS = 1.0
"""For how long one round closes buckets, those of an hour at least; the next one goes on."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a group should have: by its settings here, and by what it has told."""

    group: str
    peer: PeerSettings
    topics: tuple[Topic, ...]
    handles: tuple[str, ...]
    using: str

    @classmethod
    def of(cls, row: Reconciliation, peer: PeerSettings, using: str) -> "Expected":
        """Return what is known of a group now."""
        topics = tuple(topics_of(row.group, using))
        return cls(row.group, peer, topics, tuple(row.handles), using)

    def ranges(self, since: int, until: int, type_: str = "") -> Iterator[log.Range]:
        """Yield the parts of a range of time, each with what was bound then."""
        width = self.peer.bucket
        for first, last, topics in pieces(self.topics, since, until, width):
            yield log.Range(
                since=first,
                until=last,
                source=outbox_settings().source,
                types=[type_] if type_ else self.peer.TYPES,
                handles=self.handles,
                topics=topics,
            )

    def totals(self, since: int, until: int, width: int, type_: str = "") -> list[Total]:
        """Return the totals of a range; those of hours and days are digests of digests."""
        narrow = min(width, self.peer.bucket)
        found = [
            total
            for wanted in self.ranges(since, until, type_)
            for total in log.totals(wanted, narrow, self.using)
        ]
        return raised(found, width)

    def ids(self, since: int, until: int, type_: str) -> Iterator[str]:
        """Yield the ids of a range in order; it may begin and end within a bucket."""
        width = self.peer.bucket
        for wanted in self.ranges(floor(since, width), ceiling(until, width), type_):
            first, last = max(since, wanted.since), min(until, wanted.until)
            if first < last:
                yield from log.ids(
                    log.Range(
                        since=first,
                        until=last,
                        source=wanted.source,
                        types=wanted.types,
                        handles=wanted.handles,
                        topics=wanted.topics,
                    ),
                    self.using,
                )


def topics_of(group: str, using: str) -> Iterator[Topic]:
    """Yield what is known of the topics of a group."""
    rows = GroupTopic.objects.using(using).filter(group=group).order_by("topic")
    for row in rows:
        yield Topic(row.topic, row.begins, row.ends)


def locked(group: str, peer: PeerSettings, using: str) -> Reconciliation:
    """Return the row of a group, locked; it begins with the bucket that begins next."""
    rows = Reconciliation.objects.using(using)
    if not rows.filter(group=group).exists():
        begins = ceiling(milliseconds(database_now(using)), peer.bucket)
        new = Reconciliation(group=group, closed=begins, stated=begins)
        _note_look(new, closing.look(using))
        Reconciliation.objects.using(using).bulk_create([new], ignore_conflicts=True)
    if connections[using].features.has_select_for_update:
        rows = rows.select_for_update()
    row = rows.get(group=group)
    closed, stated = floor(row.closed, peer.bucket), floor(row.stated, peer.bucket)
    if (closed, stated) != (row.closed, row.stated):  # BUCKET was another
        row.closed, row.stated = closed, stated
        row.save(using=using, update_fields=["closed", "stated"])
    return row


class Closing(NamedTuple):
    """What one look has closed: buckets that have got late rows, and whether there is more."""

    late: list[int]
    more: bool


def close(row: Reconciliation, expected: Expected) -> Closing:
    """Close what can be closed, and keep its totals, for a second or so.

    In the running transaction, in which the row is locked. `row` is changed and saved.
    """
    using, width = expected.using, expected.peer.bucket
    now = closing.look(using)
    before = closing.Look(
        time=row.mark,
        xid=row.mark_xid,
        snapshot=row.snapshot,
        system=row.system,
        position=row.position,
    )
    late = closing.late(row, now, width, using)
    if len(late) >= closing.MOST_LATE:
        logger.warning(
            "%d buckets or more got messages after they were closed; others are not stated to "
            "group %s again: manage.py reconcile %s --since TIME compares them.",
            len(late),
            row.group,
            row.group,
        )
    until = max(row.closed, closing.closed_before(before, now, width, using))
    for first, last in joined(late, width):
        _keep(row.group, expected.totals(first, last, width), first, last, using)
    ends = time.monotonic() + CLOSE_SECONDS
    while row.closed < until:
        first, row.closed = row.closed, min(row.closed + HOUR, until)
        _keep(row.group, expected.totals(first, row.closed, width), first, row.closed, using)
        if time.monotonic() >= ends:
            break
    _note_look(row, now)
    row.save(
        using=using,
        update_fields=["closed", "mark", "mark_xid", "snapshot", "system", "position"],
    )
    hit("outbox.closed")
    return Closing(late, row.closed < until)


def _note_look(row: Reconciliation, look: closing.Look) -> None:
    row.mark, row.mark_xid, row.snapshot = look.time, look.xid, look.snapshot
    row.system, row.position = look.system, look.position


def _keep(group: str, totals: Iterable[Total], since: int, until: int, using: str) -> None:
    """Keep totals as new rows; where there is another one already, as its next revision."""
    rows = BucketTotal.objects.using(using).filter(group=group, start__gte=since, start__lt=until)
    newest = {
        (each["start"], each["type"]): each["revision"]
        for each in rows.values("start", "type").annotate(revision=Max("revision"))
    }
    digests = {}
    if newest:
        for each in rows.order_by("revision"):
            digests[each.start, each.type] = each.digest
    new = [
        BucketTotal(
            group=group,
            start=each.start,
            type=each.type,
            revision=newest.get((each.start, each.type), 0) + 1,
            count=each.count,
            digest=each.digest,
        )
        for each in totals
        if digests.get((each.start, each.type)) != each.digest
    ]
    BucketTotal.objects.using(using).bulk_create(new, batch_size=AT_ONCE)


def plan(row: Reconciliation, expected: Expected, late: Collection[int]) -> None:
    """Note what is to be stated next: what was closed, what came late, and where breaks are."""
    using, peer = expected.using, expected.peer
    now = milliseconds(database_now(using))
    until = min(row.closed, floor(max(0, now - peer.grace), peer.bucket))
    ranges = [(first, last) for first, last in joined(late, peer.bucket) if first < row.stated]
    if until > row.stated:
        note_all(row.group, row.stated, until, peer.bucket, using)
        row.stated = until
        row.save(using=using, update_fields=["stated"])
    ranges += joined(_broken(row.group, peer.bucket, using), peer.bucket)
    note(row.group, ranges, peer.bucket, using=using)


def note(
    group: str, ranges: Iterable[tuple[int, int]], width: int, *, type_: str = "", using: str
) -> None:
    """Note ranges that are to be stated; those that are noted already are not noted again."""
    rows = [
        ToState(group=group, since=first, until=last, width=width, type=type_)
        for first, last in ranges
        if first < last
    ]
    ToState.objects.using(using).bulk_create(rows, batch_size=AT_ONCE, ignore_conflicts=True)


def note_all(group: str, since: int, until: int, bucket: int, using: str) -> None:
    """Note a range, of what length soever: whole days and hours as such.

    Business totals are those of buckets: where there are any, so is all.
    """
    if measures.measures:
        note(group, [(since, until)], bucket, using=using)
        return
    for first, last, width in spans(since, until, bucket):
        note(group, [(first, last)], width, using=using)


def again(group: str, using: str, *, after: timedelta) -> int:
    """Let those ranges be stated again that have got no answer for so long; return how many."""
    rows = ToState.objects.using(using).filter(group=group, sent_at__lt=Now() - after)
    return rows.update(message_id=None, sent_at=None)


def _broken(group: str, width: int, using: str) -> Iterator[int]:
    rows = Break.objects.using(using).filter(group=group, state__in=UNRESOLVED)
    starts = rows.order_by("changed").values_list("start", flat=True)[:BREAKS_LOOKED_AT]
    for start in islice(starts, BREAKS_LOOKED_AT):
        yield floor(start, width)


def next_round(row: Reconciliation, moment: datetime, using: str) -> None:
    """Note when the next round is due."""
    row.next_at = moment
    row.save(using=using, update_fields=["next_at"])
