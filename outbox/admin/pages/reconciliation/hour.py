"""One hour: types, each with its buckets; and one bucket: types, and the breaks in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox.admin.pages.reconciliation.calendar import Cell, breaks_url, cell, link, messages
from outbox.admin.pages.reconciliation.marks import LABELS, LOOKS, MARKS
from outbox.admin.pages.reconciliation.place import Place
from outbox.admin_support import html
from outbox.admin_support.actions import row_buttons
from outbox.admin_support.blocks import Panel
from outbox.admin_support.html import Content
from outbox.models import Break, BucketTotal, Reconciliation
from outbox.nouns import grouped
from outbox.statements.buckets import HOUR, floor, moment
from outbox.statements.reading import Row, Step, grid
from outbox.states import BreakKind, BreakState

TYPES = 40
"""Types of an hour that are shown."""
BREAKS = 100
"""Breaks of a bucket that are shown."""
COLOURS = {
    BreakState.IN_TRANSIT: "pending",
    BreakState.OPEN: "dead",
    BreakState.REPAIRED: "processed",
    BreakState.ACCEPTED: "discarded",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A type of an hour, with its buckets."""

    type: Content
    messages: str
    breaks: Sequence[Content]
    cells: Sequence[Cell]
    revised: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """An hour by types and buckets, as its template takes it."""

    template: ClassVar[str] = "outbox/admin/reconciliation/hour.html"

    title: Content
    lines: Sequence[Line]
    legend: Sequence[tuple[Step, str, Content]]
    note: Content = ""


def hour_blocks(
    request: HttpRequest, place: Place, row: Reconciliation, width: int, using: str
) -> Sequence[Any]:
    """Return the types of an hour, each with its buckets."""
    assert place.hour is not None
    since = floor(place.hour, width)
    rows = grid(row, since, since + HOUR, width, using)
    left = len(rows) - TYPES
    more = ngettext("and %(count)s more", "and %(count)s more", left) % {"count": left}
    return [
        Hour(
            title=_("The hour from %(time)s") % {"time": _when(since)},
            lines=[_line(request, place, each) for each in rows[:TYPES]],
            legend=[(step, MARKS[step], LABELS[step]) for step in reversed(Step) if MARKS[step]],
            note=more if left > 0 else "",
        )
    ]


def _line(request: HttpRequest, place: Place, row: Row) -> Line:
    breaks: list[Content] = []
    for state in BreakState:
        if count := row.count(state):
            text = html.badge(f"{grouped(count)} {state.label}", COLOURS[state])
            url = breaks_url(request, place.group, type=row.type, state=state.value)
            breaks.append(link(url, text))
    number = ngettext("%(count)s revision", "%(count)s revisions", row.revisions)
    return Line(
        type=html.name(row.type),
        messages=messages(row.messages),
        revised=number % {"count": grouped(row.revisions)} if row.revisions else "",
        breaks=breaks,
        cells=[
            cell(each, _when(each.since), place.address(bucket=each.since)) for each in row.buckets
        ],
    )


def bucket_blocks(
    request: HttpRequest, place: Place, row: Reconciliation, width: int, using: str
) -> Sequence[Any]:
    """Return what was emitted in a bucket, and the breaks in it."""
    assert place.bucket is not None
    since = floor(place.bucket, width)
    rows = grid(row, since, since + width, width, using)
    totals = BucketTotal.objects.using(using).filter(group=row.group, start=since)
    newest = {each.type: each for each in totals.order_by("revision")}
    title = _("The bucket from %(time)s") % {"time": _when(since)}
    return [
        Panel(
            title=title,
            headings=(
                _("Type"),
                _("Stands"),
                _("Messages"),
                _("Revision"),
                _("Closed"),
                _("SHA-256 of the ids"),
            ),
            rows=[_type(each, newest.get(each.type)) for each in rows],
            empty=_("Nothing was emitted for the group then."),
        ),
        _breaks(request, place, since, width, using),
    ]


def _type(row: Row, total: BucketTotal | None) -> list[Content]:
    [span] = row.buckets
    badge = html.badge(f"{MARKS[span.step]} {LABELS[span.step]}", LOOKS[span.step])
    if total is None:
        return [html.name(row.type), badge, "0", html.DASH, html.DASH, html.DASH]
    return [
        html.name(row.type),
        badge,
        grouped(total.count),
        str(total.revision),
        html.stamp(total.made),
        html.ident(total.digest),
    ]


def _breaks(request: HttpRequest, place: Place, since: int, width: int, using: str) -> Panel:
    rows = Break.objects.using(using).filter(
        group=place.group, start__gte=since, start__lt=since + width
    )
    found = list(rows.order_by("start", "pk")[: BREAKS + 1])
    more = link(breaks_url(request, place.group), _("There are more: see all breaks."))
    return Panel(
        title=_("Breaks"),
        headings=(_("Kind"), _("State"), _("Type"), _("Message id"), _("There"), _("What to do")),
        rows=[
            [
                html.detail_link(request, each, BreakKind(each.kind).label),
                html.badge(BreakState(each.state).label, COLOURS[BreakState(each.state)]),
                html.name(each.type),
                html.code(each.message_id),
                _there(each),
                row_buttons(request, each) or html.DASH,
            ]
            for each in found[:BREAKS]
        ],
        empty=_("None."),
        note=more if len(found) > BREAKS else "",
    )


def _there(row: Break) -> Content:
    if row.figures:
        return "; ".join(f"{label} {number}" for label, number in row.figures["there"].items())
    state = row.there
    return _(state) if state else html.DASH


def _when(time: int) -> str:
    return f"{timezone.localtime(moment(time)):%Y-%m-%d %H:%M}"
