"""The two sides of a break: what is known of the message here, and what the group has told."""

from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

from django.apps import apps
from django.http import HttpRequest
from django.utils.translation import gettext as _

from outbox.admin.pages.flow.conversation import may_know
from outbox.admin_support import html
from outbox.admin_support.blocks import Panel
from outbox.admin_support.html import Content
from outbox.extensions.flow import Mood, Question, Stage, reporters
from outbox.extensions.pages import flow_link
from outbox.flow.conf import flow_settings
from outbox.flow.loading import correlation_of
from outbox.flow.peers import Told, ask
from outbox.models import Break, Message, Reconciliation
from outbox.states import BreakKind

LIMIT = 1000
"""Receipts of a conversation that are read at most."""
STAGES = 50
"""Rows of a side."""
LOOKS = {Mood.DONE: "processed", Mood.OPEN: "pending", Mood.FAILED: "dead"}


def sides_panel(row: Break, request: HttpRequest) -> Sequence[Panel]:
    """Return what is known here of the message of a break, and what of it there.

    Services in FLOW["PEERS"] are asked, and have a second.
    """
    if row.kind == BreakKind.MEASURE:
        return [_totals(row)]
    using = row._state.db or "default"
    name = row.message_id
    answers = ask(flow_settings().peers, name)
    message = _message(row, using)
    may = may_know(request)
    stages = [each for each in _stages(row, message, using) if may(each.of)]
    told = answers()
    theirs = [
        stage
        for each in told
        if each.half is not None
        for stage in each.half.stages
        if stage.message_id == name and stage.group is not None and may(stage.of)
    ]
    here = [each for each in stages if each.group is None]
    there = [each for each in stages if each.group == row.group] + theirs
    correlation = name if message is None else message.correlation_id
    headings = (_("Who"), _("State"), _("When"), _("Error"))
    return [
        Panel(
            title=_("Here"),
            headings=headings,
            rows=[_log(row, message, request), *(_stage(each, request) for each in here[:STAGES])],
            note=flow_link(request, correlation, _("Show the whole flow")),
        ),
        Panel(
            title=_("There: group %(group)s") % {"group": row.group},
            headings=headings,
            rows=[_answer(row, using), *(_stage(each, request) for each in there[:STAGES])],
            note="; ".join(map(str, filter(None, map(_why_not, told)))),
        ),
    ]


def _totals(row: Break) -> Panel:
    """Return the business totals of both sides beside each other."""
    figures = row.figures or {}
    here, there = figures.get("here", {}), figures.get("there", {})
    return Panel(
        title=_("Business totals"),
        headings=(_("Of what"), _("Here"), _("There")),
        rows=[
            [label, here.get(label, html.DASH), there.get(label, html.DASH)]
            for label in sorted({*here, *there})
        ],
        note=_("The messages of this bucket are the same on both sides."),
    )


def _message(row: Break, using: str) -> Message | None:
    with suppress(ValueError):
        rows = Message.objects.using(using).filter(message_id=UUID(row.message_id))
        return rows.defer("data", "attributes").first()
    return None


def _stages(row: Break, message: Message | None, using: str) -> list[Stage]:
    """Return what relays and handlers of this service have made of the message."""
    correlation = (
        correlation_of(row.message_id, using) or row.message_id
        if message is None
        else message.correlation_id
    )
    question = Question(
        correlation_id=correlation,
        messages=[] if message is None else [message],
        causes=(),
        using=using,
        limit=LIMIT,
    )
    found = (each for reporter in reporters() for each in reporter.report(question).stages)
    return [each for each in found if each.message_id == row.message_id]


def _log(row: Break, message: Message | None, request: HttpRequest) -> Sequence[Content]:
    if message is None:
        return [_("the log"), html.badge(_("not there"), "dead"), html.DASH, html.DASH]
    link = html.detail_link(request, message, _("the log"))
    return [link, html.badge(_("emitted"), "published"), html.stamp(message.time), html.DASH]


def _answer(row: Break, using: str) -> Sequence[Content]:
    """Return what the group has told in its answers."""
    told = Reconciliation.objects.using(using).filter(group=row.group).first()
    at = told.answered_at if told is not None else None
    state = row.there
    if row.kind == BreakKind.MISSING:
        badge = html.badge(_("no receipt"), "dead")
    elif row.kind == BreakKind.TWICE:
        badge = html.badge(_("handled twice by a handler, under two sources"), "dead")
    else:
        over = row.kind == BreakKind.UNKNOWN
        badge = html.badge(_(state), "processed" if over else "pending")
    return [_("its last answer"), badge, html.stamp(at), html.DASH]


def _stage(stage: Stage, request: HttpRequest) -> Sequence[Content]:
    who: Content = stage.by
    if stage.peer:
        who = f"{stage.peer} ▸ {stage.by}"
    elif stage.row is not None:
        who = html.detail_link(request, apps.get_model(stage.of)(pk=stage.row), stage.by)
    error = html.line(" ".join(stage.error.split())) if stage.error else html.DASH
    return [who, html.badge(_(stage.state), LOOKS[stage.mood]), html.stamp(stage.at), error]


def _why_not(told: Told) -> str:
    if told.half is not None:
        return ""
    return _("%(peer)s did not tell: %(why)s") % {"peer": told.peer, "why": told.why}
