"""Pages of a table of any size: found by primary key, never counted, never skipped over.

"Paging Through Results", Markus Winand, use-the-index-luke.com/no-offset.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from django.db.models import Model, Q, QuerySet

from outbox.filtering.qualifiers import Selection

SPAN = 100_000
"""Primary keys that one page looks at, if what it looks for has no index: a tenth of a second."""

SPARSE = 2_000
"""Rows that one page looks at in any case, if an index finds those among which it looks."""

_PLACE = re.compile(r"(before|after)-(\d{1,18})")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page stands: next to a primary key, which does not belong to it."""

    side: Literal["before", "after"]
    pk: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the place that `text` names, or None for the newest rows."""
        match = _PLACE.fullmatch(text)
        if match is None:
            return None
        return cls("before" if match[1] == "before" else "after", int(match[2]))

    def __str__(self) -> str:
        return f"{self.side}-{self.pk}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some rows, newest first, and the places of the pages next to it.

    `looked_to` is set if the page was left before it was full, and says how far it looked.
    """

    rows: list[Any]
    newer: Place | None = None
    older: Place | None = None
    looked_to: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Reads pages of `queryset`, whose rows can be found in the order of the primary key.

    `alternatives` are conditions of which one must hold, each with an index of its own.
    `unindexed` conditions are looked up row by row, within SPAN keys for one page; or, where the
    rows of `queryset` are `sparse` and an index finds them, as far as SPARSE of them reach.
    """

    queryset: QuerySet[Any]
    size: int
    alternatives: Sequence[Q] = ()
    unindexed: Sequence[Q] = field(default=())
    sparse: bool = False

    @classmethod
    def over(
        cls, queryset: QuerySet[Any], selection: Selection, size: int, *, also: Sequence[Q] = ()
    ) -> Self:
        """Return a reader of those rows that a filter selects, and that `also` holds for."""
        return cls(
            queryset=selection.narrow(queryset),
            size=size,
            alternatives=selection.alternatives,
            unindexed=[*selection.rows, *also],
            sparse=bool(selection.part),
        )

    def read(self, place: Place | None) -> Page:
        """Return the page at a place. At most three statements, and one for each alternative."""
        if self.alternatives:
            return self._page(self._union(place), place)
        if self.unindexed:
            return self._spanned(place)
        return self._page(self.queryset, place)

    def _page(self, queryset: QuerySet[Any], place: Place | None) -> Page:
        rows = list(_ordered(queryset, place)[: self.size + 1])
        more = len(rows) > self.size
        rows = rows[: self.size]
        if place is not None and place.side == "after":
            rows.reverse()
            return Page(
                rows=rows,
                newer=Place("after", rows[0].pk) if more else None,
                older=Place("before", rows[-1].pk if rows else place.pk + 1),
            )
        return Page(
            rows=rows,
            newer=_newer(rows, place),
            older=Place("before", rows[-1].pk) if more else None,
        )

    def _union(self, place: Place | None) -> QuerySet[Any]:
        """Return a queryset of the rows that any alternative has for this page.

        Each is asked apart, because the planner may answer an OR by walking the whole table.
        """
        found: set[int] = set()
        for alternative in self.alternatives:
            matching = _ordered(self.queryset.filter(alternative, *self.unindexed), place)
            found.update(matching.values_list("pk", flat=True)[: self.size + 1])
        return self.queryset.filter(pk__in=found)

    def _spanned(self, place: Place | None) -> Page:
        """Return what a page finds within SPAN keys, and the place where to look on."""
        upwards = place is not None and place.side == "after"
        start = place.pk if place else self._newest() + 1
        end = start + SPAN if upwards else max(0, start - SPAN)
        if self.sparse:
            far = _ordered(self.queryset, place).values_list("pk", flat=True)[SPARSE : SPARSE + 1]
            reached = next(iter(far), end)
            end = max(end, reached) if upwards else min(end, reached)
        if upwards:
            within, beyond = Q(pk__gt=start, pk__lte=end), Q(pk__gt=end)
        else:
            within, beyond = Q(pk__lt=start, pk__gte=end), Q(pk__lt=end)
        page = self._page(self.queryset.filter(within, *self.unindexed), place)
        full = page.newer if upwards else page.older
        if full is not None or not self.queryset.filter(beyond).exists():
            return page
        if upwards:
            return Page(rows=page.rows, newer=Place("after", end), older=page.older, looked_to=end)
        return Page(rows=page.rows, newer=page.newer, older=Place("before", end), looked_to=end)

    def _newest(self) -> int:
        newest: Model | None = self.queryset.only("pk").order_by("-pk").first()
        return newest.pk if newest is not None else 0


def _newer(rows: list[Any], place: Place | None) -> Place | None:
    if place is None:
        return None
    return Place("after", rows[0].pk if rows else place.pk - 1)


def _ordered(queryset: QuerySet[Any], place: Place | None) -> QuerySet[Any]:
    if place is None:
        return queryset.order_by("-pk")
    if place.side == "before":
        return queryset.filter(pk__lt=place.pk).order_by("-pk")
    return queryset.filter(pk__gt=place.pk).order_by("pk")
