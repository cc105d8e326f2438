"""What flows where, as a table of numbers below its picture."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _

from outbox.admin.pages.flow import network
from outbox.admin.pages.flow.conversation import may_know
from outbox.admin_support import html
from outbox.admin_support.blocks import Panel, Picture
from outbox.admin_support.html import Content
from outbox.flow.layers import layered
from outbox.flow.loading import load_topology
from outbox.flow.topology import Topology, TypeNode, Use
from outbox.models import Message
from outbox.nouns import grouped

ROWS = 200
"""Rows of the table."""
LEADS = 8
"""Types in a row that a type leads to."""


def blocks(request: HttpRequest, using: str) -> Sequence[Any]:
    """Return the picture, the table, and where code and rows differ."""
    topology = load_topology(using, sees=may_know(request))
    if not topology.types:
        empty = _("No event type is registered, no handler declared, and no message was seen.")
        return [Panel(title=_("What flows where"), empty=empty)]
    layers = layered(topology)
    scope = _("Of the newest %(count)s events and receipts.")
    note = scope % {"count": grouped(topology.limit)}
    if layers.left:
        left = _("%(count)s types and arrows of little traffic are in the table alone.")
        left %= {"count": grouped(layers.left)}
        note = f"{note} {left}"
    picture = Picture(title=_("What flows where"), svg=network.draw(layers), note=note)
    return [picture, _table(request, topology), *_drift(topology)]


def _table(request: HttpRequest, topology: Topology) -> Panel:
    rows = [row for each in topology.types for row in _rows(request, each)]
    more = _("and %(count)s more") % {"count": grouped(len(rows) - ROWS)}
    return Panel(
        title=_("In numbers"),
        headings=[
            _("Type"),
            _("Emitted here"),
            _("Handler and group"),
            _("Received"),
            _("A second"),
            _("95 % within"),
            _("Dead"),
            _("Leads to"),
            _("Differs"),
        ],
        rows=rows[:ROWS],
        note=more if len(rows) > ROWS else "",
    )


def _rows(request: HttpRequest, each: TypeNode) -> Iterator[list[Content]]:
    name: Content = html.name(each.name)
    url = html.list_url(request, Message, type=each.name) if each.emitted else ""
    if url:
        name = format_html('<a href="{}">{}</a>', url, name)
    leads: Content = _leads(each)
    emitted = grouped(each.emitted) if each.emitted else ""
    if not each.uses:
        yield [name, emitted, *[""] * 5, leads, _differs(each, None)]
    for use in each.uses:
        yield [
            name,
            emitted,
            _handler(use),
            grouped(use.count),
            network.rate(use),
            html.span(use.p95) if use.p95 is not None else "",
            html.badge(grouped(use.failed), "dead") if use.failed else "",
            leads,
            _differs(each, use),
        ]
        leads = ""  # once for each type


def _leads(each: TypeNode) -> Content:
    """Return what a type leads to, the most frequent first."""
    causes = sorted(each.causes.items(), key=lambda cause: (-cause[1], cause[0]))
    line = '<span class="outbox-flow-leads">{} &times; {}</span>'
    found = format_html_join(
        " ", line, ((grouped(count), html.name(caused)) for caused, count in causes[:LEADS])
    )
    if len(causes) <= LEADS:
        return found
    return format_html("{} {}", found, _("and %(count)s more") % {"count": len(causes) - LEADS})


def _handler(use: Use) -> Content:
    name = html.name(use.handler)
    return html.above(name, use.group) if use.group is not None else name


def _differs(each: TypeNode, use: Use | None) -> Content:
    """Return what code and rows say differently, as badges."""
    found: list[Content] = []
    if not each.declared:
        found.append(html.badge(_("not declared"), "pending"))
    elif not each.seen:
        found.append(html.badge(_("not seen"), "skipped"))
    if use is not None and use.group is None:
        found.append(html.badge(_("not in the code"), "pending"))
    elif use is not None and not use.declared:
        found.append(html.badge(_("no longer for it"), "pending"))
    elif use is not None and not use.count and each.seen:
        found.append(html.badge(_("not seen"), "skipped"))
    return format_html_join(" ", "{}", ((badge,) for badge in found))


def _drift(topology: Topology) -> Iterator[Panel]:
    """Yield where code and rows differ, in words."""
    found = (
        (_("Seen and not declared"), topology.not_declared),
        (_("Declared and not seen"), topology.not_seen),
    )
    rows = [[title, ", ".join(words[:ROWS])] for title, words in found if words]
    if rows:
        yield Panel(
            title=_("Code and rows differ"), headings=(_("Difference"), _("What")), rows=rows
        )
