"""What the relay says about traffic: lanes, processes, and who is connected to the database."""

from collections.abc import Iterator

from django.db import connections
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from outbox.admin_support import html
from outbox.admin_support.blocks import Panel
from outbox.database import instants
from outbox.extensions.pages import Section, register_section
from outbox.models import Message
from outbox.nouns import grouped
from relay.admin.pages import reading
from relay.models import Checkpoint, Parked
from relay.reports import sessions
from relay.reports.processes import LOOKED_AT, processes
from relay.reports.status import LaneStatus

PAGE = "traffic"
SHOWN = 100
"""Lanes that are shown; of more, those with the oldest pending messages."""
QUIET_SECONDS = 60.0
"""A process that has published nothing for longer than this may be gone, or have nothing to do."""


def lanes(request: HttpRequest, using: str) -> Iterator[Panel]:
    """Yield how far each relay is in each lane."""
    found = reading.statuses(request, using)
    shown = found
    if len(found) > SHOWN:
        shown = sorted(found, key=lambda each: -(each.oldest_pending or 0.0))[:SHOWN]
    note = _("The rate is that of the last minute.")
    if len(found) > SHOWN:
        note = _("Of %(count)s lanes, those with the oldest messages.") % {"count": len(found)}
    yield Panel(
        title=_("Lanes"),
        headings=(
            _("Relay"),
            _("Lane"),
            _("State"),
            _("Pending"),
            _("Oldest"),
            _("Per second"),
            _("Parked"),
            _("Last checkpoint"),
            _("By"),
        ),
        rows=[_lane(each) for each in shown],
        empty=_("No relay is in RELAYS, and none has ever run."),
        note=note,
    )


def _lane(each: LaneStatus) -> list[html.Content]:
    return [
        html.name(each.relay),
        str(each.lane),
        reading.state([each]),
        reading.pending([each]),
        reading.length(each.oldest_pending or 0.0),
        grouped(each.rate, 1),
        grouped(each.parked + each.waiting + each.dead),
        reading.age(each.last_checkpoint),
        html.line(each.published_by) if each.published_by else html.DASH,
    ]


def running(request: HttpRequest, using: str) -> Iterator[Panel]:
    """Yield which processes have published lately."""
    now = instants.now()
    rows: list[list[html.Content]] = []
    for each in processes(using):
        quiet = (now - each.last).total_seconds() > QUIET_SECONDS
        state, look = (_("quiet"), "skipped") if quiet else (_("published lately"), "published")
        rows.append(
            [
                html.line(each.host),
                each.pid,
                html.name(each.relay),
                html.badge(state, look),
                ", ".join(map(str, sorted(each.lanes))),
                grouped(each.count),
                html.stamp(each.first),
                html.stamp(each.last),
            ]
        )
    yield Panel(
        title=_("Processes that publish"),
        headings=(
            _("Host"),
            _("Process id"),
            _("Relay"),
            _("State"),
            _("Lanes"),
            _("Messages"),
            _("Since"),
            _("Last published"),
        ),
        rows=rows,
        empty=_("There are no checkpoints yet."),
        note=_("As the newest %(count)s checkpoints name them.") % {"count": grouped(LOOKED_AT)},
    )


def connected(request: HttpRequest, using: str) -> Iterator[Panel]:
    """Yield who is connected to the database, many sessions of one kind together."""
    if connections[using].vendor != "postgresql":
        return
    yield Panel(
        title=_("Connections to the database"),
        headings=(
            _("Application"),
            _("User"),
            _("From"),
            _("Part"),
            _("Sessions"),
            _("In a transaction"),
            _("Since"),
        ),
        rows=[
            [
                html.line(each.application or html.DASH),
                html.line(each.user or html.DASH),
                each.address or _("a local socket"),
                _("listens for messages, as relays do") if each.listens else "",
                grouped(each.count),
                grouped(each.busy),
                html.stamp(each.since),
            ]
            for each in sessions.connected(using)
        ],
        empty=_("The server tells nothing about other sessions."),
        note=_(
            "Without the role pg_read_all_stats the server tells little of the sessions of other "
            "users."
        ),
    )


def register() -> None:
    """Show these sections."""
    register_section(
        Section(
            page=PAGE,
            name="lanes",
            title=gettext_lazy("Lanes"),
            build=lanes,
            models=[Message, Checkpoint, Parked],
            place=10,
            every=5.0,
        )
    )
    register_section(
        Section(
            page=PAGE,
            name="processes",
            title=gettext_lazy("Processes that publish"),
            build=running,
            models=[Checkpoint],
            place=50,
        )
    )
    register_section(
        Section(
            page=PAGE,
            name="connections",
            title=gettext_lazy("Connections to the database"),
            build=connected,
            models=[Checkpoint],
            place=60,
        )
    )
