"""What happened in the last day or week, step by step: read from rows that exist, and bounded.

Of a step with many rows some are looked at, spread over all of it, and stand for the others.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from django.db.models import QuerySet

from outbox.database import instants
from outbox.database.by_time import first_keys
from outbox.models import Message

LOOKED_AT = 1_000
"""Rows of a period that are looked at, at most; of steps with few of them, all."""
_SPREAD = 2_654_435_761
"""Knuth's multiplier: places within equal parts that follow no rhythm of what is in them."""


@dataclass(frozen=True, slots=True)
class Period:
    """A length of time until now, in steps."""

    length: timedelta
    steps: int

    def edges(self, now: datetime) -> list[datetime]:
        """Return where the steps begin, and now."""
        step = self.length / self.steps
        return [now - self.length + step * n for n in range(self.steps)] + [now]


DAY = Period(timedelta(days=1), 24)
WEEK = Period(timedelta(days=7), 28)
PERIODS = (DAY, WEEK)


@dataclass(frozen=True, slots=True)
class Step:
    """A step of time with rows that were looked at; each stands for `share` of them."""

    start: datetime
    end: datetime
    rows: Sequence[tuple[Any, ...]]
    share: float

    @property
    def is_sample(self) -> bool:
        """Whether there are more rows than were looked at."""
        return self.share > 1

    def total(self, numbers: Iterable[float]) -> int:
        """Return the sum of a number of each row, for all rows of the step."""
        return round(sum(numbers) * self.share)


def history(
    queryset: QuerySet[Any], period: Period, columns: Sequence[str], *, time: Sequence[str]
) -> list[Step]:
    """Return the steps of a period with `columns` of their rows. Two statements.

    Primary keys have to follow the time, which is in the first of the columns `time` that is not
    null.
    """
    model, using = queryset.model, queryset.db
    edges = period.edges(instants.now())
    keys = first_keys(model, edges, time=time, using=using)
    most = allotted([end - first for first, end in pairwise(keys)], LOOKED_AT)
    chosen = [picked(*edge, count) for edge, count in zip(pairwise(keys), most, strict=True)]
    every = [key for some in chosen for key in some]
    found = queryset.filter(pk__in=every).values_list("pk", *columns)
    rows = {key: tuple(values) for key, *values in found}
    return [
        Step(start, end, [rows[key] for key in some if key in rows], _share(keys[n : n + 2], some))
        for n, ((start, end), some) in enumerate(zip(pairwise(edges), chosen, strict=True))
    ]


def allotted(counts: Sequence[int], most: int) -> list[int]:
    """Return how many of each are looked at: what small ones leave of their part, others get."""
    found = dict.fromkeys(range(len(counts)), 0)
    for left, number in enumerate(sorted(found, key=lambda n: counts[n])):
        found[number] = min(counts[number], most // (len(counts) - left))
        most -= found[number]
    return [found[number] for number in range(len(counts))]


def picked(first: int, end: int, most: int) -> Sequence[int]:
    """Return the keys from `first` to before `end`, or one of each of `most` equal parts."""
    count = end - first
    if count <= most:
        return range(first, end)
    return [first + n * count // most + n * _SPREAD % (count // most) for n in range(most)]


def _share(edges: Sequence[int], some: Sequence[int]) -> float:
    first, end = edges
    return (end - first) / len(some) if some else 1.0


def committed(using: str, period: Period) -> list[Step]:
    """Return the messages that were committed in each step."""
    return history(Message.objects.using(using), period, [], time=["time"])
