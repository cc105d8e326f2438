"""Parked messages: what they wait for, and what a person can do about them."""

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from outbox.admin_support import html
from outbox.admin_support.actions import may, write_down
from outbox.admin_support.base import ReadOnlyAdmin
from outbox.admin_support.extensions import Panel
from outbox.admin_support.filters import ColumnFilter
from outbox.models import Message
from relay import parking
from relay.brokers.base import Status
from relay.conf import relay_settings
from relay.models import Parked
from relay.parked import ParkedState

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


@admin.register(Parked)
class ParkedAdmin(ReadOnlyAdmin):
    """Parked messages, newest first; nothing changes but through the two actions."""

    actions = ("requeue", "discard")
    list_display = (
        "shown_state",
        "relay",
        "type",
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
        numbers = parking.requeue(queryset)
        count = len(numbers)
        write_down(request, Parked.objects.using(queryset.db).filter(pk__in=numbers), "Requeued")
        self.message_user(
            request,
            ngettext(
                "%(count)d message is tried again now; what is settled stays as it is.",
                "%(count)d messages are tried again now; what is settled stays as it is.",
                count,
            )
            % {"count": count},
            messages.SUCCESS if count else messages.WARNING,
        )

    @admin.action(
        permissions=["discard"], description=_("Discard: never publish, let the key go on")
    )
    def discard(self, request: HttpRequest, queryset: QuerySet[Parked]) -> None:
        numbers = parking.discard(queryset, by=request.user.get_username())
        count = len(numbers)
        write_down(request, Parked.objects.using(queryset.db).filter(pk__in=numbers), "Discarded")
        self.message_user(
            request,
            ngettext(
                "%(count)d message will never be published; what is settled stays as it is.",
                "%(count)d messages will never be published; what is settled stays as it is.",
                count,
            )
            % {"count": count},
            messages.SUCCESS if count else messages.WARNING,
        )

    def has_requeue_permission(self, request: HttpRequest) -> bool:
        return may(request, Parked, "requeue")

    def has_discard_permission(self, request: HttpRequest) -> bool:
        return may(request, Parked, "discard")

    def search_conditions(self, term: str) -> list[Q]:
        # Through the log, whose indexes find the position that ours are by.
        found = Message.objects.filter(Q(key=term) | _id_is(term)).order_by("-position")
        return [Q(position__in=list(found.values_list("position", flat=True)[:SEARCHED]))]

    @admin.display(description=_("state"))
    def shown_state(self, parked: Parked) -> str:
        return html.badge(parked.get_state_display(), parked.state)

    @admin.display(description=_("error"))
    def shown_error(self, parked: Parked) -> str:
        return Truncator(parked.error).chars(100)

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
        context["panels"] = [_message_panel(context["original"], request)]
        return super().render_change_form(request, context, *args, **kwargs)


def _message_panel(parked: Parked, request: HttpRequest) -> Panel:
    """Return a link to the message, which stays in the log."""
    link = html.search_link(request, Message, str(parked.message_id), _("Look at the message"))
    return Panel(title=_("In the outbox"), empty="", note=link)


def _id_is(term: str) -> Q:
    try:
        return Q(message_id=UUID(term))
    except ValueError:
        return Q(pk__in=())
