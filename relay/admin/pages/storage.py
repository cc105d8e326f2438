"""What the relay says about storage: who keeps the database from cleaning up."""

from collections.abc import Iterator
from datetime import timedelta

from django.db import connections
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from outbox.admin_support import html
from outbox.admin_support.blocks import Panel
from outbox.admin_support.html import Content
from outbox.extensions.pages import Section, register_section
from outbox.extensions.storage import register_tables
from relay.models import Checkpoint, Parked
from relay.reports import sessions

FROM = timedelta(seconds=1)
"""Age from which on a transaction is shown."""
LONG = timedelta(minutes=5)
"""Age from which on it is too old."""


def pins(request: HttpRequest, using: str) -> Iterator[Panel]:
    """Yield what holds the vacuum horizon back, the oldest first."""
    if connections[using].vendor != "postgresql":
        return
    rows = [
        *(_session(each) for each in sessions.pins(using, FROM)),
        *(_prepared(*each) for each in sessions.prepared(using, FROM)),
        *(_slot(*each) for each in sessions.idle_slots(using)),
    ]
    yield Panel(
        title=_("What keeps dead rows from being removed"),
        headings=(_("What"), _("For"), _("Who"), _("From"), _("Last query, without its values")),
        rows=rows,
        empty=_("Nothing does: no transaction is older than a second, and no slot is unread."),
        note=_("Five of each kind at most.") if rows else "",
    )


def _session(each: sessions.Session) -> list[Content]:
    length = timedelta(seconds=each.age)
    return [
        html.above(
            _("session %(pid)s, %(state)s") % {"pid": each.pid, "state": each.state or "?"},
            each.application or "",
        ),
        html.badge(html.span(length), "dead" if length > LONG else "pending"),
        html.line(each.user or html.DASH),
        each.address or _("a local socket"),
        html.line(each.query, "outbox-code"),
    ]


def _prepared(name: str, owner: str, age: float) -> list[Content]:
    length = timedelta(seconds=age)
    return [
        html.above(_("prepared transaction"), html.line(name)),
        html.badge(html.span(length), "dead" if length > LONG else "pending"),
        html.line(owner),
        html.DASH,
        html.DASH,
    ]


def _slot(name: str, kind: str, pins_rows: bool, wal: int | None) -> list[Content]:
    keeps = _("keeps %(size)s of WAL") % {"size": html.size(wal)} if wal is not None else ""
    return [
        html.above(_("replication slot that nobody reads"), html.line(f"{name} ({kind})")),
        html.badge(_("dead rows"), "dead") if pins_rows else html.badge(_("WAL only"), "pending"),
        html.DASH,
        html.DASH,
        keeps or html.DASH,
    ]


def register() -> None:
    """Show this section, and our tables."""
    register_tables(Checkpoint, Parked)
    register_section(
        Section(
            page="storage",
            name="pins",
            title=gettext_lazy("What keeps dead rows from being removed"),
            build=pins,
            models=[Checkpoint],
            place=30,
        )
    )
