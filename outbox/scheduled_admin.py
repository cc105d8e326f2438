"""The admin of scheduled messages: what waits for its time, and the way to stop it."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import DELETION
from django.contrib.admin.views.main import ChangeList
from django.db import router, transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from outbox.admin_support import html
from outbox.admin_support.actions import may, write_down
from outbox.admin_support.base import KeysetChangeList
from outbox.admin_support.envelopes import EnvelopeAdmin, TypeFilter
from outbox.models import Scheduled


class ScheduledChangeList(KeysetChangeList):
    """Offers the actions that the user may take."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.show_admin_actions = True


@admin.register(Scheduled)
class ScheduledAdmin(EnvelopeAdmin):
    """Scheduled messages, the latest emitted first; gone from here once they are due."""

    list_display = ("due", "shown_type", "shown_key", "happened", "shown_message_id")
    list_filter = (TypeFilter,)
    search_fields = ("message_id", "key")
    search_help_text = _("Exact message id or key")
    actions = ("cancel_selected",)
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("due_exactly", "happened_exactly"),
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
                    "source",
                    "trace_parent",
                    "trace_state",
                )
            },
        ),
    )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ScheduledChangeList

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return may(request, Scheduled, "cancel")

    @admin.action(permissions=["cancel"], description=_("Cancel the selected messages"))
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[Scheduled]) -> None:
        """Take messages back that are not due yet; the admin's log says who did."""
        using = router.db_for_write(Scheduled)
        asked = len(request.POST.getlist("_selected_action"))
        waiting = Scheduled.objects.using(using).filter(pk__in=queryset.order_by().values("pk"))
        with transaction.atomic(using=using):
            # Waits for a delivery that is taking them; what it took is no longer among them.
            locked = waiting.select_for_update().order_by("pk")
            found = list(locked.only("pk", "type", "message_id"))
            Scheduled.objects.using(using).filter(pk__in=[each.pk for each in found]).delete()
            write_down(request, found, "Cancelled.", flag=DELETION)
        if count := len(found):
            text = ngettext("%(count)d message cancelled.", "%(count)d messages cancelled.", count)
            self.message_user(request, text % {"count": count}, messages.SUCCESS)
        if late := asked - count:
            text = ngettext(
                "%(count)d was due already and cannot be taken back.",
                "%(count)d were due already and cannot be taken back.",
                late,
            )
            self.message_user(request, text % {"count": late}, messages.WARNING)

    @admin.display(description=_("due"))
    def due(self, scheduled: Scheduled) -> str:
        return html.stamp(scheduled.due_at)

    @admin.display(description=_("due"))
    def due_exactly(self, scheduled: Scheduled) -> str:
        return html.stamp(scheduled.due_at, precise=True)

    @admin.display(description=_("emitted"))
    def happened(self, message: Any) -> str:
        return super().happened(message)

    @admin.display(description=_("emitted"))
    def happened_exactly(self, message: Any) -> str:
        return super().happened_exactly(message)
