"""The admin of the relay: its checkpoints, and the state of messages on the outbox's pages."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib import admin
from django.db import router
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from outbox.admin_support import html
from outbox.admin_support.base import ReadOnlyAdmin
from outbox.admin_support.extensions import MessageExtension, Panel, extend_messages
from outbox.admin_support.filters import ChoiceFilter
from outbox.admin_support.html import Content
from outbox.models import Message
from relay.conf import relay_settings
from relay.models import Checkpoint
from relay.publications import Publication, publications
from relay.states import (
    State,
    cursors,
    few_pending,
    is_pending,
    published,
    relay_names,
    states,
)

FEW = 2_000
"""Pending messages that are looked up one by one; more of them are met soon enough by walking."""


class StateFilter(ChoiceFilter):
    """By state; for each relay, if there are several."""

    title = _("state")
    parameter_name = "state"
    _backlog: Q | None = None

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        self._cursors = cursors(router.db_for_read(Message))
        names = relay_names(self._cursors)
        offered = (State.PENDING, State.PUBLISHED)
        return [
            (f"{state.value}:{name}", state.label if len(names) == 1 else f"{name}: {state.label}")
            for name in names
            for state in offered
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Message]) -> QuerySet[Message]:
        state, _separator, relay = (self.chosen or "").partition(":")
        found = [cursor for cursor in self._cursors if cursor.relay == relay]
        if state == State.PUBLISHED:
            return published(queryset, relay, found)
        if state == State.PENDING:
            log = Message.objects.using(queryset.db).all()
            positions = few_pending(log, found, FEW)
            if positions is not None:
                return queryset.filter(pk__in=positions)
            self._backlog = is_pending(relay)
        return queryset

    def unindexed(self) -> Q | None:
        return self._backlog


class RelayExtension(MessageExtension):
    """Shows which relays have published a message, when, and with which checkpoint."""

    column = _("state")
    filters = (StateFilter,)

    def cells(self, messages: Sequence[Message], using: str) -> Mapping[int, Content]:
        relays = relay_names(cursors(using))
        found = states([message.pk for message in messages], relays, using)
        return {position: _badges(each) for position, each in found.items()}

    def panels(self, message: Message, request: HttpRequest) -> Sequence[Panel]:
        rows = [_row(each, request) for each in publications(message, list(relay_settings()))]
        return [
            Panel(
                title=_("Publication"),
                headings=(_("Relay"), _("State"), _("When"), _("By"), _("Took"), _("Checkpoint")),
                rows=rows,
                empty=_("No relay is configured, and none has ever run."),
            )
        ]


class ChainFilter(ChoiceFilter):
    """By a part of what names a chain; choices and bounds come from the chains' newest rows."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        self._cursors = cursors(router.db_for_read(Checkpoint))
        values = {str(getattr(cursor, self.column)): None for cursor in self._cursors}
        return [(value, value) for value in sorted(values, key=lambda v: (len(v), v))]

    @property
    def column(self) -> str:
        return str(self.parameter_name)

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Checkpoint]
    ) -> QuerySet[Checkpoint]:
        if self.chosen is None:
            return queryset
        chains = [each for each in self._cursors if str(getattr(each, self.column)) == self.chosen]
        # A chain that ended long ago is not looked for among all that came after it.
        newest = max(each.pk for each in chains)
        return queryset.filter(**{self.column: self.chosen}, pk__lte=newest)


class RelayFilter(ChainFilter):
    title = _("relay")
    parameter_name = "relay"


class LaneFilter(ChainFilter):
    title = _("lane")
    parameter_name = "lane"


@admin.register(Checkpoint)
class CheckpointAdmin(ReadOnlyAdmin):
    """Checkpoints, newest first: the audit trail of every page that was published."""

    list_display = (
        "number",
        "relay",
        "lane",
        "happened",
        "count",
        "took",
        "published_by",
        "complete",
    )
    list_filter = (RelayFilter, LaneFilter)
    list_defer = ("floor", "ceiling")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("relay", "lane"),
                    ("happened_exactly", "published_by"),
                    ("count", "took"),
                )
            },
        ),
        (
            _("Window"),
            {
                "fields": (
                    "shown_floor",
                    "shown_ceiling",
                    ("first_position", "position"),
                    ("complete", "window_count", "window_previous"),
                    ("window_start", "next_start"),
                    ("sequence", "transaction_id"),
                )
            },
        ),
        (_("Chain"), {"fields": (("id", "previous"), "system_identifier")}),
    )

    @admin.display(description=_("checkpoint"))
    def number(self, checkpoint: Checkpoint) -> str:
        return f"#{checkpoint.pk}"

    @admin.display(description=_("created"))
    def happened(self, checkpoint: Checkpoint) -> str:
        return html.stamp(checkpoint.created)

    @admin.display(description=_("created"))
    def happened_exactly(self, checkpoint: Checkpoint) -> str:
        return html.stamp(checkpoint.created, precise=True)

    @admin.display(description=_("duration"))
    def took(self, checkpoint: Checkpoint) -> str:
        return html.span(checkpoint.duration)

    @admin.display(description=_("floor"))
    def shown_floor(self, checkpoint: Checkpoint) -> str:
        return html.code(checkpoint.floor)

    @admin.display(description=_("ceiling"))
    def shown_ceiling(self, checkpoint: Checkpoint) -> str:
        return html.code(checkpoint.ceiling)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        context["panels"] = [_chain_panel(context["original"], request)]
        return super().render_change_form(request, context, *args, **kwargs)


def _chain_panel(checkpoint: Checkpoint, request: HttpRequest) -> Panel:
    """Return links to the checkpoints before and after one; the chain's index finds both."""
    chain = Checkpoint.objects.using(checkpoint._state.db).filter(
        relay=checkpoint.relay, lane=checkpoint.lane
    )
    around = [
        (_("before"), chain.filter(previous__lt=checkpoint.previous).order_by("-previous")),
        (_("after"), chain.filter(previous__gt=checkpoint.previous).order_by("previous")),
    ]
    return Panel(
        title=_("Neighbours in the chain"),
        headings=(_("Place"), _("Checkpoint"), _("Created"), _("Messages")),
        rows=[
            [
                place,
                html.detail_link(request, neighbour, f"#{neighbour.pk}"),
                html.stamp(neighbour.created),
                str(neighbour.count),
            ]
            for place, rows in around
            for neighbour in rows[:1]
        ],
        empty=_("This is the only checkpoint of its chain."),
    )


def _badges(found: Mapping[str, State]) -> SafeString:
    """Return one badge for each relay, which is named only if there are several."""
    badges = (
        html.badge(state.label if len(found) == 1 else f"{relay}: {state.label}", state.value)
        for relay, state in found.items()
    )
    return format_html_join(" ", "{}", ((badge,) for badge in badges))


def _row(found: Publication, request: HttpRequest) -> list[Content]:
    badge = html.badge(found.state.label, found.state.value)
    checkpoint = found.checkpoint
    if checkpoint is None:
        return [found.relay, badge, html.DASH, html.DASH, html.DASH, _why_none(found)]
    return [
        found.relay,
        badge,
        html.stamp(checkpoint.created, precise=True),
        checkpoint.published_by,
        html.span(checkpoint.duration),
        html.detail_link(request, checkpoint, f"#{checkpoint.pk}"),
    ]


def _why_none(found: Publication) -> Content:
    if found.before_move:
        return _("before the database was moved")
    return _("no longer kept") if found.state == State.PUBLISHED else html.DASH


extend_messages(RelayExtension())
