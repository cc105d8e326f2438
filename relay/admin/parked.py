"""Parked messages: what they wait for, and what a person can do about them."""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db import DEFAULT_DB_ALIAS
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from outbox.admin_support import html
from outbox.admin_support.actions import ActingAdmin, write_down
from outbox.admin_support.base import KeysetChangeList
from outbox.admin_support.envelopes import kind
from outbox.admin_support.extensions import Panel
from outbox.admin_support.filters import ColumnFilter
from outbox.admin_support.html import Content
from outbox.models import Message
from relay import parking
from relay.brokers.base import Status
from relay.conf import relay_settings
from relay.heads import heads
from relay.models import Parked
from relay.parked import OPEN, ParkedState

SEARCHED = 1_000
"""Messages of a key whose parked rows a search looks for, the newest first."""


class ParkedStateFilter(ColumnFilter):
    """By state."""

    title = _("state")
    parameter_name = column = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(ParkedState.choices)


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
        said = (Status.NACKED, Status.UNROUTABLE, Status.REFUSED, Status.FAILED, Status.HELD)
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
    """Parked messages, newest first; nothing changes but through the two actions.

    What waits shows what it waits behind now, not what that was refused for when both were parked.
    """

    actions = ("requeue", "discard")
    list_display = (
        "shown_state",
        "relay",
        "shown_type",
        "key",
        "reason",
        "attempts",
        "next_try",
        "shown_error",
        "since",
    )
    list_display_links = ("shown_state",)
    list_filter = (ParkedStateFilter, ParkedRelayFilter, ParkedReasonFilter)
    search_fields = ("message_id", "key")
    search_help_text = _("Exact message id or key")
    fieldsets = (
        (None, {"fields": (("shown_state", "reason"), "error", ("attempts", "next_try_exactly"))}),
        (_("Message"), {"fields": (("type", "topic", "key"), ("shown_message", "position"))}),
        (
            _("History"),
            {"fields": (("relay", "lane"), "since_exactly", ("settled_exactly", "settled_by"))},
        ),
    )

    @admin.action(permissions=["requeue"], description=_("Try again now"))
    def requeue(self, request: HttpRequest, queryset: QuerySet[Parked]) -> None:
        asked = list(queryset.values_list("pk", flat=True))
        numbers = parking.requeue(queryset)
        text = ngettext(
            "%(count)d message is tried again now.",
            "%(count)d messages are tried again now.",
            len(numbers),
        )
        self._done(request, queryset.db, asked, numbers, "Requeued", text)

    @admin.action(
        permissions=["discard"], description=_("Discard: never publish, let the key go on")
    )
    def discard(self, request: HttpRequest, queryset: QuerySet[Parked]) -> None:
        asked = list(queryset.values_list("pk", flat=True))
        numbers = parking.discard(queryset, by=request.user.get_username())
        text = ngettext(
            "%(count)d message will never be published.",
            "%(count)d messages will never be published.",
            len(numbers),
        )
        self._done(request, queryset.db, asked, numbers, "Discarded", text)

    def _done(
        self,
        request: HttpRequest,
        using: str,
        asked: Collection[int],
        numbers: Collection[int],
        what: str,
        text: str,
    ) -> None:
        """Write down what was done, and say what was and what was not."""
        rows = Parked.objects.using(using)
        write_down(request, rows.filter(pk__in=numbers), what)
        if numbers:
            self.message_user(request, text % {"count": len(numbers)}, messages.SUCCESS)
        self.tell_left(request, rows.all(), set(asked) - set(numbers), _why_left)

    def has_requeue_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "requeue")

    def has_discard_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "discard")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ParkedChangeList

    def search_conditions(self, term: str) -> list[Q]:
        # Through the log, whose indexes find the position that ours are by.
        found = Message.objects.filter(Q(key=term) | _id_is(term)).order_by("-position")
        return [Q(position__in=list(found.values_list("position", flat=True)[:SEARCHED]))]

    @admin.display(description=_("type"))
    def shown_type(self, parked: Parked) -> str:
        return kind(parked)

    @admin.display(description=_("state"))
    def shown_state(self, parked: Parked) -> str:
        return html.badge(parked.get_state_display(), parked.state)

    @admin.display(description=_("error"))
    def shown_error(self, parked: Parked) -> Content:
        head: Content = vars(parked).get("shown_head", "")
        return head or Truncator(parked.error).chars(100)

    @admin.display(description=_("message id"))
    def shown_message(self, parked: Parked) -> str:
        return html.code(parked.message_id)

    @admin.display(description=_("next attempt"))
    def next_try(self, parked: Parked) -> str:
        return html.stamp(parked.next_attempt_at)

    @admin.display(description=_("next attempt"))
    def next_try_exactly(self, parked: Parked) -> str:
        return html.stamp(parked.next_attempt_at, precise=True)

    @admin.display(description=_("parked"))
    def since(self, parked: Parked) -> str:
        return html.stamp(parked.parked_at)

    @admin.display(description=_("parked"))
    def since_exactly(self, parked: Parked) -> str:
        return html.stamp(parked.parked_at, precise=True)

    @admin.display(description=_("settled"))
    def settled_exactly(self, parked: Parked) -> str:
        return html.stamp(parked.settled_at, precise=True)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        parked = context["original"]
        panels = [_head_panel(parked, request), _message_panel(parked, request)]
        context["panels"] = [panel for panel in panels if panel is not None]
        return super().render_change_form(request, context, *args, **kwargs)


def _why_left(state: str) -> Content:
    if state == ParkedState.WAITING:
        return _("it goes on by itself when the first of its key is settled")
    if state in OPEN:
        return _("nothing is before it any more, so it has its turn now")
    return _("that is settled")


def _head(head: Parked | None, row: Parked, request: HttpRequest) -> Content:
    """Return what a row waits behind, with a link to it; "" if it does not wait."""
    if head is None:
        return ""
    if head.pk == row.pk:
        return _("nothing is before it any more: try it again")
    link = html.detail_link(request, head, f"{head.type} {head.message_id}")
    error = Truncator(f"{head.reason}: {head.error}").chars(100)
    text = _("behind {}, {}: {}")
    return format_html(str(text), link, head.get_state_display(), error)


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
                head.error,
            ]
        ],
    )


def _message_panel(parked: Parked, request: HttpRequest) -> Panel:
    """Return a link to the message, which stays in the log."""
    link = html.search_link(request, Message, str(parked.message_id), _("Look at the message"))
    return Panel(title=_("In the outbox"), empty="", note=link)


def _id_is(term: str) -> Q:
    try:
        return Q(message_id=UUID(term))
    except ValueError:
        return Q(pk__in=())
