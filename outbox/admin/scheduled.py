"""The admin of scheduled messages: what waits for its time, and the way to stop it."""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext, ngettext_lazy

from outbox.admin_support import html
from outbox.admin_support.actions import ActingAdmin
from outbox.admin_support.envelopes import EnvelopeAdmin, TypeFilter
from outbox.admin_support.filters import ChoiceFilter
from outbox.admin_support.row_actions import Button, RowAction
from outbox.database.clock import database_now
from outbox.models import Scheduled
from outbox.operations import CANCEL, Operation


class DueFilter(ChoiceFilter):
    """Those that should be in the log already; the index of what is due finds them."""

    title = _("due")
    parameter_name = "due"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("late", _("by now"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Scheduled]) -> QuerySet[Scheduled]:
        if self.chosen is None:
            return queryset
        return queryset.filter(due_at__lte=database_now(queryset.db))


@admin.register(Scheduled)
class ScheduledAdmin(ActingAdmin, EnvelopeAdmin):
    """Scheduled messages, the latest emitted first; gone from here once they are due."""

    list_display = ("due", "shown_type", "shown_key", "happened", "listed_id")
    list_filter = (DueFilter, TypeFilter)
    row_actions = (
        RowAction(
            verb="cancel",
            title=_("Cancel"),
            look="danger",
            said=ngettext_lazy(
                "%(number)s %(noun)s is cancelled.", "%(number)s %(noun)s are cancelled.", "count"
            ),
            warning=_("What is cancelled is deleted, and never published. This cannot be undone."),
        ),
    )
    operations: ClassVar[Mapping[str, Operation]] = {"cancel": CANCEL}
    has_history = False
    example_fields = ("shown_type", "shown_key", "due", "listed_id")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("due", "happened"),
                    ("type", "version"),
                    ("topic", "key"),
                    "subject",
                )
            },
        ),
        (_("Data"), {"fields": ("shown_data", "shown_attributes")}),
        (
            _("Identity"),
            {
                "fields": (
                    "shown_message_id",
                    "shown_correlation",
                    "shown_causation",
                    "shown_origin",
                    "source",
                    "trace_parent",
                    "trace_state",
                )
            },
        ),
    )

    def tell_left(
        self, request: HttpRequest, action: RowAction, left: Collection[int], gone: int
    ) -> None:
        if late := len(left) + gone:
            text = ngettext(
                "%(count)d was due already and cannot be taken back.",
                "%(count)d were due already and cannot be taken back.",
                late,
            )
            self.message_user(request, text % {"count": late}, messages.WARNING)

    def buttons(self, request: HttpRequest, row: Any, *, back: str = "") -> list[Button]:
        # Not to its own page, which is gone by then.
        return super().buttons(request, row, back=back or self.list_url())

    @admin.display(description=_("due"))
    def due(self, scheduled: Scheduled) -> str:
        return html.stamp(scheduled.due_at)

    @admin.display(description=_("emitted"))
    def happened(self, message: Any) -> str:
        return super().happened(message)
