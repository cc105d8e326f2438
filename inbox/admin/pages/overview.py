"""What the inbox says on the overview: what is not handled, its groups, and how long it takes."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from inbox.admin.pages import reading
from inbox.admin.pages.reading import Group
from inbox.conf import local_relays
from inbox.models import Binding, DeadLetter, Receipt
from inbox.reports.gauges import COUNTED, LETTERS, OVERDUE, RECEIPTS
from inbox.reports.throughput import emitted, is_handled, percentile, received, seconds
from inbox.sources.bindings import READ_WITHIN
from inbox.states import State
from outbox.admin_support import charts, html
from outbox.admin_support.blocks import Figure, Figures, Panel, Picture
from outbox.admin_support.charts import Series
from outbox.admin_support.html import Content
from outbox.database import instants
from outbox.extensions.gauges import Reading
from outbox.extensions.pages import Section, failures_link, register_section
from outbox.nouns import grouped
from outbox.producer.writing import write_database
from outbox.reports.history import DAY, PERIODS, Period, Step

LATE_SECONDS = 60.0
"""How long what is due may lie there until somebody should look."""


def figures(request: HttpRequest, using: str) -> Iterator[Figures]:
    """Yield how many messages are tried again, or wait for a person."""
    found = reading.readings(request, using)
    counts: Counter[str] = Counter()
    for each in found:
        if each.gauge is RECEIPTS:
            counts[each.labels[1]] += int(each.value)
    shown = [_retrying(found, counts, request), _dead(counts, request)]
    if html.may_view(request, DeadLetter):
        shown.append(_letters(found, request))
    yield Figures(title=_("To be handled"), figures=shown)


def groups(request: HttpRequest, using: str) -> Iterator[Panel]:
    """Yield the groups of handlers, and when a consumer of each was there last."""
    yield groups_panel()


def throughput(request: HttpRequest, using: str) -> Iterator[Picture]:
    """Yield what came in and was handled in the last day and week, and how long that took."""
    for period in PERIODS:
        steps = received(using, period)
        yield _handled(steps, period)
        yield _time(steps, period)


def groups_panel() -> Panel:
    """Return a table of the groups."""
    return Panel(
        title=_("Groups of handlers"),
        headings=(_("Group"), _("State"), _("Handlers"), _("Queue"), _("Topics"), _("Last seen")),
        rows=[
            [
                html.name(each.name),
                _state(each),
                grouped(each.handlers),
                html.line(each.queue) if each.queue else html.DASH,
                grouped(each.topics) if each.queue else html.DASH,
                html.stamp(each.seen),
            ]
            for each in reading.groups()
        ],
        empty=_("There are no handlers."),
        note=_("Consumers note every 10 minutes that they are there."),
    )


def _state(group: Group) -> Content:
    if not group.handlers:
        return html.badge(_("no handlers here"), "skipped")
    if group.seen is None:
        if relays := ", ".join(local_relays()):
            text = _("by relay %(names)s") % {"names": relays}
            return html.badge(text, "published")
        return html.badge(_("never seen"), "pending")
    if instants.now() - group.seen > READ_WITHIN:
        return html.badge(_("not seen for long"), "dead")
    return html.badge(_("there"), "published")


def _retrying(found: list[Reading], counts: Counter[str], request: HttpRequest) -> Figure:
    late = next((each.value for each in found if each.gauge is OVERDUE), 0.0)
    count = counts[State.RETRYING]
    if late > LATE_SECONDS:
        note = _("the oldest is due for %(span)s") % {"span": html.span(timedelta(seconds=late))}
    else:
        waiting = html.many(counts[State.WAITING], COUNTED)
        note = _("tried again by themselves; %(count)s wait behind them") % {"count": waiting}
    return Figure(
        label=_("Retrying"),
        value=html.many(count, COUNTED),
        note=note if count else _("no message is tried again"),
        look="bad" if late > LATE_SECONDS else "open" if count else "well",
        url=html.list_url(request, Receipt, state=State.RETRYING.value),
    )


def _dead(counts: Counter[str], request: HttpRequest) -> Figure:
    count = counts[State.DEAD]
    return Figure(
        label=_("Dead"),
        value=html.many(count, COUNTED),
        note=failures_link(request, "receipts", _("wait for a person"))
        if count
        else _("no handler has given up"),
        look="bad" if count else "well",
        url=html.list_url(request, Receipt, state=State.DEAD.value),
    )


def _letters(found: list[Reading], request: HttpRequest) -> Figure:
    count = sum(int(each.value) for each in found if each.gauge is LETTERS)
    return Figure(
        label=_("Dead letters"),
        value=grouped(count),
        note=failures_link(request, "letters", _("no handler can use them"))
        if count
        else _("everything could be read"),
        look="bad" if count else "well",
        url=html.list_url(request, DeadLetter, state=State.DEAD.value),
    )


def _handled(steps: list[Step], period: Period) -> Picture:
    return charts.picture(
        title=_("Received and handled, last 24 hours, by the hour")
        if period is DAY
        else _("Received and handled, last 7 days, by 6 hours"),
        steps=[(step.start, step.end) for step in steps],
        series=[
            Series(
                label=_("Received"),
                values=[float(step.total(1 for row in step.rows)) for step in steps],
                area=True,
            ),
            Series(
                label=_("Handled"),
                values=[float(step.total(map(is_handled, step.rows))) for step in steps],
            ),
        ],
        shown=charts.count_shown,
        note=_note(
            _("By when a message came in first; one for each handler of it."),
            sampled=any(step.is_sample for step in steps),
        ),
    )


def _time(steps: list[Step], period: Period) -> Picture:
    times = emitted(steps, write_database())
    taken = [seconds(step, times) for step in steps]
    return charts.picture(
        title=_("From emitted to handled, last 24 hours")
        if period is DAY
        else _("From emitted to handled, last 7 days"),
        steps=[(step.start, step.end) for step in steps],
        series=[
            Series(label=_("half of them within"), values=[percentile(e, 0.5) for e in taken]),
            Series(label=_("95 % of them within"), values=[percentile(e, 0.95) for e in taken]),
        ],
        shown=charts.seconds_shown,
        top=charts.span_rounded_up,
        note=_note("", sampled=any(step.is_sample for step in steps)),
    )


def _note(text: str, *, sampled: bool) -> str:
    parts = [text, _("Estimated from a sample of the rows.") if sampled else ""]
    return " ".join(filter(None, parts))


def register() -> None:
    """Show these sections on the overview."""
    register_section(
        Section(
            page="overview",
            name="inbox-figures",
            title=gettext_lazy("To be handled"),
            build=figures,
            models=[Receipt],
            place=11,
            narrow=True,
            database=reading.receipts_database,
        )
    )
    register_section(
        Section(
            page="overview",
            name="groups",
            title=gettext_lazy("Groups of handlers"),
            build=groups,
            models=[Binding],
            place=26,
            database=reading.receipts_database,
        )
    )
    register_section(
        Section(
            page="overview",
            name="handled",
            title=gettext_lazy("Received and handled"),
            build=throughput,
            models=[Receipt],
            place=31,
            every=60.0,
            database=reading.receipts_database,
        )
    )
