"""The admin of requests: what was asked, how it has ended, and the way to take it back."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet, prefetch_related_objects
from django.http import HttpRequest, HttpResponse
from django.utils.formats import localize
from django.utils.html import format_html
from django.utils.translation import gettext, ngettext, ngettext_lazy
from django.utils.translation import gettext_lazy as _

from outbox.admin_support import html, payload
from outbox.admin_support.actions import ActingAdmin
from outbox.admin_support.row_actions import RowAction
from outbox.extensions.message_pages import Panel
from outbox.extensions.pages import flow_link
from outbox.message.callbacks import CALLBACK_TYPE
from outbox.models import Message, Reply, Request
from outbox.operations import Operation
from outbox.replies.operations import CANCEL
from outbox.states import PENDING, Outcome
from outbox.webhooks.urls import shown

SHOWN = 100
"""Replies that the page of a request shows."""

LOOKS = {
    PENDING: "pending",
    Outcome.ANSWERED: "processed",
    Outcome.FAILED: "dead",
    Outcome.EXPIRED: "dead",
    Outcome.CANCELLED: "discarded",
}
"""The colours of states, by the states whose they are."""


@admin.register(Request)
class RequestAdmin(ActingAdmin):
    """Requests, the latest first."""

    list_display = ("asked", "shown_type", "shown_state", "until", "owner", "shown_id")
    list_display_links = ("shown_type",)
    row_actions = (
        RowAction(
            verb="cancel",
            title=_("Cancel"),
            look="danger",
            said=ngettext_lazy(
                "%(number)s %(noun)s is cancelled.", "%(number)s %(noun)s are cancelled.", "count"
            ),
            warning=_(
                "Whoever waits is told that it was cancelled. A handler that is at it is not "
                "stopped, and its answer changes nothing. This cannot be undone."
            ),
        ),
    )
    operations: ClassVar[Mapping[str, Operation]] = {"cancel": CANCEL}
    example_fields = ("shown_type", "asked", "until", "shown_id")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("shown_state", "reason"),
                    ("type", "version"),
                    ("asked", "until", "settled"),
                    ("owner", "wanted", "by"),
                    ("shown_progress", "said"),
                    "shown_message",
                )
            },
        ),
    )

    def prepare(self, rows: Sequence[Any], using: str) -> None:
        prefetch_related_objects(rows, "settlement")

    def can(self, row: Any, verb: str) -> bool:
        return state_of(row) == PENDING

    def open_to(self, rows: QuerySet[Any], action: RowAction) -> QuerySet[Any]:
        return rows.filter(settlement__isnull=True)

    def tell_left(
        self, request: HttpRequest, action: RowAction, left: Collection[int], gone: int
    ) -> None:
        if left:
            text = ngettext(
                "%(count)d had ended already, and is as it was.",
                "%(count)d had ended already, and are as they were.",
                len(left),
            )
            self.message_user(request, text % {"count": len(left)}, messages.WARNING)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        row = context["original"]
        context["panels"] = [replies_panel(row, request)]
        if row.callback_url:
            context["panels"].append(callback_panel(row, request))
        found: HttpResponse = super().render_change_form(request, context, *args, **kwargs)
        return found

    @admin.display(description=_("asked"))
    def asked(self, row: Request) -> str:
        return html.stamp(row.asked_at)

    @admin.display(description=_("deadline"))
    def until(self, row: Request) -> str:
        return html.until(row.deadline) if state_of(row) == PENDING else html.stamp(row.deadline)

    @admin.display(description=_("settled"))
    def settled(self, row: Request) -> str:
        return html.stamp(row.settlement.settled_at) if _ended(row) else html.DASH

    @admin.display(description=_("type"))
    def shown_type(self, row: Request) -> str:
        return html.name(row.type)

    @admin.display(description=_("state"))
    def shown_state(self, row: Request) -> str:
        state = state_of(row)
        title = _("pending") if state == PENDING else Outcome(state).label
        return html.badge(title, LOOKS[state])

    @admin.display(description=_("reason"))
    def reason(self, row: Request) -> str:
        return (row.settlement.reason if _ended(row) else "") or html.DASH

    @admin.display(description=_("settled by"))
    def by(self, row: Request) -> str:
        return (row.settlement.by if _ended(row) else "") or html.DASH

    @admin.display(description=_("progress"))
    def shown_progress(self, row: Request) -> str:
        return html.DASH if row.progress is None else percent(row.progress)

    @admin.display(description=_("said of it"))
    def said(self, row: Request) -> str:
        if row.progress_at is None:
            return html.DASH
        return format_html("{} {}", row.progress_text, html.stamp(row.progress_at))

    @admin.display(description=_("message id"))
    def shown_id(self, row: Request) -> str:
        return html.ident(row.message_id)

    @admin.display(description=_("message id"))
    def shown_message(self, row: Request) -> str:
        return html.code(row.message_id)


def percent(share: float) -> str:
    """Return a share in per cent, as the language writes it."""
    return gettext("%(number)s %%") % {"number": localize(int(share * 100))}


def state_of(row: Request) -> str:
    """Return how a request has ended, "pending" if it has not."""
    return row.settlement.outcome if _ended(row) else PENDING


def _ended(row: Request) -> bool:
    return hasattr(row, "settlement")


def replies_panel(row: Request, request: HttpRequest) -> Panel:
    """Return what came back on a request, and a way to its conversation."""
    replies = list(Reply.objects.using(row._state.db).filter(request=row).order_by("pk")[:SHOWN])
    asked = Message.objects.using(row._state.db).filter(message_id=row.message_id).first()
    link = flow_link(request, row.correlation_id, _("Show the whole flow"))
    if asked is not None:
        message = html.detail_link(request, asked, _("Show the message"))
        link = format_html("{} · {}", message, link)
    return Panel(
        title=_("Replies"),
        headings=(_("Counts as"), _("Type"), _("Source"), _("Received"), _("Data")),
        rows=[
            [
                _("late or second") if each.number is None else str(each.number),
                html.name(each.type),
                f"{each.source} {each.group}".rstrip(),
                html.stamp(each.received_at),
                payload.show_data(each.data, each.content_type),
            ]
            for each in replies
        ],
        empty=_("Nothing has come back."),
        note=link,
    )


def callback_panel(row: Request, request: HttpRequest) -> Panel:
    """Return where the end of a request is told, without its query, and the message that does."""
    sent = Message.objects.using(row._state.db).filter(
        correlation_id=row.correlation_id,
        type=CALLBACK_TYPE,
        subject=str(row.message_id),
    )
    return Panel(
        title=_("Callback"),
        headings=(_("Message"), _("Topic"), _("Written")),
        rows=[
            [
                html.detail_link(request, each, html.ident(each.message_id)),
                html.name(each.topic),
                html.stamp(each.time),
            ]
            for each in sent.order_by("position")[:SHOWN]
        ],
        empty=_("It is written when the request has ended."),
        note=html.code(shown(row.callback_url)),
    )
