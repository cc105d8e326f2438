"""The admin of acknowledgements: which groups have settled what, and what to do about others."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from outbox.acknowledging.operations import OF_ACKNOWLEDGEMENTS
from outbox.admin_support import html
from outbox.admin_support.actions import ActingAdmin
from outbox.admin_support.html import Content
from outbox.admin_support.row_actions import RowAction
from outbox.extensions.message_pages import Panel
from outbox.models import Acknowledgement, Message
from outbox.states import Acknowledged, Hold

LOOKS = {
    Acknowledged.AWAITED: "pending",
    Acknowledged.HANDLED: "processed",
    Acknowledged.SKIPPED: "skipped",
    Acknowledged.DEAD: "dead",
    Acknowledged.MISSING: "dead",
    Acknowledged.GIVEN_UP: "discarded",
}
"""The colours of states, by the states whose they are."""


@admin.register(Acknowledgement)
class AcknowledgementAdmin(ActingAdmin):
    """Acknowledgements, the latest first."""

    list_display = ("shown_type", "group", "shown_state", "sent", "told", "resends", "shown_id")
    list_display_links = ("shown_type",)
    operations = OF_ACKNOWLEDGEMENTS
    row_actions = (
        RowAction(
            verb="resend",
            title=_("Send again"),
            look="primary",
            said=ngettext_lazy(
                "%(number)s %(noun)s is awaited: the message is sent again.",
                "%(number)s %(noun)s are awaited: the messages are sent again.",
                "count",
            ),
        ),
        RowAction(
            verb="give_up",
            title=_("Give up"),
            look="danger",
            said=ngettext_lazy(
                "%(number)s %(noun)s is given up.", "%(number)s %(noun)s are given up.", "count"
            ),
            warning=_(
                "Nothing is sent again. What the group tells later is noted all the same, and "
                "“Send again” takes it back."
            ),
        ),
    )
    example_fields = ("shown_type", "group", "shown_state", "shown_id")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("shown_state", "group"),
                    "type",
                    ("sent", "told", "told_by"),
                    ("next", "shown_hold"),
                    ("resends", "most"),
                    "shown_message",
                )
            },
        ),
    )

    def why_left(self, action: RowAction, state: str) -> Content:
        return _("It is %(state)s.") % {"state": Acknowledged(state).label}

    @admin.display(description=_("type"))
    def shown_type(self, row: Acknowledgement) -> str:
        return html.name(row.type)

    @admin.display(description=_("state"))
    def shown_state(self, row: Acknowledgement) -> str:
        return badge(row)

    @admin.display(description=_("sent"))
    def sent(self, row: Acknowledgement) -> str:
        return html.stamp(row.sent_at)

    @admin.display(description=_("told"))
    def told(self, row: Acknowledgement) -> str:
        return html.DASH if row.told_at is None else html.stamp(row.told_at)

    @admin.display(description=_("due"))
    def next(self, row: Acknowledgement) -> str:
        return html.DASH if row.due_at is None else html.until(row.due_at)

    @admin.display(description=_("why not sent again"), empty_value=html.DASH)
    def shown_hold(self, row: Acknowledgement) -> Any:
        return Hold(row.hold).label if row.hold else html.DASH

    @admin.display(description=_("message id"))
    def shown_id(self, row: Acknowledgement) -> str:
        return html.ident(row.message_id)

    @admin.display(description=_("message id"))
    def shown_message(self, row: Acknowledgement) -> str:
        return html.code(row.message_id)


def badge(row: Acknowledgement) -> str:
    """Return the state of an acknowledgement in its colour."""
    state = Acknowledged(row.state)
    return html.badge(state.label, LOOKS[state])


def acknowledgements_panel(message: Message, request: HttpRequest) -> Sequence[Panel]:
    """Return how a message stands with the groups that are to acknowledge it, if any are.

    Nothing for who may not view acknowledgements.
    """
    if not request.user.has_perm("django_outbox.view_acknowledgement"):
        return ()
    rows = Acknowledgement.objects.using(message._state.db).filter(message_id=message.message_id)
    return [
        Panel(
            title=_("Acknowledgements"),
            headings=(_("Group"), _("State"), _("Sent"), _("Told"), _("Sent again"), _("Held")),
            rows=[
                [
                    html.detail_link(request, row, row.group),
                    badge(row),
                    html.stamp(row.sent_at),
                    html.DASH if row.told_at is None else html.stamp(row.told_at),
                    str(row.resends),
                    Hold(row.hold).label if row.hold else html.DASH,
                ]
                for row in rows.order_by("group")
            ],
            empty=_("They are not kept any more."),
        )
    ]
