"""What pages read of statements: how spans of time stand with a group, and what is in a bucket."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from django.db.models import Count, F, QuerySet, Sum

from outbox.models import Break, BucketTotal, Reconciliation, ToState
from outbox.statements.buckets import MINUTE, floor
from outbox.states import BreakState

QUARTER = 15 * MINUTE
"""What is summed up by the database: no time zone divides it."""
MOST_REVISED = 5000
"""Totals with another revision that are looked at."""
MOST_RANGES = 1000
"""Ranges to be stated that are looked at."""
MOST_BREAKS = 20_000
"""Breaks of an hour that are looked at."""


class Step(StrEnum):
    """How a span of time stands, the worst last."""

    NOTHING = "nothing"
    """Nothing was emitted for the group."""
    RUNNING = "running"
    """It is not closed: somebody may add to it."""
    CLOSED = "closed"
    """It is closed, and not compared."""
    IN_STEP = "in_step"
    """The two sides say the same."""
    ACCEPTED = "accepted"
    """A difference in it was accepted."""
    IN_TRANSIT = "in_transit"
    """What differs may be under way."""
    BROKEN = "broken"
    """A break in it is open."""


@dataclass(slots=True)
class Span:
    """A span of time, in milliseconds, with what was emitted for a group and the breaks in it."""

    since: int
    until: int
    messages: int = 0
    breaks: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    step: Step = Step.NOTHING

    def settle(self, row: Reconciliation, unanswered: Iterable[tuple[int, int]]) -> None:
        """Find out how it stands."""
        if self.breaks[BreakState.OPEN]:
            self.step = Step.BROKEN
        elif self.breaks[BreakState.IN_TRANSIT]:
            self.step = Step.IN_TRANSIT
        elif row.closed < self.until:
            begun = self.messages or self.until > row.closed > self.since
            self.step = Step.RUNNING if begun else Step.NOTHING
        elif row.stated < self.until or any(
            first < self.until and last > self.since for first, last in unanswered
        ):
            self.step = Step.CLOSED if self.messages else Step.NOTHING
        elif self.breaks[BreakState.ACCEPTED]:
            self.step = Step.ACCEPTED
        elif self.messages or self.breaks[BreakState.REPAIRED]:
            self.step = Step.IN_STEP


def spans(row: Reconciliation, edges: Sequence[tuple[int, int]], using: str) -> list[Span]:
    """Return how spans stand that follow each other, each given by its two ends.

    A bucket belongs to where it begins.
    """
    found = [Span(since, until) for since, until in edges]
    if not found:
        return found
    starts = [each.since for each in found]
    first, last = starts[0], found[-1].until

    def at(time: int) -> Span:
        return found[max(0, bisect_right(starts, time) - 1)]

    for time, count in _messages(row.group, first, last, using).items():
        at(time).messages += count
    broken = _broken(row.group, first, last, using).annotate(time=F("start") - F("start") % QUARTER)
    counted = broken.values_list("time", "state").annotate(count=Count("pk"))
    for time, state, count in counted.order_by("time"):
        at(time).breaks[state] += count
    unanswered = _unanswered(row.group, first, last, using)
    for each in found:
        each.settle(row, [(since, until) for since, until, _ in unanswered])
    return found


def _messages(group: str, since: int, until: int, using: str) -> Mapping[int, int]:
    """Return how many messages were emitted in each quarter, as the last revisions say."""
    rows = _totals(group, since, until, using)
    counts: dict[int, int] = defaultdict(int)
    first = rows.filter(revision=1).annotate(time=F("start") - F("start") % QUARTER)
    for time, count in first.values_list("time").annotate(total=Sum("count")).order_by("time"):
        counts[time] = count
    later = rows.filter(revision__gt=1).order_by("revision")[:MOST_REVISED]
    newest = {(each.start, each.type): each.count for each in later}
    if newest:
        before = rows.filter(revision=1, start__in={start for start, _ in newest})
        old = {(each.start, each.type): each.count for each in before}
        for name, count in newest.items():
            counts[floor(name[0], QUARTER)] += count - old.get(name, 0)
    return counts


def _totals(group: str, since: int, until: int, using: str) -> QuerySet[BucketTotal]:
    rows = BucketTotal.objects.using(using)
    return rows.filter(group=group, start__gte=since, start__lt=until)


def _broken(group: str, since: int, until: int, using: str) -> QuerySet[Break]:
    rows = Break.objects.using(using)
    return rows.filter(group=group, start__gte=since, start__lt=until)


def _unanswered(group: str, since: int, until: int, using: str) -> list[tuple[int, int, str]]:
    rows = ToState.objects.using(using).filter(group=group, since__lt=until, until__gt=since)
    return list(rows.values_list("since", "until", "type")[:MOST_RANGES])


@dataclass(slots=True)
class Row:
    """Of a type, the buckets of a span, and how many revisions they have beyond the first."""

    type: str
    buckets: list[Span]
    revisions: int = 0

    @property
    def messages(self) -> int:
        """How many messages were emitted."""
        return sum(each.messages for each in self.buckets)

    def count(self, state: str) -> int:
        """Return how many breaks are in a state."""
        return sum(each.breaks[state] for each in self.buckets)


def grid(row: Reconciliation, since: int, until: int, width: int, using: str) -> list[Row]:
    """Return the buckets of a span by type, in the order of the types' names."""
    found: dict[str, Row] = {}

    def at(kind: str, time: int) -> Span:
        if kind not in found:
            starts = range(since, until, width)
            buckets = [Span(each, min(each + width, until)) for each in starts]
            found[kind] = Row(kind, buckets)
        return found[kind].buckets[(time - since) // width]

    totals = _totals(row.group, since, until, using).order_by("revision")
    for kind, start, revision, count in totals.values_list("type", "start", "revision", "count"):
        at(kind, start).messages = count
        found[kind].revisions += revision > 1
    broken = _broken(row.group, since, until, using).values_list("type", "start", "state")
    for kind, start, state in broken.order_by("pk")[:MOST_BREAKS]:
        at(kind, start).breaks[state] += 1
    unanswered = _unanswered(row.group, since, until, using)
    for each in found.values():
        mine = [(a, b) for a, b, kind in unanswered if kind in ("", each.type)]
        for bucket in each.buckets:
            bucket.settle(row, mine)
    return [found[kind] for kind in sorted(found)]
