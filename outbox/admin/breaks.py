"""The admin of breaks: what this service and a group do not say the same of."""

from collections.abc import Collection
from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from outbox.admin.two_sides import sides_panel
from outbox.admin_support import html
from outbox.admin_support.actions import ActingAdmin
from outbox.admin_support.html import Content
from outbox.admin_support.row_actions import RowAction
from outbox.exceptions import OutboxError
from outbox.models import Break
from outbox.statements.buckets import moment
from outbox.statements.operations import OF_BREAKS
from outbox.states import BreakKind, BreakState

LOOKS = {
    BreakState.IN_TRANSIT: "pending",
    BreakState.OPEN: "dead",
    BreakState.REPAIRED: "processed",
    BreakState.ACCEPTED: "discarded",
}
"""The colours of states, by the states whose they are."""


@admin.register(Break)
class BreakAdmin(ActingAdmin):
    """Breaks, the latest first."""

    list_display = ("shown_kind", "group", "shown_type", "shown_state", "at", "since", "shown_id")
    list_display_links = ("shown_kind",)
    operations = OF_BREAKS
    row_actions = (
        RowAction(
            verb="repair",
            title=_("Repair"),
            look="primary",
            said=ngettext_lazy(
                "The message of %(number)s %(noun)s is published again, to this group alone. It "
                "stays open until the group says that it has it.",
                "The messages of %(number)s %(noun)s are published again, to their groups alone. "
                "They stay open until the groups say that they have them.",
                "count",
            ),
            warning=_(
                "The same messages go out again, to the queue of this group and to no other. What "
                "it has had all the same it drops."
            ),
            reasoned=True,
        ),
        RowAction(
            verb="accept",
            title=_("Accept"),
            look="danger",
            said=ngettext_lazy(
                "%(number)s %(noun)s is accepted.", "%(number)s %(noun)s are accepted.", "count"
            ),
            warning=_(
                "Nothing is mended by it, and nobody is told of it any more. This cannot be undone."
            ),
            reasoned=True,
        ),
    )
    example_fields = ("shown_kind", "group", "shown_type", "shown_state", "shown_id")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("shown_state", "shown_kind"),
                    ("group", "type"),
                    ("at", "since", "last"),
                    ("again", "by"),
                    "shown_reason",
                    "shown_message",
                )
            },
        ),
    )

    def do(
        self, request: HttpRequest, action: RowAction, numbers: Collection[int]
    ) -> Collection[int]:
        try:
            return super().do(request, action, numbers)
        except OutboxError as exc:
            text = _("It was not published again: %(why)s") % {"why": exc}
            self.message_user(request, text, messages.ERROR)
            return ()

    def can(self, row: Any, verb: str) -> bool:
        mends = verb != "repair" or row.kind == BreakKind.MISSING
        return mends and super().can(row, verb)

    def why_left(self, action: RowAction, state: str) -> Content:
        if state == BreakState.OPEN and action.verb == "repair":
            return _("only what is missing there is published again, and not twice within a minute")
        if state == BreakState.OPEN:
            return _("an answer of the group is changing it; try again")
        return _("It is %(state)s.") % {"state": BreakState(state).label}

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        context["panels"] = sides_panel(context["original"], request)
        found: HttpResponse = super().render_change_form(request, context, *args, **kwargs)
        return found

    @admin.display(description=_("kind"))
    def shown_kind(self, row: Break) -> Content:
        return BreakKind(row.kind).label

    @admin.display(description=_("type"))
    def shown_type(self, row: Break) -> str:
        return html.name(row.type)

    @admin.display(description=_("state"))
    def shown_state(self, row: Break) -> str:
        return badge(row)

    @admin.display(description=_("time of the id"))
    def at(self, row: Break) -> str:
        return html.stamp(moment(row.start))

    @admin.display(description=_("found"))
    def since(self, row: Break) -> str:
        return html.stamp(row.found)

    @admin.display(description=_("changed"))
    def last(self, row: Break) -> str:
        return html.stamp(row.changed)

    @admin.display(description=_("published again"))
    def again(self, row: Break) -> str:
        return html.DASH if row.replayed_at is None else html.stamp(row.replayed_at)

    @admin.display(description=_("reason"))
    def shown_reason(self, row: Break) -> str:
        return row.reason or html.DASH

    @admin.display(description=_("message id"))
    def shown_id(self, row: Break) -> str:
        return html.ident(row.message_id)

    @admin.display(description=_("message id"))
    def shown_message(self, row: Break) -> str:
        return html.code(row.message_id)


def badge(row: Break) -> str:
    """Return the state of a break in its colour."""
    state = BreakState(row.state)
    return html.badge(state.label, LOOKS[state])
