"""Parked messages: what they wait for, and what a person can do about them."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db import DEFAULT_DB_ALIAS
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from outbox.admin_support import html
from outbox.admin_support.actions import ActingAdmin
from outbox.admin_support.base import KeysetChangeList
from outbox.admin_support.envelopes import kind_in_list, name_tasks
from outbox.admin_support.filters import ColumnFilter, OpenFilter
from outbox.admin_support.html import Content
from outbox.admin_support.row_actions import RowAction, discard_and_restore
from outbox.extensions.message_pages import Panel
from outbox.extensions.pages import failure_link, flow_link
from outbox.models import Message
from relay.brokers.base import Status
from relay.conf import relay_settings
from relay.models import Parked
from relay.operations import OF_PARKED
from relay.parking.blocking import heads
from relay.reports.failures import REFUSED
from relay.reports.masking import error_of
from relay.states import OPEN, ParkedState


class ParkedStateFilter(OpenFilter):
    """By state; begins with what is still owed."""

    states = ParkedState.choices
    open_states = OPEN


class ParkedRelayFilter(ColumnFilter):
    """By relay; offers those that are configured."""

    title = _("relay")
    parameter_name = column = "relay"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in sorted(relay_settings())]


class ParkedReasonFilter(ColumnFilter):
    """By what the broker said."""

    title = _("reason")
    parameter_name = column = "reason"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        said = (
            Status.NACKED,
            Status.UNROUTABLE,
            Status.REFUSED,
            Status.FAILED,
            Status.HELD,
            Status.LATER,
        )
        return [(status.value, status.value) for status in said]


class ParkedChangeList(KeysetChangeList):
    """Adds what the waiting rows of a page wait behind, for all of them at once."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        found = heads(self.result_list, self.queryset.db)
        for row in self.result_list:
            vars(row)["shown_head"] = _head(found.get(row.pk), row, request)


@admin.register(Parked)
class ParkedAdmin(ActingAdmin):
    """Parked messages, newest first; nothing changes but through the actions.

    What waits shows what it waits behind now, not what that was refused for when both were parked.
    """

    row_actions = (
        RowAction(
            verb="requeue",
            title=_("Try again now"),
            look="primary",
            said=ngettext_lazy(
                "%(number)s %(noun)s is due now: the relay tries it with its next turn.",
                "%(number)s %(noun)s are due now: the relay tries them with its next turns.",
                "count",
            ),
        ),
        *discard_and_restore(
            _(
                "What is discarded is never published, and what waits behind it in the same key "
                "goes on. Restore takes it back, as long as the log keeps the message."
            )
        ),
    )
    operations = OF_PARKED
    action_name = "{}"
    example_fields = ("shown_type", "shown_state", "shown_key", "shown_error")
    list_display = (
        "shown_type",
        "shown_state",
        "shown_key",
        "shown_error",
        "attempts",
        "next_try",
        "since",
    )
    list_display_links = ("shown_type",)
    list_filter = (ParkedStateFilter, ParkedRelayFilter, ParkedReasonFilter)
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("shown_state", "reason"),
                    "error_in_full",
                    ("attempts", "next_try_exactly"),
                )
            },
        ),
        (_("Message"), {"fields": (("type", "topic", "key"), ("shown_message", "position"))}),
        (
            _("History"),
            {"fields": (("relay", "lane"), "since", ("settled", "settled_by"))},
        ),
    )

    def prepare(self, rows: Sequence[Any], using: str) -> None:
        name_tasks(((row.position, row) for row in rows), "pk", using)

    def why_left(self, action: RowAction, state: str) -> Content:
        if action.verb == "restore":
            if state == ParkedState.DISCARDED:
                return _("its message is no longer in the log")
            return _("nobody has discarded it")
        if state == ParkedState.WAITING:
            return _("it goes on by itself when the first of its key is settled")
        if state in OPEN:
            return _("nothing is before it any more, so it has its turn now")
        return _("that is settled")

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        # A column that says the same in every row takes the room of one that does not.
        return [*self.list_display, *(["relay"] if len(relay_settings()) > 1 else [])]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ParkedChangeList

    @admin.display(description=_("type"))
    def shown_type(self, parked: Parked) -> str:
        return kind_in_list(parked)

    @admin.display(description=_("key"), empty_value=html.DASH)
    def shown_key(self, parked: Parked) -> str:
        return html.ident(parked.key) if parked.key is not None else html.DASH

    @admin.display(description=_("state"))
    def shown_state(self, parked: Parked) -> str:
        return html.badge(parked.get_state_display(), parked.state)

    @admin.display(description=_("reason and error"))
    def shown_error(self, parked: Parked) -> Content:
        head: Content = vars(parked).get("shown_head", "")
        return head or html.line(f"{parked.reason}: {error_of(parked)}")

    @admin.display(description=_("error"))
    def error_in_full(self, parked: Parked) -> Content:
        return html.block(error_of(parked)) if parked.error else html.DASH

    @admin.display(description=_("message id"))
    def shown_message(self, parked: Parked) -> str:
        return html.code(parked.message_id)

    @admin.display(description=_("next attempt"))
    def next_try(self, parked: Parked) -> str:
        return html.until(parked.next_attempt_at)

    @admin.display(description=_("next attempt"))
    def next_try_exactly(self, parked: Parked) -> str:
        return html.stamp(parked.next_attempt_at)

    @admin.display(description=_("parked"))
    def since(self, parked: Parked) -> str:
        return html.stamp(parked.parked_at)

    @admin.display(description=_("settled"))
    def settled(self, parked: Parked) -> str:
        return html.stamp(parked.settled_at)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        parked = context["original"]
        panel = _head_panel(parked, request)
        context["panels"] = [] if panel is None else [panel]
        # It stays in the log.
        text = _("Look at the message")
        context["links"] = [
            html.search_link(request, Message, str(parked.message_id), text),
            flow_link(request, str(parked.message_id), _("Show the whole flow")),
            failure_link(request, "parked", parked.pk, _("Show what fails alike"))
            if parked.state in REFUSED
            else "",
        ]
        return super().render_change_form(request, context, *args, **kwargs)


def _head(head: Parked | None, row: Parked, request: HttpRequest) -> Content:
    """Return what a row waits behind, with a link to it; "" if it does not wait."""
    if head is None:
        return ""
    if head.pk == row.pk:
        return _("nothing is before it any more: try it again")
    link = html.detail_link(request, head, html.ident(head.message_id))
    start = Truncator(f"{head.reason}: {error_of(head)}").chars(html.HOVERED)
    text = format_html(str(_("behind {}, {}: {}")), link, head.get_state_display(), start)
    return format_html('<span class="outbox-line" title="{}">{}</span>', start, text)


def _head_panel(parked: Parked, request: HttpRequest) -> Panel | None:
    """Return what a waiting message waits behind now."""
    using = parked._state.db or DEFAULT_DB_ALIAS
    head = heads([parked], using).get(parked.pk)
    if head is None:
        return None
    if head.pk == parked.pk:
        return Panel(title=_("Waits behind"), empty=_head(head, parked, request))
    return Panel(
        title=_("Waits behind"),
        headings=(_("Message"), _("State"), _("Reason"), _("Error")),
        rows=[
            [
                html.detail_link(request, head, f"{head.type} {head.message_id}"),
                html.badge(head.get_state_display(), head.state),
                head.reason,
                html.line(error_of(head)),
            ]
        ],
    )
