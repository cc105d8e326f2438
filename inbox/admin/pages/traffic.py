"""What the inbox says about traffic: handlers with what they owe, groups, and their queues."""

from collections.abc import Iterator

from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from inbox.admin.pages import reading
from inbox.admin.pages.overview import groups_panel
from inbox.conf import broker_url
from inbox.handlers.registry import handlers
from inbox.models import Binding, Receipt
from inbox.reports.gauges import COUNTED, OTHERS, RECEIPTS
from inbox.sources.amqp.depths import Depth, read_depths
from inbox.states import OPEN
from outbox.admin_support import html
from outbox.admin_support.blocks import Panel
from outbox.admin_support.html import Content
from outbox.extensions.pages import Section, register_section
from outbox.nouns import grouped

PAGE = "traffic"
SHOWN = 100
"""Handlers that are shown; of more, those that owe most."""


def owed(request: HttpRequest, using: str) -> Iterator[Panel]:
    """Yield what each handler has not handled yet."""
    counts: dict[str, dict[str, int]] = {}
    for each in reading.readings(request, using):
        if each.gauge is RECEIPTS:
            handler, state = each.labels
            counts.setdefault(handler, {})[state] = int(each.value)
    most = sorted(counts, key=lambda name: (-sum(counts[name].values()), name))[:SHOWN]
    yield Panel(
        title=_("Handlers"),
        headings=(_("Handler"), _("Group"), _("Retrying"), _("Waiting"), _("Dead")),
        rows=[_handler(name, counts[name]) for name in most],
        empty=_("There are no handlers."),
        note=_("Counted among the newest %(count)s of each state.") % {"count": grouped(COUNTED)},
    )


def _handler(name: str, counts: dict[str, int]) -> list[Content]:
    known = handlers.get(name)
    shown: Content = _("not in the code any more") if name == OTHERS else html.name(name)
    return [
        shown,
        known.group if known else html.DASH,
        *(
            html.badge(grouped(count), state.value)
            if (count := counts.get(state.value, 0))
            else "0"
            for state in OPEN
        ),
    ]


def groups(request: HttpRequest, using: str) -> Iterator[Panel]:
    """Yield the groups of handlers, and when a consumer of each was there last."""
    yield groups_panel()


def queues(request: HttpRequest, using: str) -> Iterator[Panel]:
    """Yield what the broker says of the queue of each group."""
    names, url = sorted(handlers.groups()), broker_url()
    found = list(read_depths(url, names)) if url and names else []
    yield Panel(
        title=_("Queues"),
        headings=(_("Queue"), _("Group"), _("State"), _("Messages"), _("Consumers")),
        rows=[
            [
                html.line(each.queue),
                html.name(each.group),
                _state(each),
                html.DASH if each.missing or each.error else grouped(each.ready),
                html.DASH if each.missing or each.error else grouped(each.consumers),
            ]
            for each in found
        ],
        empty=_("There are none: handlers are called by the relay, or there are no handlers."),
        note=_("As the broker says now; what consumers have in hand is not counted.")
        if found
        else "",
    )


def _state(depth: Depth) -> Content:
    if depth.error:
        return html.line(depth.error)
    if depth.missing:
        return html.badge(_("missing"), "dead")
    if not depth.consumers:
        return html.badge(_("nobody consumes it"), "dead" if depth.ready else "pending")
    return html.badge(_("consumed"), "published")


def register() -> None:
    """Show these sections."""
    register_section(
        Section(
            page=PAGE,
            name="groups",
            title=gettext_lazy("Groups of handlers"),
            build=groups,
            models=[Binding],
            place=20,
            database=reading.receipts_database,
        )
    )
    register_section(
        Section(
            page=PAGE,
            name="handlers",
            title=gettext_lazy("Handlers"),
            build=owed,
            models=[Receipt],
            place=30,
            database=reading.receipts_database,
        )
    )
    register_section(
        Section(
            page=PAGE,
            name="queues",
            title=gettext_lazy("Queues"),
            build=queues,
            models=[Binding],
            place=25,
            every=15.0,
            limit=None,
            lazy=True,
        )
    )
