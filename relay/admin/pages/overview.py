"""What the relay says on the overview: what it owes, how it is, what it has published."""

from collections.abc import Iterator
from itertools import groupby

from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from outbox.admin_support import charts, html
from outbox.admin_support.blocks import Figure, Figures, Look, Panel, Picture
from outbox.admin_support.charts import Series
from outbox.extensions.gauges import Reading
from outbox.extensions.pages import Section, failures_link, register_section
from outbox.models import Message
from outbox.nouns import grouped
from outbox.reports.history import DAY, PERIODS, Period, committed
from relay.admin.pages import reading
from relay.conf import relay_settings
from relay.models import Checkpoint, Parked
from relay.reports.gauges import OLDEST, PARKED, PENDING, readings
from relay.reports.status import COUNTED
from relay.reports.throughput import by_relay, published

STALLED_SECONDS = 300.0
"""Age of the oldest pending message from which on it is bad."""


def figures(request: HttpRequest, using: str) -> Iterator[Figures]:
    """Yield what is to be published: how old the oldest is, and what is parked."""
    found = list(readings(reading.statuses(request, using)))
    yield Figures(
        title=_("To be published"), figures=[_oldest(found, request), _parked(found, request)]
    )


def relays(request: HttpRequest, using: str) -> Iterator[Panel]:
    """Yield how each relay is, and when there was a sign of life of it last."""
    rows = []
    found = reading.statuses(request, using)
    for name, group in groupby(found, key=lambda status: status.relay):
        lanes = list(group)
        last = min(
            (each for each in lanes if each.last_checkpoint is not None),
            key=lambda each: each.last_checkpoint or 0.0,
            default=None,
        )
        rows.append(
            [
                html.name(name),
                reading.state(lanes),
                reading.pending(lanes),
                reading.length(reading.oldest(lanes)),
                grouped(sum(each.rate for each in lanes), 1),
                reading.age(last.last_checkpoint if last else None),
                html.line(last.published_by) if last else html.DASH,
            ]
        )
    yield Panel(
        title=_("Relays"),
        headings=(
            _("Relay"),
            _("State"),
            _("Pending"),
            _("Oldest"),
            _("Per second"),
            _("Last published"),
            _("By"),
        ),
        rows=rows,
        empty=_("No relay is in RELAYS, and none has ever run."),
        note=_("Messages per second are those of the last minute."),
    )


def throughput(request: HttpRequest, using: str) -> Iterator[Picture]:
    """Yield what was committed and published in the last day and week."""
    for period in PERIODS:
        yield _throughput(period, using)


def _throughput(period: Period, using: str) -> Picture:
    inside, outside = committed(using, period), published(using, period)
    series = [
        Series(
            label=_("Committed"),
            values=[float(step.total(1 for row in step.rows)) for step in inside],
            area=True,
        )
    ]
    for name, values in by_relay(outside, list(relay_settings())).items():
        label = _("Published by %(relay)s") % {"relay": name}
        series.append(Series(label=label, values=values))
    sampled = any(step.is_sample for step in (*inside, *outside))
    return charts.picture(
        title=_("Committed and published, last 24 hours, by the hour")
        if period is DAY
        else _("Committed and published, last 7 days, by 6 hours"),
        steps=[(step.start, step.end) for step in inside],
        series=series,
        shown=charts.count_shown,
        note=_("Estimated from a sample of the rows.") if sampled else "",
    )


def _oldest(found: list[Reading], request: HttpRequest) -> Figure:
    ages = {each.labels: each.value for each in found if each.gauge is OLDEST}
    counts = [each for each in found if each.gauge is PENDING]
    total = sum(min(int(each.value), COUNTED) for each in counts)
    more = any(each.value > COUNTED for each in counts)
    number = f"{grouped(total)}{'+' if more else ''}"
    worst = max(ages, key=lambda labels: ages[labels], default=None)
    seconds = ages[worst] if worst else 0.0
    relay = worst[0] if worst and total else next(iter(relay_settings()), "")
    note = ngettext("%(number)s message is pending", "%(number)s messages are pending", total)
    return Figure(
        label=_("Oldest pending"),
        value=reading.length(seconds) if total else _("nothing"),
        note=note % {"number": number},
        look=_look(seconds, reading.BEHIND_SECONDS, STALLED_SECONDS),
        url=html.list_url(request, Message, state=f"pending:{relay}") if relay else "",
    )


def _parked(found: list[Reading], request: HttpRequest) -> Figure:
    counts = dict.fromkeys(("parked", "waiting", "dead"), 0)
    for each in found:
        if each.gauge is PARKED:
            counts[each.labels[2]] += int(each.value)
    total = sum(counts.values())
    note = _("%(dead)s dead, %(waiting)s wait behind others of their key") % {
        "dead": grouped(counts["dead"]),
        "waiting": grouped(counts["waiting"]),
    }
    look: Look = "bad" if counts["dead"] else "open" if total else "well"
    return Figure(
        label=_("Parked"),
        value=html.many(total, COUNTED),
        note=failures_link(request, "parked", note)
        if total
        else _("no message is out of the flow"),
        look=look,
        url=html.list_url(request, Parked),
    )


def _look(value: float, late: float, bad: float) -> Look:
    return "bad" if value > bad else "open" if value > late else "well"


def register() -> None:
    """Show these sections on the overview."""
    register_section(
        Section(
            page="overview",
            name="relay-figures",
            title=gettext_lazy("To be published"),
            build=figures,
            models=[Message, Parked],
            place=10,
            narrow=True,
        )
    )
    register_section(
        Section(
            page="overview",
            name="relays",
            title=gettext_lazy("Relays"),
            build=relays,
            models=[Checkpoint],
            place=25,
        )
    )
    register_section(
        Section(
            page="overview",
            name="published",
            title=gettext_lazy("Committed and published"),
            build=throughput,
            models=[Message, Checkpoint],
            place=30,
            every=60.0,
        )
    )
