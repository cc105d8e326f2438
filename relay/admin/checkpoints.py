"""Checkpoints, newest first: the audit trail of every page that was published."""

from typing import Any

from django.contrib import admin
from django.db import router
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import URLPattern, path
from django.utils.translation import gettext_lazy as _

from outbox.admin_support import html
from outbox.admin_support.base import ReadOnlyAdmin
from outbox.admin_support.filters import ChoiceFilter
from outbox.extensions.message_pages import Panel
from relay.admin import again
from relay.models import Checkpoint
from relay.reports.state import cursors


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
                    ("happened", "published_by"),
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

    def get_urls(self) -> list[URLPattern]:
        # Beside the records of what was published, whose permission it takes.
        view = self.admin_site.admin_view(again.view)
        found = path(
            "again/<int:position>/<path:relay>/", view, {"site": self.admin_site}, name=again.NAME
        )
        return [found, *super().get_urls()]

    @admin.display(description=_("checkpoint"))
    def number(self, checkpoint: Checkpoint) -> str:
        return f"#{checkpoint.pk}"

    @admin.display(description=_("created"))
    def happened(self, checkpoint: Checkpoint) -> str:
        return html.stamp(checkpoint.created)

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
