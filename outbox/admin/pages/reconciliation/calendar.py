"""The calendar: days beside each other, hours below each other, each with how it stands."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import ClassVar

from django.db.models import Count
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox.admin.pages.reconciliation.marks import LABELS, MARKS
from outbox.admin.pages.reconciliation.place import Place
from outbox.admin_support import html
from outbox.admin_support.blocks import Figure, Figures, Panel
from outbox.admin_support.html import Content
from outbox.database import instants
from outbox.filtering.grammar import term
from outbox.models import Break, Reconciliation, ToState
from outbox.nouns import grouped
from outbox.statements import reading
from outbox.statements.buckets import milliseconds, moment
from outbox.statements.reading import Span, Step
from outbox.states import BreakKind, BreakState

DAYS = 8
"""Days of a calendar: a week, as long as messages are kept by default, and today."""
HOURS = range(24)
COUNTED = 1000
"""Ranges that are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A span of time: a mark, what it stands for, and the address of what is in it."""

    step: Step
    mark: str
    title: str
    count: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """Days and hours as their template takes them."""

    template: ClassVar[str] = "outbox/admin/reconciliation/calendar.html"

    title: Content
    days: Sequence[Content]
    rows: Sequence[tuple[str, Sequence[Cell | None]]]
    legend: Sequence[tuple[Step, str, Content]]
    older: str
    newer: str


def blocks(
    request: HttpRequest, place: Place, row: Reconciliation, using: str
) -> Sequence[Calendar | Figures | Panel]:
    """Return how far the group is compared, its calendar and its breaks."""
    return [
        _figures(request, row, using),
        calendar(place, row, using),
        _kinds(request, row, using),
    ]


def calendar(place: Place, row: Reconciliation, using: str) -> Calendar:
    """Return the calendar whose last day is that of the place."""
    today = timezone.localtime(instants.now()).date()
    last = min(place.day or today, today)
    days = [last - timedelta(days=back) for back in reversed(range(DAYS))]
    edges = [edge for day in days for edge in _hours(day)]
    whole = [edge for edge in edges if edge[0] < edge[1]]
    found = {span.since: span for span in reading.spans(row, whole, using)}
    columns = [[_cell(found.get(a), place) if a < b else None for a, b in _hours(d)] for d in days]
    following = last + timedelta(days=DAYS)
    return Calendar(
        title=_("Days and hours"),
        days=[date_format(day, "D j") for day in days],
        rows=[(f"{hour:02}", [column[hour] for column in columns]) for hour in HOURS],
        legend=[(step, MARKS[step], LABELS[step]) for step in reversed(Step) if MARKS[step]],
        older=place.address(day=days[0] - timedelta(days=1)),
        newer="" if last == today else place.address(day=None if following >= today else following),
    )


def _hours(day: date) -> list[tuple[int, int]]:
    """Return when the hours of a day begin and end; one that clocks leave out has no length."""
    zone = timezone.get_current_timezone()
    starts = [datetime(day.year, day.month, day.day, hour, tzinfo=zone) for hour in HOURS]
    after = day + timedelta(days=1)
    starts.append(datetime(after.year, after.month, after.day, tzinfo=zone))
    times = [milliseconds(each) for each in starts]
    return list(pairwise(times))


def _cell(span: Span | None, place: Place) -> Cell | None:
    if span is None:
        return None
    start = timezone.localtime(moment(span.since))
    return cell(span, f"{start:%Y-%m-%d %H:%M}", place.address(day=place.day, hour=span.since))


def cell(span: Span, when: str, url: str) -> Cell:
    """Return a span as it is shown, with a link if there is something in it."""
    is_there = bool(span.messages or any(span.breaks.values()))
    return Cell(
        step=span.step,
        mark=MARKS[span.step],
        title=f"{when}: {LABELS[span.step]}, {messages(span.messages)}",
        count=grouped(span.messages) if span.messages else "",
        url=url if is_there else "",
    )


def messages(count: int) -> str:
    """Return a number of messages in words."""
    text = ngettext("%(count)s message", "%(count)s messages", count)
    return text % {"count": grouped(count)}


def _figures(request: HttpRequest, row: Reconciliation, using: str) -> Figures:
    waiting = ToState.objects.using(using).filter(group=row.group)
    count = waiting[: COUNTED + 1].count()
    is_open = Break.objects.using(using).filter(group=row.group, state=BreakState.OPEN)
    open_count = is_open[: COUNTED + 1].count()
    answered = _("never") if row.answered_at is None else html.age(row.answered_at)
    return Figures(
        title=_("Group %(group)s") % {"group": row.group},
        figures=[
            Figure(
                label=_("Open breaks"),
                value=html.many(open_count, COUNTED),
                look="bad" if open_count else "well",
                url=breaks_url(request, row.group, state=BreakState.OPEN.value),
            ),
            Figure(label=_("Compared until"), value=html.stamp(moment(row.stated))),
            Figure(label=_("Closed until"), value=html.stamp(moment(row.closed))),
            Figure(
                label=_("Answered"),
                value=answered,
                note=html.stamp(row.answered_at),
                look="bad" if row.answered_at is None else "quiet",
            ),
            Figure(label=_("Ranges not answered"), value=html.many(count, COUNTED)),
        ],
    )


def _kinds(request: HttpRequest, row: Reconciliation, using: str) -> Panel:
    """Return how many breaks there are of which kind and state."""
    rows = Break.objects.using(using).filter(group=row.group)
    counts = {
        (kind, state): count
        for kind, state, count in rows.values_list("kind", "state").annotate(count=Count("pk"))
    }
    return Panel(
        title=_("Breaks"),
        headings=(_("Kind"), *(state.label for state in BreakState)),
        rows=[
            [
                kind.label,
                *(_number(request, row.group, kind, state, counts) for state in BreakState),
            ]
            for kind in BreakKind
        ],
        note=_("What is missing there can be repaired; what is settled otherwise, accepted."),
    )


def _number(
    request: HttpRequest,
    group: str,
    kind: BreakKind,
    state: BreakState,
    counts: dict[tuple[str, str], int],
) -> Content:
    count = counts.get((kind.value, state.value), 0)
    if not count:
        return "0"
    return link(breaks_url(request, group, kind=kind.value, state=state.value), grouped(count))


def link(url: str, text: Content) -> Content:
    """Return a link, or just the text without an address."""
    return format_html('<a href="{}">{}</a>', url, text) if url else text


def breaks_url(request: HttpRequest, group: str, **about: str) -> str:
    """Return the address of the list of breaks with a group; "" if the user may not see it."""
    terms = [term(name, value) for name, value in {"group": group, **about}.items()]
    return html.list_url(request, Break, q=" ".join(terms))
