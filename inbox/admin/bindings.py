"""The admin of bindings, to look at: what groups remember of their queues."""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from inbox.models import Binding
from outbox.admin_support import html
from outbox.admin_support.base import ReadOnlyAdmin


@admin.register(Binding)
class BindingAdmin(ReadOnlyAdmin):
    """Bindings, newest first; manage.py inbox_bindings is for what can be done about them."""

    list_display = ("group", "queue", "pattern", "shown_state", "since", "last_seen")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("group", "shown_state"),
                    ("queue", "exchange"),
                    "pattern",
                    ("shown_declared", "shown_unbound"),
                    ("last_seen", "shown_wanted"),
                    ("shown_missing", "lost"),
                )
            },
        ),
    )

    @admin.display(description=_("pattern"))
    def pattern(self, binding: Binding) -> str:
        return html.code(binding.topic)

    @admin.display(description=_("state"))
    def shown_state(self, binding: Binding) -> str:
        if binding.unbound is not None:
            return html.badge(_("unbound"), "discarded")
        if binding.declared is None:
            return html.badge(_("not declared"), "pending")
        return html.badge(_("bound"), "published")

    @admin.display(description=_("since"))
    def since(self, binding: Binding) -> str:
        return html.stamp(binding.unbound or binding.declared)

    @admin.display(description=_("seen"))
    def last_seen(self, binding: Binding) -> str:
        return html.stamp(binding.seen)

    @admin.display(description=_("declared"))
    def shown_declared(self, binding: Binding) -> str:
        return html.stamp(binding.declared)

    @admin.display(description=_("unbound"))
    def shown_unbound(self, binding: Binding) -> str:
        return html.stamp(binding.unbound)

    @admin.display(description=_("wanted"))
    def shown_wanted(self, binding: Binding) -> str:
        return html.stamp(binding.wanted)

    @admin.display(description=_("missing since"))
    def shown_missing(self, binding: Binding) -> str:
        return html.stamp(binding.missing_since)
